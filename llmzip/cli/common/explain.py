"""`--explain`: where the bits went."""

from __future__ import annotations

from llmzip.codec.ledger import Ledger


def table(ledger: Ledger) -> str:
    """A table of where the bits of the coded blocks went."""

    def line(what: str, size: float, of: float = 0.0) -> str:
        return f"{what:<34}{size:>14,.1f}" + (f"{100 * size / of:>+9.2f}%" if of else "")

    frozen, corrected, biased, voted = (bits / 8 for bits in (ledger.frozen, ledger.corrected, ledger.biased, ledger.voted))
    rows = [
        f"{'of ' + format(ledger.content, ',') + ' bytes, ' + format(ledger.symbols, ',') + ' symbols':<34}{'bytes':>14}",
        line("frozen model", frozen),
        *([line("learned: corrections of matrices", corrected - frozen, frozen)] if corrected != frozen else []),
        line("learned: vocabulary biases", biased - corrected, frozen),
        line("learned: votes of neighbours", voted - biased, frozen),
        line("range coder and ends of lanes", ledger.stream - voted, frozen),
        line("container, blocks not coded", ledger.archive - ledger.stream, frozen),
        line("archive", ledger.archive),
    ]
    return "\n".join(rows)
