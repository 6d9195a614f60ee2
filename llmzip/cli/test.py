"""`test`: checks archives and writes nothing."""

from __future__ import annotations

from typing import Any

import click

from llmzip.cli.common import options as opt
from llmzip.cli.common.job import restore_job
from llmzip.cli.common.runner import run


@click.command(short_help="Decode archives and check them, write nothing.")
@opt.files
@opt.max_output
@opt.model_place
@opt.offline
@opt.machine
@opt.workers
@opt.cluster
@opt.loudness
def test(**given: Any) -> None:
    """Decode each archive and check it, without writing anything; silent if all is well."""
    run(restore_job("test", given))
