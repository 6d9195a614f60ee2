"""`models`: lists, describes, names, fetches, checks, moves and deletes models."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from llmzip.cli.common import options as opt
from llmzip.cli.common.report import report_error
from llmzip.errors import LLZError, ModelMismatchError, ModelUnavailableError, quoted
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.options import is_new
from llmzip.system.file_names import STDIO, FileError, display_name
from llmzip.system.input_files import reading
from llmzip.system.output_files import check_absent, writing

if TYPE_CHECKING:
    from llmzip.models.catalogue import Entry
    from llmzip.models.store import CachedModel

_SHAPE = {"layers": "layers", "width": "wide", "heads": "heads", "kv_heads": "key heads", "vocab": "tokens"}


def _cached_ids(_context: click.Context, _argument: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For completion: cached models and the user's own names, or else files and folders."""
    from llmzip.models import own_names, store

    here: list[str] = []
    with contextlib.suppress(LLZError):  # no cache is readable for this user
        here = [*(cached.model_id for cached in store.cached_models()), *own_names.listed()]
    return [CompletionItem(name) for name in here if name.startswith(incomplete)] or [CompletionItem(incomplete, type="file")]


def _in_use_or_default(context: click.Context, argument: click.Parameter, value: str) -> str:
    """The model in use; the default one where LLMZIP_MODEL leaves it to the text."""
    return opt.named(context, argument, value) or DEFAULT_MODEL if value else value


_id = click.argument("model_id", metavar="ID", shell_complete=_cached_ids)
_in_use = functools.partial(
    click.argument, "model_id", metavar="[ID]", envvar="LLMZIP_MODEL", default=DEFAULT_MODEL, callback=_in_use_or_default
)
_quiet = click.option("-q", "--quiet", is_flag=True, help="No progress, no messages but errors.")


def _reports(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors into one line and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **given: Any) -> None:
        try:
            command(*args, **given)
        except LLZError as e:
            click.echo(f"llmzip: {e}", err=True)
            sys.exit(e.exit_code)
        except OSError as e:
            if e.filename is None:  # an error of standard output
                raise
            sys.exit(report_error(str(e.filename), e))

    return run


@click.group(invoke_without_command=True, short_help="List, name, fetch, check, move and delete models.")
@click.pass_context
def models(context: click.Context) -> None:
    """List, name, fetch, check, move and delete models. Without a command: list."""
    if not context.invoked_subcommand:
        context.invoke(models_list, as_json=False)


@models.command("list", short_help="List them, here or not.")
@opt.as_json
@_reports
def models_list(as_json: bool) -> None:
    """List the models llmzip knows, those that have got a name with `add`, and all others it has here."""
    from llmzip.models import catalogue

    entries = list(catalogue.entries())
    if as_json:
        click.echo(json.dumps([entry.as_dict() for entry in entries], indent=2))
        return
    for line in _table(entries):
        click.echo(line)


def _table(entries: list[Entry]) -> Iterator[str]:
    """A line for each model, under a heading."""
    rows = [("model", "download", "licence", "languages", "here", "")]
    rows += [(display_name(e.name), *_about(e), _here(e), _remarks(e)) for e in entries]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _about(entry: Entry) -> tuple[str, str, str]:
    from llmzip.models.store import megabytes

    known = entry.known
    return (megabytes(known.download), known.licence.name, known.languages) if known else ("-", "-", "-")


def _here(entry: Entry) -> str:
    """Whether a model is cached."""
    from llmzip.models.store import megabytes

    if entry.cached is None:
        return "no"
    return f"{megabytes(entry.cached.size())}{'' if entry.usable else ' of another version'}"


def _remarks(entry: Entry) -> str:
    known = entry.known
    if known is None:
        return display_name(entry.source)
    said = {"default": known.model_id == DEFAULT_MODEL, "tried": known.tried, "not tried": not known.tried, "gated": known.gated}
    return ", ".join(word for word, holds in said.items() if holds)


@models.command("info", short_help="Everything known about one.")
@_in_use(shell_complete=opt.known_models)
@opt.as_json
@_reports
def models_info(model_id: str, as_json: bool) -> None:
    """Print everything known about a model, cached or not; ID may also be a path, or hf:OWNER/NAME@REVISION. Nothing is fetched."""
    from llmzip.models import catalogue, resolve

    if is_new(model_id):
        raise ModelUnavailableError(f"{model_id} starts from nothing, so nothing is kept of it; docs/new.md says what it is")
    entry = catalogue.entry(model_id)
    config = catalogue.config_of(entry)
    shape = {k: v for k, v in (config.as_dict() if config else {}).items() if k in _SHAPE}
    if as_json:
        facts = entry.as_dict() | {"tokenizer": entry.tokenizer or None, "archives": resolve.archive_id(model_id), "shape": shape or None}
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(display_name(entry.name))
    for what, value in _facts(entry, shape, resolve.archive_id(model_id)):
        if value:
            click.echo(f"  {what:<12}{value}")


def _facts(entry: Entry, shape: dict[str, int], archives: str) -> Iterator[tuple[str, str]]:
    """What is known, in words; an empty string where nothing is."""
    known, cached = entry.known, entry.cached
    yield "source", display_name(entry.source)
    if known:
        yield "licence", str(known.licence)
        yield "languages", known.languages
        yield "download", f"{_about(entry)[0]}{', gated: its terms have to be accepted on the hub' if known.gated else ''}"
        yield "bits/byte", f"{known.bits_per_byte:.3f}" if known.bits_per_byte else "not measured"
        yield "tried", "yes" if known.tried else "no"
    yield "family", quoted(entry.family)
    yield "shape", ", ".join(f"{n:,} {word.removesuffix('s') if n == 1 else word}" for key, word in _SHAPE.items() if (n := shape.get(key)))
    yield "archives", f"call it {archives}"
    yield "digest", entry.digest or ("learned at the first pull" if known else "")
    yield "tokenizer", entry.tokenizer
    yield "cached", f"{_here(entry)}, in {display_name(str(cached.folder))}" if cached else "no"


