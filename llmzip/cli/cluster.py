"""`cluster`: looks at a Ray cluster."""

from __future__ import annotations

import sys
from typing import Any

import click

from llmzip.cli.common import options as opt
from llmzip.cli.common.job import settings_of
from llmzip.errors import LLZError


@click.group(short_help="Check the nodes of a Ray cluster.")
def cluster() -> None:
    """Check the nodes of a Ray cluster."""


@cluster.command("check", short_help="Say which nodes can be used, and why others cannot.")
@click.argument("address", metavar="ADDRESS")
@opt.cpus
@opt.gpus
@opt.one_model
@opt.offline
@opt.machine
@opt.loudness
@click.option(
    "--patience", type=click.FloatRange(1.0), default=300.0, metavar="SECONDS", show_default=True, help="Wait so long for answers."
)
def check(address: str, cpus: int, gpus: float, patience: float, **given: Any) -> None:
    """Start a worker on each node, and compare with this machine: versions, model, and the bytes of an archive.

    ADDRESS is auto, local, HOST:PORT or ray://HOST:PORT. Exit status 3 if a node cannot be used.
    """
    from llmzip.cluster import check as looking
    from llmzip.cluster.joining import joined
    from llmzip.cluster.nodes import Share
    from llmzip.options import Options

    share, status = Share(cpus, gpus), 0
    try:
        with joined(address, share):
            for found in looking.check(Options(**settings_of(given)), share, patience):
                click.echo(f"{found.node}: " + (f"cannot be used: {found.why}" if found.why else f"as this machine; {found.kernels}"))
                status = 3 if found.why else status
    except LLZError as e:
        click.echo(f"llmzip: {e}", err=True)
        status = e.exit_code
    sys.exit(status)
