"""`inspect`: what each token of a text costs, in the terminal, as JSON or as a page."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from llmzip.archive import records
from llmzip.cli.common import options as opt
from llmzip.cli.common.job import labels, settings_of
from llmzip.cli.common.report import attempt, progress
from llmzip.system import streams
from llmzip.system.file_names import STDIO, FileError, display_name
from llmzip.system.input_files import reading
from llmzip.system.output_files import check_absent, writing

if TYPE_CHECKING:
    from llmzip.inspection import Inspection


@click.command(short_help="What each token of a text costs.")
@click.argument("file", required=False, default=STDIO, type=click.Path())
@opt.levels
@opt.part
@click.option(
    "--html", metavar="OUT", type=opt.Output(),
    help="Write one page that needs nothing else to OUT, in place of the tokens here; - is standard output.",
)  # fmt: skip
@opt.as_json
@click.option("-f", "--force", is_flag=True, help="Overwrite OUT.")
@opt.colour
@opt.lanes
@opt.several_models
@opt.offline
@opt.machine
@opt.loudness
def inspect(file: str, html: str | None, as_json: bool, **given: Any) -> None:
    """Show what each token of FILE, a text, costs in an archive, and what the model expected there; -q leaves out the summary.

    With --model several times, show a table of the models instead.
    """
    if as_json and html == STDIO:
        raise click.UsageError("--json and --html - both want standard output; name a file for the page.")
    if html is not None and len(set(given["models"])) > 1:
        raise click.UsageError("--html shows one model; name one, or leave out --html.")
    if given["limit"] < 1:
        raise click.UsageError("--bytes must be at least 1.")
    sys.exit(attempt(file, lambda: _inspect(file, html, as_json, given)))


@dataclass(frozen=True)
class _Text:
    """The part of a file to inspect, and the size of the whole file; None if the input continues for an unknown length."""

    content: bytes
    whole: int | None


def _inspect(file: str, html: str | None, as_json: bool, given: dict[str, Any]) -> None:
    if html is not None:
        _check_page(html, given["force"])
    text, name = _read(file, given["limit"]), display_name(file)
    from llmzip.inspection import as_json as as_document
    from llmzip.inspection import page

    models = list(dict.fromkeys(given["models"]))
    if len(models) > 1:
        _side_by_side({label: _inspected(file, text, model, given) for model, label in labels(models).items()}, name, text.whole, as_json)
        return
    found = _inspected(file, text, models[0] if models else None, given)
    if html is not None:
        with writing(html, given["force"]) as sink:
            streams.write(sink, page.page(found, name, text.whole).encode())
    if as_json:
        click.echo(json.dumps(as_document.document(found, name, text.whole)))
    elif html != STDIO:
        _print(found, name, text.whole, tokens=html is None, summary=not given["quiet"], colour=_wants_colour(given["colour"]))


def _inspected(file: str, text: _Text, model: str | None, given: dict[str, Any]) -> Inspection:
    from llmzip import inspection as library
    from llmzip.codec.codec import Codec
    from llmzip.options import Options

    codec = Codec(Options(**settings_of(given, "level", "lanes") | {"model": model}))
    with progress(file, len(text.content), given["quiet"]) as report:
        return library.inspect(codec, text.content, report)


def _side_by_side(inspections: dict[str, Inspection], name: str, whole: int | None, as_json: bool) -> None:
    from llmzip.inspection import as_json as as_document
    from llmzip.inspection import side_by_side

    if as_json:
        click.echo(json.dumps([as_document.document(found, name, whole) for found in inspections.values()]))
    else:
        click.echo("\n".join(side_by_side.table(inspections, name)))


def _check_page(html: str, force: bool) -> None:
    """Raise FileError if the page exists already, before any work is done for it."""
    try:
        check_absent(html, force)
    except FileError as e:
        raise FileError(str(e).replace("-o", "--html")) from None


def _print(found: Inspection, name: str, whole: int | None, tokens: bool, summary: bool, colour: bool) -> None:
    from llmzip.inspection import terminal

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks some characters still shows the rest
    if tokens and colour:
        text = "".join(terminal.coloured(found))
        click.echo(text, nl=bool(text) and not text.endswith("\n"), color=True)
    elif tokens:
        click.echo("\n".join(terminal.listed(found)))
    if summary:
        if tokens:
            click.echo()
        click.echo("\n".join(terminal.summary(found, name, whole, colour)), color=colour)


def _wants_colour(choice: str) -> bool:
    if choice == "auto":
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return choice == "always"


def _read(file: str, limit: int) -> _Text:
    """The first `limit` bytes of the file, without a character that they would cut."""
    with reading(file) as source:
        content = streams.read_all(source, limit)
        rest = streams.read(source, 1) if len(content) == limit else b""
        size = os.fstat(source.fileno()).st_size if file != STDIO else 0  # also 0 for anything but a regular file
    whole = max(size, len(content)) if size or not rest else None
    if content.startswith(records.MAGIC):
        raise FileError("is an llmzip archive; inspect its content: llmzip decompress -c FILE | llmzip inspect")
    if rest and rest[0] & 0xC0 == 0x80:
        cut = next((i for i in range(len(content) - 1, max(len(content) - 4, 0), -1) if content[i] >= 0xC0), len(content))
        content = content[:cut]
    return _Text(content, whole)