@models.command("add", short_help="Give one a short name.")
@click.argument("name", metavar="NAME")
@click.argument("source", metavar="SOURCE")
@click.option("--force", is_flag=True, help="Let NAME stand for another model than before.")
@_quiet
@_reports
def models_add(name: str, source: str, force: bool, quiet: bool) -> None:
    """Let NAME stand for SOURCE, a path or hf:OWNER/NAME@REVISION, wherever a model is named; archives name SOURCE. Nothing is fetched."""
    from llmzip.models import own_names

    found = own_names.add(name, source, force)
    if not quiet:
        click.echo(f"{name}: {display_name(found)}; to fetch and convert it, run: llmzip models pull {name}")


@models.command("pull", short_help="Fetch, check and convert one.")
@_in_use(shell_complete=opt.known_models)
@click.option("--force", is_flag=True, help="Fetch and convert again.")
@opt.offline
@_quiet
@_reports
def models_pull(model_id: str, force: bool, offline: bool, quiet: bool) -> None:
    """Fetch, check and convert a model, by default LLMZIP_MODEL's or the default one; ID may also be a path, or hf:OWNER/NAME@REVISION."""
    from llmzip.models import resolve, store
    from llmzip.models.workspace import clear_abandoned

    for place in (store.cache_dir(), store.models_dir()):
        clear_abandoned(place)
    cached = resolve.pull(model_id, quiet, force, offline)
    try:
        resolve.load_cached(cached)
    except ModelMismatchError as e:
        if force:
            raise
        if not quiet:
            click.echo(f"llmzip: {e}; pulling it again", err=True)
        cached = resolve.pull(model_id, quiet, True, offline)
    if not quiet:
        click.echo(f"{cached.model_id}: weights {cached.digest.hex()} in {display_name(str(cached.folder))}")


@models.command("path", short_help="Print the folder of one.")
@_in_use(shell_complete=_cached_ids)
@_reports
def models_path(model_id: str) -> None:
    """Print the folder a cached model is in, by default that of LLMZIP_MODEL or of the default one."""
    click.echo(os.fsencode(_cached(model_id).folder))  # unescaped, for scripts


@models.command("rm", short_help="Delete one from the cache.")
@_id
@_quiet
@_reports
def models_rm(model_id: str, quiet: bool) -> None:
    """Delete a model from the cache; ID as `llmzip models list` has it, or the path it was converted from, which stays. A name from `add` goes, too."""
    from llmzip.models import own_names, resolve, store

    try:
        found = resolve.find_cached(model_id)
    except ModelUnavailableError:
        found = None
    folder = found.folder if found else store.folder_for(model_id)
    if folder.is_dir():  # a damaged one is not found, but exists
        store.remove(folder)
        deleted = f"{found.model_id if found else model_id}: deleted {display_name(str(folder))}"
    elif own_names.source_of(model_id) != model_id:
        deleted = f"{model_id}: was not cached, and is no name any more"
    else:
        raise FileError(f"no model {model_id} in {store.cache_dir()}; see: llmzip models list")
    own_names.remove(model_id)
    if not quiet:
        click.echo(deleted)


@models.command("verify", short_help="Check every byte, and this machine.")
@_in_use(shell_complete=_cached_ids)
@opt.machine
@_quiet
@_reports
def models_verify(model_id: str, threads: int | None, device: str, quiet: bool) -> None:
    """Check every byte of a cached model, by default LLMZIP_MODEL's or the default one, and that this machine codes with it as it must."""
    cached = _cached(model_id)
    from llmzip.codec.verification import verify

    proven = verify(cached, threads or None, device)
    if not quiet:
        click.echo(f"{cached.model_id}: {proven}")


@models.command("export", short_help="Write one to a file.")
@_id
@click.option("-o", "--output", metavar="FILE", required=True, type=opt.Output(), help="Write to FILE; - is standard output.")
@click.option("-f", "--force", is_flag=True, help="Overwrite FILE.")
@_reports
def models_export(model_id: str, output: str, force: bool) -> None:
    """Write a cached model to one file, for `llmzip models import` on a machine without a network."""
    if output == STDIO and sys.stdout.isatty():
        raise FileError("will not write a model to a terminal; use -o FILE, or redirect")
    check_absent(output, force or output == STDIO)
    cached = _cached(model_id)
    from llmzip.models.transfer import export_model

    with writing(output, force) as sink:
        export_model(cached, sink)


@models.command("import", short_help="Read one from such a file.")
@click.argument("file", metavar="FILE", type=click.Path())
@click.option("--force", is_flag=True, help="Replace another model of the same ID.")
@_quiet
def models_import(file: str, force: bool, quiet: bool) -> None:
    """Read a model that `llmzip models export` wrote, check it, and put it into the cache."""
    from llmzip.models.transfer import import_model

    try:
        with reading(file) as source:
            cached = import_model(source, force)
    except (LLZError, OSError) as e:
        sys.exit(report_error(file, e))
    if not quiet:
        click.echo(f"{cached.model_id}: weights {cached.digest.hex()} in {display_name(str(cached.folder))}")


def _cached(model_id: str) -> CachedModel:
    from llmzip.models import resolve

    if found := resolve.find_cached(model_id):
        return found
    raise ModelUnavailableError(f"model {model_id} is not in the cache; run: llmzip models pull {model_id}")
