"""`list` and `info`: what archives say of themselves. No model is loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import click

from llmzip.archive.summary import Summary, summarise
from llmzip.cli.common.report import report_error
from llmzip.errors import LLZError
from llmzip.system.file_names import STDIO, display_name
from llmzip.system.input_files import reading


def show_list(files: tuple[str, ...], as_json: bool) -> NoReturn:
    """Print the table, with a line of totals if there are several files, and exit."""
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

    show(files, as_json, one, last)


def show(
    files: tuple[str, ...], as_json: bool, lines: Callable[[str, Summary], list[str] | Iterator[str]],
    last: Callable[[], list[str]] = list,
) -> NoReturn:  # fmt: skip
    """Prints each archive's summary as `lines` have it, then what `last` gives, and exits."""
    status, found = 0, []
    for name in files or (STDIO,):
        try:
            with reading(name) as source:
                summary = summarise(source)
        except (LLZError, OSError) as e:
            status = max(status, report_error(name, e))
            continue
        if as_json:
            found.append({"file": display_name(name), **summary.as_dict()})
        else:
            click.echo("\n".join(lines(display_name(name), summary)))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif rest := last():
        click.echo("\n".join(rest))
    sys.exit(status)
