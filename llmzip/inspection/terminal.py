"""An inspection in a terminal: the text with its tokens coloured, or a token a line, and a summary."""

from __future__ import annotations

from collections.abc import Iterator

from llmzip.inspection.display_text import pieces, printable, surroundings
from llmzip.inspection.phrases import about, account, band, bits_per_byte, instead, percent
from llmzip.inspection.result import Inspection, heat

# Text colour and background of each heat, of 256 colours; the cheapest keeps the terminal's own colours.
_COLOURS = (None, (16, 230), (16, 223), (16, 216), (16, 209), (16, 166), (231, 124), (231, 52))
_BAR = 24  # characters of a full bar
_EIGHTHS = " \u258f\u258e\u258d\u258c\u258b\u258a\u2589"
_DEAREST = 10


def coloured(inspection: Inspection) -> Iterator[str]:
    """Yield the text piece by piece, on backgrounds that show the cost."""
    for piece in pieces(inspection):
        yield _paint(piece.text, heat(piece.bits))


def listed(inspection: Inspection) -> Iterator[str]:
    """Yield a line for each token: position, bits, token and best guesses, separated by tabs."""
    yield "byte\tbits\ttoken\tguesses"
    for i in range(len(inspection)):
        token = inspection.token(i)
        guesses = "  ".join(f"{printable(g.data)} {percent(g.chance)}" for g in token.guesses)
        yield f"{token.start}\t{token.bits:.2f}\t{printable(token.data)}\t{guesses}"


def summary(inspection: Inspection, name: str, whole: int | None, colour: bool) -> Iterator[str]:
    """Yield lines: what was inspected, sizes beside those of other compressors, a histogram of costs, the most expensive tokens."""
    more = "" if whole == len(inspection.content) else " (--bytes takes more)"
    yield f"{name}: {about(inspection, whole)}{more}"
    yield from account(inspection)
    if not len(inspection):
        return
    yield ""
    yield f"{'':<10}{'bytes':>12}  bits/byte"
    sizes = inspection.sizes()
    largest = max(sizes.values())
    for name, size in sizes.items():
        yield f"{name:<10}{size:>12,}  {bits_per_byte(size, len(inspection.content)):>9}  {_bar(size / largest)}"
    yield ""
    yield f"{'bits':<10}{'tokens':>12}  {'of tokens':>9}  {'of bits':>8}"
    for h, b in enumerate(inspection.bands()):
        of_tokens, of_bits = b.tokens / len(inspection), b.bits / max(inspection.total, 1e-9)
        label = f"{band(b):<10}"
        label = _paint(label, h) if colour else label
        yield f"{label}{b.tokens:>12,}  {percent(of_tokens):>9}  {percent(of_bits):>8}  {_bar(of_bits)}".rstrip()
    yield ""
    yield f"{'bits':>6}  {'at byte':>9}  the most expensive tokens; the best guess in their place"
    for i in inspection.dearest(_DEAREST):
        left, own, right = surroundings(inspection, i)
        own = _paint(own, heat(float(inspection.bits[i]))) if colour else f"[{own}]"
        yield f"{inspection.bits[i]:>6.2f}  {inspection.starts[i]:>9,}  {left}{own}{right}  ({instead(inspection, i)})"


def _paint(text: str, degree: int) -> str:
    """Text in the colours of a heat. Line breaks are not coloured, as the background would extend to the end of the line."""
    colours = _COLOURS[degree]
    if colours is None:
        return text
    start = f"\x1b[38;5;{colours[0]};48;5;{colours[1]}m"
    return "\n".join(f"{start}{line}\x1b[0m" if line else "" for line in text.split("\n"))


def _bar(share: float) -> str:
    eighths = round(share * _BAR * 8)
    return ("\u2588" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()
