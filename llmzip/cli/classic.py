"""`llmzip` without a command: compresses, decompresses, tests and lists with the options of gzip and xz, as in `llmzip -d`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import click

from llmzip.cli.common import options as opt
from llmzip.cli.common.job import compress_job, restore_job
from llmzip.cli.common.runner import run


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
@opt.verify
@opt.resume
@opt.parity
@opt.salvage
@opt.max_output
@opt.lanes
@opt.block_size
@opt.model
@opt.offline
@opt.machine
@opt.workers
@opt.cluster_to_encode
@opt.loudness
@opt.explain
@opt.as_json
def classic(action: str, as_json: bool, **given: Any) -> None:
    """Compress, decompress, test or list, with the options of gzip and xz."""
    _refuse_command(given["files"][:1])
    if given["salvage"] and action != "decompress":
        raise click.UsageError("--salvage goes with -d.")
    if action == "list":
        from llmzip.cli.common.summaries import show_list

        show_list(given["files"], as_json)
    elif action == "compress":
        run(compress_job(given))
    else:
        ctx = click.get_current_context()
        option = next(p for p in ctx.command.params if p.name == "model")
        given["model"] = opt.named(ctx, option, given["model"])
        run(restore_job(action, given))


def _refuse_command(first: Sequence[str]) -> None:
    """Raises `click.UsageError` for `llmzip -v decompress a.llz`, which would compress the archive."""
    ctx = click.get_current_context().parent
    for name in first:
        if ctx and isinstance(ctx.command, click.Group) and name in ctx.command.list_commands(ctx) and not os.path.lexists(name):
            raise click.UsageError(f"Options come after the command: llmzip {name} [OPTIONS]...")
