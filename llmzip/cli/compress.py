"""`compress`: archives of files."""

from __future__ import annotations

from typing import Any

import click

from llmzip.cli.common import options as opt
from llmzip.cli.common.job import compress_job
from llmzip.cli.common.runner import run


@click.command(short_help="Compress files, or standard input.")
@opt.files
@opt.levels
@opt.targets
@opt.verify
@opt.parity
@opt.lanes
@opt.block_size
@opt.model
@opt.offline
@opt.machine
@opt.jobs
@opt.loudness
@opt.explain
def compress(**given: Any) -> None:
    """Compress each FILE to FILE.llz and keep it; with no FILE, or -, standard input to standard output."""
    run(compress_job(given))
