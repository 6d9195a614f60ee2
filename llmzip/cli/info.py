"""`info`: all that archives say of themselves. No model is loaded."""

from __future__ import annotations

import click

from llmzip.archive import records
from llmzip.archive.summary import Summary
from llmzip.cli.common import options as opt
from llmzip.cli.common.summaries import show
from llmzip.options import is_new
from llmzip.parameters import DOWN, GATE_UP, VALUES, AdapterParameters


@click.command(short_help="All that archives say of themselves.")
@opt.files
@opt.as_json
def info(files: tuple[str, ...], as_json: bool) -> None:
    """Print what each archive says of itself: model, hashes, parameters, sizes, lanes, ratio."""
    show(files, as_json, lambda name, s: [f"{name}:", *(f"  {key + ':':<14}{value}" for key, value in _details(s))])


def _learned(a: AdapterParameters) -> str:
    parts = []
    if a.bias:
        parts.append(f"biases (rate {a.bias.rate}/16, prior {a.bias.prior})")
    if a.neighbours:
        parts.append(f"neighbours (of {1 << a.neighbours.capacity_bits}, sharpness {a.neighbours.sharpness})")
    learned = [f"{', '.join(parts)}; every {a.round_symbols} symbols"] if parts else []
    if c := a.corrections:
        names = [name for name, bit in (("values", VALUES), ("gate and up", GATE_UP), ("down", DOWN)) if c.matrices & bit]
        learned.append(f"corrections of {', '.join(names)} (rank {c.rank}, rate {c.rate}/1024); every {c.segment} symbols")
    return "; ".join(learned) or "nothing"


def _details(s: Summary) -> list[tuple[str, str]]:
    lines = [("format", f"version {records.FORMAT_VERSION}, {s.frames} frame{'s' if s.frames != 1 else ''}")]
    for m in s.models:
        lines += [
            ("model", m.model_id),
            ("weights", m.digest.hex()),
            ("tokenizer", m.tokenizer.hex()),
            (
                "parameters",
                f"arithmetic {m.arithmetic}, window {m.span.window}{'' if m.span.local else ' for all heads'}, sinks {m.span.sinks}",
            ),
            ("learned", "everything, from nothing" if is_new(m.model_id) else _learned(m.adapter)),
        ]
    lines += [
        ("blocks", f"{s.coded} coded, {s.packed} xz, {s.stored} stored"),
        ("lanes", ", ".join(map(str, s.lanes[:8])) + (", ..." if len(s.lanes) > 8 else "") or "-"),
        ("symbols", str(s.symbols)),
        *([("forms", ", ".join(s.forms))] if s.forms else []),
        ("content", f"{s.content} bytes"),
        ("archive", f"{s.archive} bytes"),
    ]
    if s.parity:
        lines.append(("parity", f"{s.parity} bytes"))
    lines += [("repairs", f"{p.burst} bytes in one piece, {p.percent}% of {p.size + p.frame_size}") for p in s.protected]
    if s.ratio:
        lines.append(("ratio", f"{s.ratio:.3f} ({s.bits_per_byte:.4f} bits per byte)"))
    return lines
