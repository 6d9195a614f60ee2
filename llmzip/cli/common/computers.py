"""Who computes for a command: this process, others on this machine, or a cluster."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from llmzip.cli.common.job import Job
from llmzip.errors import LLZError
from llmzip.options import MOST_JOBS

if TYPE_CHECKING:
    from llmzip.codec.block_codec import BlockCodec
    from llmzip.options import Options

_MEMORY = 1 << 30  # bytes that a worker takes with the default model, most of them for a block of the default size (README.md)
Maker = Callable[[int, "Options"], "BlockCodec"]  # for so many workers


@contextlib.contextmanager
def computers(job: Job) -> Iterator[tuple[int, Maker]]:
    """How many workers there can be, and what makes a block codec that lets them compute. They end with the block, or with the process."""
    if job.cluster is None:
        yield (_fit(job) if job.workers == 0 else job.workers or 1), _here
        return
    with contextlib.ExitStack() as ending:
        try:
            from llmzip.cluster.joining import joined
            from llmzip.cluster.nodes import Share

            cluster = ending.enter_context(joined(job.cluster, Share(job.cpus, job.gpus), job.workers))
        except LLZError as e:
            _tell(str(e))
            sys.exit(e.exit_code)

        def there(workers: int, options: Options) -> BlockCodec:
            from llmzip.codec.side_by_side import Workers

            say = (lambda what: None) if options.quiet else _tell
            pool = cluster.pool(options, workers, job.action == "compress", say, cross_check=job.cross_check)
            return Workers(options, ending.enter_context(pool))

        yield job.workers or cluster.fit, there


def _fit(job: Job) -> int:
    """How many workers there are cores and memory for on this machine."""
    from llmzip.system import memory
    from llmzip.system.exact_threads import default_threads

    cores, free = job.settings.get("threads") or default_threads(), memory.available()
    return max(1, min(cores, MOST_JOBS, cores if free is None else free // _MEMORY))


def _here(workers: int, options: Options) -> BlockCodec:
    from llmzip.codec import processes
    from llmzip.codec.block_codec import BlockCodec
    from llmzip.codec.loaded_models import LoadedModels

    return processes.workers(options, workers) if workers > 1 else BlockCodec(LoadedModels(options))


def _tell(what: str) -> None:
    """Print a line on standard error, above any progress bar."""
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        click.echo(f"llmzip: {what}", err=True)
