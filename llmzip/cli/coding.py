"""`compress`, `decompress`, `test`, and all of them as gzip and xz have them: `llmzip -d`, `llmzip -t`, ..."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import click

from llmzip.cli import options as opt
from llmzip.cli.running import SUFFIX, Job, run
from llmzip.files import FileError

_verify = click.option("--verify", is_flag=True, help="Decode each archive again and compare before it gets its name.")
_explain = click.option("--explain", is_flag=True, help="Say where the bits went, on standard error; takes a little longer.")

_salvage = click.option(
    "--salvage", is_flag=True, help="Write what is left of a damaged archive, and say what is missing; exit status 1 if anything is."
)


@click.command(short_help="Compress files, or standard input.")
@opt.files
@opt.levels
@opt.targets
@_verify
@opt.parity
@opt.lanes
@opt.model
@opt.offline
@opt.machine
@opt.loudness
@_explain
def compress(**given: Any) -> None:
    """Compress each FILE to FILE.llz and keep it; with no FILE, or -, standard input to standard output."""
    run(_compress_job(given))


@click.command(short_help="Restore files from archives.")
@opt.files
@opt.targets
@_salvage
@opt.max_output
@opt.model_place
@opt.offline
@opt.machine
@opt.loudness
def decompress(**given: Any) -> None:
    """Restore FILE from each FILE.llz and keep the archive; with no FILE, or -, standard input to standard output."""
    run(_restore_job("decompress", given))


@click.command(short_help="Decode archives and check them, write nothing.")
@opt.files
@opt.max_output
@opt.model_place
@opt.offline
@opt.machine
@opt.loudness
def test(**given: Any) -> None:
    """Decode each archive and check it, without writing anything; silent if all is well."""
    run(_restore_job("test", given))


class _Unnamed(click.Context):
    """Of a command whose name nobody types."""

    @property
    def command_path(self) -> str:
        return super().command_path.rstrip()


class _Classic(click.Command):
    context_class = _Unnamed


@click.command(hidden=True, cls=_Classic)
@opt.files
@click.option("-z", "--compress", "action", flag_value="compress", default="compress", help="Compress; the default.")
@click.option("-d", "--decompress", "action", flag_value="decompress", help="Decompress.")
@click.option("-t", "--test", "action", flag_value="test", help="Check archives, without writing anything.")
@click.option("-l", "--list", "action", flag_value="list", help="List what archives hold.")
@opt.levels
@opt.targets
@_verify
@opt.parity
@_salvage
@opt.max_output
@opt.lanes
@opt.model
@opt.offline
@opt.machine
@opt.loudness
@_explain
@opt.as_json
def classic(action: str, as_json: bool, **given: Any) -> None:
    """Compress, decompress, test or list, with the options of gzip and xz."""
    _refuse_command(given["files"][:1])
    if given["salvage"] and action != "decompress":
        raise click.UsageError("--salvage goes with -d.")
    if action == "list":
        from llmzip.cli.listing import show_list

        show_list(given["files"], as_json)
    elif action == "compress":
        run(_compress_job(given))
    else:
        run(_restore_job(action, given))


def _refuse_command(first: Sequence[str]) -> None:
    """Raises `click.UsageError` for `llmzip -v decompress a.llz`, which would compress the archive."""
    ctx = click.get_current_context().parent
    for name in first:
        if ctx and isinstance(ctx.command, click.Group) and name in ctx.command.list_commands(ctx) and not os.path.lexists(name):
            raise click.UsageError(f"Options come after the command: llmzip {name} [OPTIONS]...")


def _settings(given: dict[str, Any], *names: str) -> dict[str, Any]:
    settings = {name: given[name] for name in ("model", "offline", "device", "quiet", *names)}
    return settings | {"threads": given["threads"] or None}


def _compress_job(given: dict[str, Any]) -> Job:
    same = {name: given[name] for name in ("files", "output", "to_stdout", "force", "remove", "verify")}
    return Job(
        "compress",
        target=functools.partial(_with_suffix, force=given["force"]),
        settings=_settings(given, "level", "lanes", "explain", "parity"),
        **same,
    )


def _restore_job(action: str, given: dict[str, Any]) -> Job:
    names = ("files",) if action == "test" else ("files", "output", "to_stdout", "force", "remove", "salvage")
    return Job(action, target=_without_suffix, settings=_settings(given, "max_output"), **{name: given[name] for name in names})


def _with_suffix(name: str, force: bool) -> str:
    if name.endswith(SUFFIX) and not force:
        raise FileError(f"ends in {SUFFIX} already, and is left alone; use -f to compress it again, or -o")
    return name + SUFFIX


def _without_suffix(name: str) -> str:
    if not name.endswith(SUFFIX) or len(os.path.basename(name)) == len(SUFFIX):
        raise FileError(f"does not end in {SUFFIX}; name the output with -o, or use -c")
    return name[: -len(SUFFIX)]
