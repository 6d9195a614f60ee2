"""`list` and `info`: what archives say of themselves. No model is loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import click

from llmzip import container
from llmzip.cli import options as opt
from llmzip.cli.running import report_error
from llmzip.errors import LLZError
from llmzip.files import STDIO, reading, shown
from llmzip.parameters import AdapterParameters
from llmzip.summary import Summary, summarise


@click.command("list", short_help="Sizes and ratios of archives, in a table.")
@opt.files
@opt.as_json
def list_archives(files: tuple[str, ...], as_json: bool) -> None:
    """List archives in a table: frames, blocks, sizes, ratio. Only records and their checksums are read."""
    show_list(files, as_json)


@click.command(short_help="All that archives say of themselves.")
@opt.files
@opt.as_json
def info(files: tuple[str, ...], as_json: bool) -> None:
    """Print what each archive says of itself: model, hashes, parameters, sizes, lanes, ratio."""
    _show(files, as_json, lambda name, s: [f"{name}:", *(f"  {key + ':':<14}{value}" for key, value in _details(s))])


def show_list(files: tuple[str, ...], as_json: bool) -> NoReturn:
    """Prints the table, with a line of totals if there are several files, and exits."""
    total, count = Summary(), 0
    heading = f"{'frames':>6} {'blocks':>6} {'archive':>13} {'content':>13} {'ratio':>6} {'bits/byte':>9} {'parity':>9}  file"

    def row(name: str, s: Summary) -> str:
        parity = f"{s.parity:,}" if s.parity else "-"
        ratio, bits = (f"{s.ratio:.3f}", f"{s.bits_per_byte:.4f}") if s.ratio and s.bits_per_byte else ("-", "-")
        return f"{s.frames:>6} {s.blocks:>6} {s.archive:>13,} {s.content:>13,} {ratio:>6} {bits:>9} {parity:>9}  {name}"

    def one(name: str, s: Summary) -> Iterator[str]:
        nonlocal count
        if not count:
            yield heading
        count += 1
        total.add(s)
        yield row(name, s)

    def last() -> list[str]:
        return [row(f"{count} files", total)] if count > 1 else []

    _show(files, as_json, one, last)


def _show(
    files: tuple[str, ...], as_json: bool, lines: Callable[[str, Summary], list[str] | Iterator[str]],
    last: Callable[[], list[str]] = list,
) -> NoReturn:  # fmt: skip
    status, found = 0, []
    for name in files or (STDIO,):
        try:
            with reading(name) as source:
                summary = summarise(source)
        except (LLZError, OSError) as e:
            status = max(status, report_error(name, e))
            continue
        if as_json:
            found.append({"file": shown(name), **summary.as_dict()})
        else:
            click.echo("\n".join(lines(shown(name), summary)))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif rest := last():
        click.echo("\n".join(rest))
    sys.exit(status)


def _learned(a: AdapterParameters) -> str:
    parts = []
    if a.bias:
        parts.append(f"biases (rate {a.bias.rate}/16, prior {a.bias.prior})")
    if a.neighbours:
        parts.append(f"neighbours (of {1 << a.neighbours.capacity_bits}, sharpness {a.neighbours.sharpness})")
    return f"{', '.join(parts)}; every {a.round_symbols} symbols" if parts else "nothing"


def _details(s: Summary) -> list[tuple[str, str]]:
    lines = [("format", f"version {container.FORMAT_VERSION}, {s.frames} frame{'s' if s.frames != 1 else ''}")]
    for m in s.models:
        lines += [
            ("model", m.model_id),
            ("weights", m.digest.hex()),
            ("tokenizer", m.tokenizer.hex()),
            ("parameters", f"arithmetic {m.arithmetic}, window {m.window}{'' if m.near else ' for all heads'}, sinks {m.sinks}"),
            ("learned", _learned(m.adapter)),
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
