"""`warmup`: everything that the first use does, done before it."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from llmzip.cli.common import options as opt
from llmzip.cli.common.job import settings_of
from llmzip.errors import LLZError


@click.command(short_help="Fetch the model and compile for this processor, before the first use.")
@opt.one_model
@opt.offline
@opt.machine
@opt.loudness
def warmup(**given: Any) -> None:
    """Fetch and convert the model, and compile all code for this processor: for images of machines and containers, and for the nodes of a cluster."""
    from llmzip.codec import verification
    from llmzip.options import Options

    start = time.monotonic()
    try:
        verification.warm(Options(**settings_of(given)))
    except LLZError as e:
        click.echo(f"llmzip: {e}", err=True)
        sys.exit(e.exit_code)
    if not given["quiet"]:
        click.echo(f"ready, after {time.monotonic() - start:.1f} s")
