"""Size against speed: one mark for compressing and one for decompressing, joined, for each contender."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

from llmzip.benchmark.measure import Measurement
from llmzip.benchmark.report import human

_WIDTH, _HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 624, 52, 384  # of the axes
_LETTER = 7  # of a label, about
_LABEL_GAP = 16  # between labels, at least
_STYLE = """
    text { font: 12px system-ui, sans-serif; fill: #57606a } .title { font-size: 14px; fill: #1f2328 }
    .paper { fill: #ffffff } .grid { stroke: #d8dee4 } .lead { stroke: #afb8c1 }
    .other { stroke: #57606a; fill: #57606a } .own { stroke: #0969da; fill: #0969da } text.own { stroke: none; font-weight: 600 }
    .mark { stroke-width: 2 } .hollow { fill: #ffffff }
    @media (prefers-color-scheme: dark) {
      text { fill: #9198a1 } .title { fill: #f0f6fc } .paper { fill: #0d1117 } .grid { stroke: #262c36 } .lead { stroke: #4d5560 }
      .other { stroke: #9198a1; fill: #9198a1 } .own { stroke: #4493f8; fill: #4493f8 } .hollow { fill: #0d1117 }
    }
"""  # the paper is painted, so that the colours fit it wherever the picture is shown


@dataclass(frozen=True)
class _Scale:
    """Where values lie: speed on a logarithmic axis of whole decades, bits per byte on a linear one that starts at 0."""

    decades: range
    top: int

    @classmethod
    def of(cls, rows: list[Measurement]) -> _Scale:
        speeds = [s for r in rows for s in (r.compress_speed, r.decompress_speed)]
        first, last = math.floor(math.log10(min(speeds))), math.ceil(math.log10(max(speeds)))
        return cls(range(first, max(last, first + 1) + 1), max(1, math.ceil(max(r.bits_per_byte for r in rows))))

    def x(self, speed: float) -> float:
        first, last = self.decades[0], self.decades[-1]
        return _LEFT + (_RIGHT - _LEFT) * (math.log10(speed) - first) / (last - first)

    def y(self, bits: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * bits / self.top


def svg(rows: list[Measurement], ours: list[str], title: str) -> str:
    """The picture as SVG, for light and dark surroundings.

    Args:
        rows: one for each contender.
        ours: the contenders that stand out.
        title: what was measured.
    """
    scale = _Scale.of(rows)
    width = max(_WIDTH, _RIGHT + 12 + _LETTER * max(len(row.contender) + len(", 0.00") for row in rows))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{_HEIGHT}" rx="6"/>',
        f'<text class="title" x="{_LEFT}" y="24">{escape(title)}</text>',
        *_axes(scale),
    ]
    for row, label_y in zip(rows, _label_places([scale.y(r.bits_per_byte) for r in rows]), strict=True):
        kind, y = "own" if row.contender in ours else "other", scale.y(row.bits_per_byte)
        there, back = scale.x(row.compress_speed), scale.x(row.decompress_speed)
        parts += [
            f'<path class="lead" d="M{max(there, back) + 6:.1f} {y:.1f}L{_RIGHT + 8} {label_y:.1f}" fill="none"/>',
            f'<path class="{kind}" d="M{there:.1f} {y:.1f}H{back:.1f}"/>',
            f'<circle class="{kind} mark" cx="{there:.1f}" cy="{y:.1f}" r="4"/>',
            f'<circle class="{kind} mark hollow" cx="{back:.1f}" cy="{y:.1f}" r="4"/>',
            f'<text class="{kind}" style="stroke:none" x="{_RIGHT + 12}" y="{label_y + 4:.1f}">'
            f"{escape(row.contender)}, {row.bits_per_byte:.2f}</text>",
        ]
    return "\n".join([*parts, "</svg>\n"])


def _axes(scale: _Scale) -> list[str]:
    parts = []
    for bits in range(scale.top + 1):
        y = scale.y(bits)
        parts.append(
            f'<path class="grid" d="M{_LEFT} {y:.1f}H{_RIGHT}"/><text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{bits}</text>'
        )
    for decade in scale.decades:
        x = scale.x(10.0**decade)
        label = human(10.0**decade).replace(".00", "").replace(".0", "") + "/s"
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{_BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{_BOTTOM + 18}" text-anchor="middle">{label}</text>')
    parts.append(f'<text x="{_LEFT}" y="{_TOP - 8}">bits per byte</text>')
    legend_y = _HEIGHT - 14
    parts.append(
        f'<circle class="other mark" cx="{_LEFT + 4}" cy="{legend_y - 4}" r="4"/><text x="{_LEFT + 14}" y="{legend_y}">compress</text>'
    )
    parts.append(f'<circle class="other mark hollow" cx="{_LEFT + 94}" cy="{legend_y - 4}" r="4"/>')
    parts.append(f'<text x="{_LEFT + 104}" y="{legend_y}">decompress</text>')
    parts.append(f'<text x="{_RIGHT}" y="{legend_y}" text-anchor="end">faster →, smaller ↓</text>')
    return parts


def _label_places(wanted: list[float]) -> list[float]:
    """Heights for labels, as near to those wanted as the gap and the axes allow, in the same order."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places = [0.0] * len(wanted)
    above = -math.inf
    for i in order:
        above = places[i] = max(wanted[i], above + _LABEL_GAP)
    below = _BOTTOM + 8.0 + _LABEL_GAP
    for i in reversed(order):
        below = places[i] = min(places[i], below - _LABEL_GAP)
    return places


def png(rows: list[Measurement], ours: list[str], title: str) -> bytes:
    """The picture as PNG. Needs matplotlib."""
    from matplotlib.figure import Figure

    scale = _Scale.of(rows)
    figure = Figure(figsize=(_WIDTH / 100, _HEIGHT / 100), dpi=200, layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="bytes per second; filled: compress, hollow: decompress", ylabel="bits per byte")
    for row, label_y in zip(rows, _label_places([scale.y(r.bits_per_byte) for r in rows]), strict=True):
        colour = "#0969da" if row.contender in ours else "#57606a"
        speeds, bits = [row.compress_speed, row.decompress_speed], row.bits_per_byte
        axes.plot(speeds, [bits] * 2, color=colour, linewidth=1)
        axes.plot(speeds[:1], [bits], "o", color=colour)
        axes.plot(speeds[1:], [bits], "o", color=colour, markerfacecolor="white")
        axes.annotate(
            f"{row.contender}, {bits:.2f}", (max(speeds), bits), (1.02, (_BOTTOM - label_y) / (_BOTTOM - _TOP)), "data", "axes fraction",
            {"arrowstyle": "-", "color": "#afb8c1", "relpos": (0, 0.5)}, color=colour, va="center", fontsize=8,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(10.0 ** scale.decades[0], 10.0 ** scale.decades[-1])
    axes.set_ylim(0, scale.top)
    axes.grid(color="#d8dee4")
    axes.set_axisbelow(True)
    made = io.BytesIO()
    figure.savefig(made, format="png")
    return made.getvalue()
