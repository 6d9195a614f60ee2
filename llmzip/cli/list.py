"""`list`: sizes and ratios of archives, in a table. No model is loaded."""

from __future__ import annotations

import click

from llmzip.cli.common import options as opt
from llmzip.cli.common.summaries import show_list


@click.command("list", short_help="Sizes and ratios of archives, in a table.")
@opt.files
@opt.as_json
def list_archives(files: tuple[str, ...], as_json: bool) -> None:
    """List archives in a table: frames, blocks, sizes, ratio. Only records and their checksums are read."""
    show_list(files, as_json)
