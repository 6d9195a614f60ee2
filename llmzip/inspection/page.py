"""An inspection as one self-contained HTML page: style, script and data are in it, and it may load nothing.

The inspected text may come from anybody. So it is escaped in HTML, written without `<` in JSON, and put into the document as text nodes
only. The page's policy names style and script by their hashes, so nothing else is applied or run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from importlib.resources import files
from typing import Any

from llmzip.inspection import charts
from llmzip.inspection.display_text import pieces, printable, surroundings
from llmzip.inspection.phrases import about, account, band, bits_per_byte, instead
from llmzip.inspection.result import LIMITS, Inspection, heat

_DEAREST = 8


def page(inspection: Inspection, name: str, whole: int | None) -> str:
    """The page, as HTML.

    Args:
        name: of the file, printable.
        whole: bytes of the file, more than those inspected where the rest was left out; None if that is not known.
    """
    style, script = _part("page.css"), _part("page.js")
    some = len(inspection) > 0
    nothing = '<p class="about">Nothing to show.</p>'
    parts = {
        "policy": f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'",
        "style": style,
        "script": script,
        "name": escape(name),
        "about": escape(about(inspection, whole)),
        "account": escape(" ".join(account(inspection))),
        "figures": _figures(inspection),
        "sizes": _sizes(inspection),
        "cumulative": charts.cumulative(inspection) if some else nothing,
        "histogram": charts.histogram(inspection) if some else nothing,
        "dearest": _dearest(inspection),
        "legend": "".join(f'<li class="h{h}">{band(b)}</li>' for h, b in enumerate(inspection.bands())),
        "data": _json(_data(inspection)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], _part("page.html"))  # in one pass, so that inserted text is not searched again


def _part(name: str) -> str:
    return (files("llmzip.inspection") / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(inspection: Inspection) -> dict[str, Any]:
    """Data for the script: bits in hundredths, probabilities in ten-thousandths, words by number."""
    number = {s: i for i, s in enumerate(inspection.words)}
    every = pieces(inspection)
    return {
        "limits": LIMITS,
        "words": [printable(word) for word in inspection.words.values()],
        "pieces": [p.text for p in every],
        "joined": {i: p.end - p.first for i, p in enumerate(every) if p.end - p.first > 1},
        "bits": (100 * inspection.bits).round().astype(int).tolist(),
        "sizes": [len(inspection.words[s]) for s in inspection.symbols.tolist()],
        "own": [number[s] for s in inspection.symbols.tolist()],
        "guesses": [number[s] for s in inspection.guesses.reshape(-1).tolist()],
        "chances": (10000 * inspection.chances).round().astype(int).reshape(-1).tolist(),
    }


def _figures(inspection: Inspection) -> str:
    n, size = len(inspection), len(inspection.content)
    figures = {
        "bits per byte": bits_per_byte(inspection.archive, size),
        "bytes in the archive": f"{inspection.archive:,}",
        "of the text's size": f"{100 * inspection.archive / size:.1f}%" if size else "-",
        "tokens": f"{n:,}",
        "bits per token": f"{inspection.total / n:.2f}" if n else "-",
        "best guess right": f"{100 * inspection.foreseen:.1f}%" if n else "-",
    }
    return "".join(f"<div><dt>{what}</dt><dd>{value}</dd></div>" for what, value in figures.items())


def _sizes(inspection: Inspection) -> str:
    sizes = inspection.sizes()
    largest = max(*sizes.values(), 1)
    rows = []
    for name, size in sizes.items():
        own = ' class="own"' if name == "llmzip" else ""
        cells = f"<td>{size:,}</td><td>{bits_per_byte(size, len(inspection.content))}</td>"
        rows.append(f'<tr{own}><th scope="row">{escape(name)}</th>{cells}<td class="bar">{charts.bar(size / largest)}</td></tr>')
    return "".join(rows)


def _dearest(inspection: Inspection) -> str:
    items = []
    for i in inspection.dearest(_DEAREST):
        left, own, right = (escape(part) for part in surroundings(inspection, i))
        where = f'<bdi>{left}<mark class="h{heat(float(inspection.bits[i]))}">{own}</mark>{right}</bdi>'
        likelier = f"at byte {inspection.starts[i]:,}; likeliest was <bdi>{escape(instead(inspection, i))}</bdi>"
        items.append(
            f'<li><button type="button" data-token="{i}"><span class="bits">{inspection.bits[i]:.1f}</span>'
            f'<span class="where">{where}</span><span class="instead">{likelier}</span></button></li>'
        )
    return "".join(items)
