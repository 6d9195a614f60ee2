"""`models`: lists, fetches, checks, moves and deletes models."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from llmzip.cli.common import options as opt
from llmzip.cli.common.report import report_error
from llmzip.errors import LLZError, ModelMismatchError, ModelUnavailableError
from llmzip.models.registry import DEFAULT_MODEL, REGISTRY
from llmzip.system.file_names import STDIO, FileError, display_name
from llmzip.system.input_files import reading
from llmzip.system.output_files import check_absent, writing

if TYPE_CHECKING:
    from llmzip.models.store import CachedModel


def _cached_ids(_context: click.Context, _argument: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For completion: cached models, or else files and folders."""
    from llmzip.models import store

    here = []
    with contextlib.suppress(LLZError):  # no cache is readable for this user
        here = [CompletionItem(m.model_id) for m in store.cached_models() if m.model_id.startswith(incomplete)]
    return here or [CompletionItem(incomplete, type="file")]


_id = click.argument("model_id", metavar="ID", shell_complete=_cached_ids)
_in_use = functools.partial(click.argument, "model_id", metavar="[ID]", envvar="LLMZIP_MODEL", default=DEFAULT_MODEL)
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


@click.group(invoke_without_command=True, short_help="List, fetch, check, move and delete models.")
@click.pass_context
def models(context: click.Context) -> None:
    """List, fetch, check, move and delete models. Without a command: list."""
    if not context.invoked_subcommand:
        context.invoke(models_list, as_json=False)


@models.command("list", short_help="List them, here or not.")
@opt.as_json
@_reports
def models_list(as_json: bool) -> None:
    """List the models llmzip knows and those it has here; the digest is that of the converted weights."""
    entries = _entries()
    if as_json:
        click.echo(json.dumps(entries, indent=2))
    for entry in [] if as_json else entries:
        click.echo(f"{entry['id']}  ({_state(entry)})\n  {'digest':<8}{entry['digest']}")
        if entry["folder"]:
            click.echo(f"  {'folder':<8}{display_name(entry['folder'])}")


def _entries() -> list[dict[str, Any]]:
    from llmzip.models import store

    here = {m.model_id: m for m in store.cached_models()}
    entries = []
    for model_id in [*REGISTRY, *(name for name in here if name not in REGISTRY)]:
        known, cached = REGISTRY.get(model_id), here.get(model_id)
        digest = known.digest if known else cached.digest.hex() if cached else ""
        entries.append(
            {
                "id": model_id,
                "default": model_id == DEFAULT_MODEL,
                "cached": cached is not None and cached.digest.hex() == digest,
                "outdated": cached is not None and cached.digest.hex() != digest,
                "size": cached.size() if cached else None,
                "download": known.download if known else None,
                "licence": known.licence if known else None,
                "digest": digest,
                "folder": str(cached.folder) if cached else None,
            }
        )
    return entries


def _state(entry: dict[str, Any]) -> str:
    from llmzip.models.store import megabytes

    to_download = f"{(entry['download'] or 0) / 1e6:.0f} MB to download"
    if entry["cached"]:
        parts = [f"cached, {megabytes(entry['size'])}"]
    elif entry["outdated"]:
        parts = [f"cached as another version of llmzip has it, {megabytes(entry['size'])}, {to_download}"]
    else:
        parts = [f"not cached, {to_download}"]
    return ", ".join([*parts, *(["default"] if entry["default"] else []), *([entry["licence"]] if entry["licence"] else [])])


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
    """Delete a model from the cache; ID as `llmzip models list` has it, or the path it was converted from, which stays."""
    from llmzip.models import resolve, store

    try:
        found = resolve.find_cached(model_id)
    except ModelUnavailableError:
        found = None
    folder = found.folder if found else store.folder_for(model_id)
    if not found and not folder.is_dir():  # a damaged one exists, but is not found
        raise FileError(f"no model {model_id} in {store.cache_dir()}; see: llmzip models list")
    store.remove(folder)
    if not quiet:
        click.echo(f"{found.model_id if found else model_id}: deleted {display_name(str(folder))}")


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
