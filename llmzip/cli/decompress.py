"""`decompress`: files from archives."""

from __future__ import annotations

from typing import Any

import click

from llmzip.cli.common import options as opt
from llmzip.cli.common.job import restore_job
from llmzip.cli.common.runner import run


@click.command(short_help="Restore files from archives.")
@opt.files
@opt.targets
@opt.salvage
@opt.max_output
@opt.model_place
@opt.offline
@opt.machine
@opt.workers
@opt.cluster
@opt.loudness
def decompress(**given: Any) -> None:
    """Restore FILE from each FILE.llz and keep the archive; with no FILE, or -, standard input to standard output."""
    run(restore_job("decompress", given))
