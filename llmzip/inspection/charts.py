"""The charts of the page, as SVG that stretches. Labels are HTML beside it, so that they keep their size. The style has the colours."""

from __future__ import annotations

from html import escape

import numpy as np

from llmzip.inspection.phrases import band, percent
from llmzip.inspection.result import Inspection

_POINTS = 400  # most points of the line
_WIDE, _HIGH = 1000, 300


def bar(share: float) -> str:
    """A bar of `share` of the width."""
    return f'<svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true"><rect class="fill" width="{100 * share:.2f}" height="1"/></svg>'


def cumulative(inspection: Inspection) -> str:
    """Bytes spent up to each position, and a line for even spending."""
    size, total = len(inspection.text), inspection.total / 8
    top = _round_up(total)
    ends = np.append(inspection.starts, size)
    spent = np.append(0.0, inspection.bits.cumsum() / 8)
    x = np.linspace(0, size, min(_POINTS, len(ends)))
    y = np.interp(x, ends, spent)
    points = " ".join(f"{_WIDE * a / size:.1f},{_HIGH * (1 - b / top):.1f}" for a, b in zip(x, y, strict=True))
    last = _HIGH * (1 - total / top)
    grid = "".join(f"M0 {_HIGH * k / 4:g}H{_WIDE}" for k in range(4))
    label = escape(f"Bytes spent along the text: {total:,.0f} after {size:,}")
    return (
        f'<div class="plot"><div class="y" aria-hidden="true"><span>{top:,.0f}</span><span>{top / 2:,.0f}</span><span>0</span></div>'
        f'<svg viewBox="0 0 {_WIDE} {_HIGH}" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<path class="grid" d="{grid}"/><polygon class="area" points="0,{_HIGH} {points} {_WIDE},{_HIGH}"/>'
        f'<path class="even" d="M0 {_HIGH}L{_WIDE} {last:.1f}"/><polyline class="line" points="{points}"/></svg>'
        f'<div class="x" aria-hidden="true"><span>0</span><span>{size // 2:,}</span><span>{size:,} bytes</span></div></div>'
        f'<ul class="key"><li>{_stroke("line")}bytes spent on the text up to here</li><li>{_stroke("even")}if all cost the same</li></ul>'
    )


def histogram(inspection: Inspection) -> str:
    """For each band of cost, the share of tokens in it and the share of bits they take."""
    bands = inspection.bands()
    shares = [(b.tokens / len(inspection), b.bits / max(inspection.total, 1e-9)) for b in bands]
    top = max(max(pair) for pair in shares)
    rects, labels = [], []
    for h, (b, (tokens, bits)) in enumerate(zip(bands, shares, strict=True)):
        for name, share, x in (("count", tokens, 10 * h + 1.2), (f"h{h}b", bits, 10 * h + 5.2)):
            high = 100 * share / top
            rects.append(f'<rect class="{name}" x="{x:g}" y="{100 - high:.2f}" width="3.6" height="{high:.2f}"/>')
        labels.append(f"<div><dt>{band(b)}</dt><dd>{_short(tokens)}</dd><dd>{_short(bits)}</dd></div>")
    said = "; ".join(f"{band(b)} bits: {percent(t)} of tokens, {percent(s)} of bits" for b, (t, s) in zip(bands, shares, strict=True))
    return (
        f'<svg class="histogram" viewBox="0 0 {10 * len(bands)} 100" preserveAspectRatio="none" role="img" aria-label="{escape(said)}">'
        f'{"".join(rects)}</svg><dl class="bands">{"".join(labels)}</dl>'
        f'<ul class="key"><li>{_patch("count")}share of the tokens, by their bits</li><li>{_patch("spent")}share of all bits</li></ul>'
    )


def _short(share: float) -> str:
    return "0" if not share else "<1%" if share < 0.01 else f"{100 * share:.0f}%"


def _stroke(name: str) -> str:
    return f'<svg viewBox="0 0 24 10" aria-hidden="true"><path class="{name}" d="M0 5H24"/></svg>'


def _patch(name: str) -> str:
    return f'<svg viewBox="0 0 24 10" aria-hidden="true"><rect class="{name}" x="4" width="16" height="10"/></svg>'


def _round_up(value: float) -> float:
    """The next of 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8 or 10 times a power of ten."""
    unit = 10.0 ** np.floor(np.log10(max(value, 1e-9)))
    return float(next(k for k in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if k * unit >= value) * unit)
