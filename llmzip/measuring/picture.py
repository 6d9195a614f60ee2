"""Draws curves: bits per byte along a text, as steps."""

from __future__ import annotations

import io
import math
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from llmzip.measuring.curves import Curve

_WIDTH, _HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 560, 52, 384  # of the axes
_COLOURS = ("#0969da", "#bf3989", "#1a7f37", "#9a6700", "#8250df", "#57606a", "#cf222e", "#0a3069")
_STYLE = """
    text { font: 12px system-ui, sans-serif; fill: #57606a } .title { font-size: 14px; fill: #1f2328 }
    .paper { fill: #ffffff } .grid { stroke: #d8dee4 } .curve { fill: none; stroke-width: 2; stroke-linejoin: round }
"""


def svg(curves: list[Curve], at: NDArray[np.int64], title: str) -> str:
    """The picture as SVG.

    Args:
        curves: at least one.
        at: positions between which each curve has one step.
        title: what was measured.
    """
    top = max(1, math.ceil(max(float(c.rates(at).max()) for c in curves)))
    size = int(at[-1])

    def x(position: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * position / size

    def y(bits: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * bits / top

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>',
        f'<text class="title" x="{_LEFT}" y="24">{escape(title)}</text>',
        f'<text x="{_LEFT}" y="{_TOP - 8}">bits per byte; the area under a curve is the archive</text>',
    ]
    for bits in range(top + 1):
        parts.append(f'<path class="grid" d="M{_LEFT} {y(bits):.1f}H{_RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(bits) + 4:.1f}" text-anchor="end">{bits}</text>')
    for quarter in range(5):
        position = size * quarter // 4
        parts.append(f'<text x="{x(position):.1f}" y="{_BOTTOM + 18}" text-anchor="middle">{position:,}</text>')
    for n, curve in enumerate(curves):
        colour = _COLOURS[n % len(_COLOURS)]
        steps = "".join(
            f"{'L' if i else 'M'}{x(a):.1f} {y(r):.1f}H{x(b):.1f}"
            for i, (a, b, r) in enumerate(zip(at[:-1].tolist(), at[1:].tolist(), curve.rates(at).tolist(), strict=True))
        )
        parts.append(f'<path class="curve" stroke="{colour}" d="{steps}"/>')
        label_y = _TOP + 12 + 34 * n
        parts.append(f'<path class="curve" stroke="{colour}" d="M{_RIGHT + 16} {label_y}h16"/>')
        parts.append(f'<text x="{_RIGHT + 38}" y="{label_y + 4}">{escape(curve.name)}</text>')
        parts.append(f'<text x="{_RIGHT + 38}" y="{label_y + 18}">{curve.archive:,} bytes</text>')
    return "\n".join([*parts, f'<text x="{_RIGHT}" y="{_HEIGHT - 14}" text-anchor="end">bytes of text</text>', "</svg>\n"])


def png(curves: list[Curve], at: NDArray[np.int64], title: str) -> bytes:
    """The picture as PNG. Needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH / 100, _HEIGHT / 100), dpi=200, layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="bytes of text", ylabel="bits per byte")
    for n, curve in enumerate(curves):
        axes.stairs(curve.rates(at), at, label=f"{curve.name}, {curve.archive:,} bytes", color=_COLOURS[n % len(_COLOURS)], baseline=None)
    axes.set_ylim(bottom=0)
    axes.grid(color="#d8dee4")
    axes.legend()
    made = io.BytesIO()
    figure.savefig(made, format="png")
    return made.getvalue()
