"""What runs in a process that encodes and decodes blocks for another one (`pool`)."""

from __future__ import annotations

import functools
import gc
import logging
import multiprocessing
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from llmzip.archive.records import CodedBlock, ModelRecord
from llmzip.codec.block_codec import BlockCodec, EncodedBlock, Progress, ignore_progress
from llmzip.codec.ledger import Ledger
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.policy import Policy
from llmzip.codec.pool import Call
from llmzip.options import Options
from llmzip.system import exact_threads, processors

if TYPE_CHECKING:
    from llmzip.codec.any_model import Shape

FROM_TERMINAL = [number for name in ("SIGINT", "SIGHUP") if (number := getattr(signal, name, None))]

_R = TypeVar("_R")


class DroppedError(Exception):
    """Ends a task that nobody waits for any more."""


_blocks: BlockCodec
_reached: Any
_dropped: Any


def initialise(options: Options, policy: Policy, loudness: int, reached: Any, dropped: Any) -> None:
    """Make a process ready, before its first task."""
    global _blocks, _reached, _dropped
    for number in FROM_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    surroundings()
    logging.basicConfig(format="llmzip: %(message)s")
    logging.getLogger("llmzip").setLevel(loudness)
    _blocks, _reached, _dropped = BlockCodec(LoadedModels(options), policy), reached, dropped


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def surroundings() -> None:
    """Set this process up for work, as the program does it. Libraries that compute must not be loaded yet."""
    gc.set_threshold(200_000, 20, 20)
    processors.share()


def do(place: int | None, number: int, call: Call[_R], *arguments: Any) -> _R:
    """Do a task, and say at its place how far it is."""

    def report(share: float, stream: int) -> None:
        if place is not None:
            _reached[2 * place : 2 * place + 2] = [share, float(stream)]
            if _dropped[place] == number:
                raise DroppedError

    return call(_blocks, report, *arguments)


def do_anywhere(options: Options, policy: Policy, call: Call[_R], *arguments: Any) -> _R:
    """Do a task in a process that was not made ready for it. What the first one loads stays for those that come next."""
    surroundings()
    with _making:
        blocks = _blocks_for(options, policy)
    return call(blocks, ignore_progress, *arguments)


_making = threading.Lock()  # else threads would each load a model at first


@functools.lru_cache(maxsize=2)
def _blocks_for(options: Options, policy: Policy) -> BlockCodec:
    return BlockCodec(LoadedModels(options), policy)


def encode(
    blocks: BlockCodec, progress: Progress, content: bytes, options: Options, model: ModelRecord | None, more: int | None
) -> tuple[EncodedBlock, Ledger | None]:  # fmt: skip
    """A block, encoded, and where the bits went if that is asked for. `more`: what it adds to blocks that are held back."""
    ledger = Ledger() if options.explain else None
    return blocks.encode(content, options, model, added=lambda _: more, progress=progress, account=ledger), ledger


def decode(blocks: BlockCodec, progress: Progress, record: CodedBlock, model: ModelRecord) -> bytes:
    """The content of a block."""
    return blocks.decode(record, model, progress)


def forecast(blocks: BlockCodec, progress: Progress, model: ModelRecord, shapes: list[Shape]) -> float:
    """Seconds that decoding such blocks will take here."""
    return exact_threads.run(lambda _: blocks.models.ready(model).forecast_seconds(model, shapes))
