"""Numbers and sentences about an inspection, for terminal and page."""

from __future__ import annotations

from llmzip.inspection.display_text import printable
from llmzip.inspection.result import Band, Inspection


def percent(share: float) -> str:
    """A share as a percentage, to two or three digits."""
    p = 100 * share
    if p and p < 0.01:
        return "<0.01%"
    return f"{p:.0f}%" if p >= 99.95 else f"{p:.1f}%" if p >= 1 else f"{p:.2f}%"


def band(b: Band) -> str:
    """The range of bits of a band."""
    return f"{b.low:g}+" if b.high is None else f"{b.low:g}\u2013{b.high:g}"


def bits_per_byte(size: int, content: int) -> str:
    """Bits of `size` bytes for each of `content` bytes."""
    return f"{8 * size / content:.4f}" if content else "-"


def plural(n: int, what: str) -> str:
    """A number and a noun."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def about(inspection: Inspection, whole: int | None) -> str:
    """What was inspected, and how. `whole` is the size of the file in bytes; None if the input continues for an unknown length."""
    size = len(inspection.content)
    of = plural(size, "byte") if size == whole else f"the first {plural(size, 'byte')}"
    if whole is not None and whole != size:
        of = f"the first {size:,} of {whole:,} bytes"
    if not len(inspection):
        return of
    lanes = sum(inspection.lanes)
    return f"{of}, {plural(len(inspection), 'token')}; {inspection.model}, level {inspection.level}, {plural(lanes, 'lane')}"


def account(inspection: Inspection) -> list[str]:
    """How the tokens' bits relate to the archive's bytes."""
    if not len(inspection):
        return []
    tokens, archive = inspection.total / 8, inspection.archive
    each = inspection.total / len(inspection)
    lines = [f"The tokens take {tokens:,.1f} bytes, {each:.2f} bits each; the archive is {archive:,} bytes."]
    lines.append(f"The best guess was right for {percent(inspection.foreseen)} of the tokens.")
    if inspection.text != inspection.content:
        lines.append(
            f"The tokens are those of a text of {plural(len(inspection.text), 'byte')} from which the content is made, which is in another form."
        )
    plain = [h for h in inspection.held if h != "coded"]
    if plain:
        how = " and ".join(sorted({"packed as xz would" if h == "xz" else "stored as they are" for h in plain}))
        blocks = "It" if len(inspection.held) == 1 else f"{len(plain)} of its {len(inspection.held)} blocks"
        verb = "holds them" if blocks == "It" else "hold theirs"
        lines.append(f"{blocks} {verb} {how}, which is smaller than what the model makes of them.")
    return lines


def instead(inspection: Inspection, i: int) -> str:
    """The likeliest symbol in place of the i-th token, with its probability."""
    best = inspection.token(i).guesses[0]
    return f"{printable(best.data)} {percent(best.chance)}"
