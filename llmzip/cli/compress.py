"""`compress`: archives of files."""

from __future__ import annotations

from typing import Any

import click

from llmzip.cli.common import options as opt
from llmzip.cli.common.corpus import check
from llmzip.cli.common.job import compress_job
from llmzip.cli.common.runner import run, run_corpus


@click.command(short_help="Compress files, or standard input.")
@opt.files
@opt.levels
@opt.targets
@opt.corpus
@opt.verify
@opt.resume
@opt.parity
@opt.lanes
@opt.block_size
@opt.model
@opt.offline
@opt.machine
@opt.workers
@opt.cluster_to_encode
@opt.loudness
@opt.explain
def compress(**given: Any) -> None:
    """Compress each FILE to FILE.llz and keep it; with no FILE, or -, standard input to standard output."""
    recursive, listed = given.pop("recursive"), given.pop("listed")
    job = compress_job(given)
    if recursive or listed is not None:
        check(recursive, listed, job.files, job.output)
        run_corpus(job, job.files[0] if recursive else None, listed)
    run(job)
