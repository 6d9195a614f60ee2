"""What runs in a process that encodes and decodes blocks for another one (`processes`)."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from llmzip.archive.records import CodedBlock, ModelRecord
from llmzip.codec.block_codec import BlockCodec, EncodedBlock, Progress, forecast_seconds, ignore_progress
from llmzip.codec.ledger import Ledger
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.policy import Policy
from llmzip.options import Options
from llmzip.system import exact_threads

if TYPE_CHECKING:
    from llmzip.codec.forecast import Shape

FROM_TERMINAL = [number for name in ("SIGINT", "SIGHUP") if (number := getattr(signal, name, None))]

_R = TypeVar("_R")


class _DroppedError(Exception):
    """Ends a task that nobody waits for any more."""


_blocks: BlockCodec
_reached: Any
_dropped: Any
_report: Progress = ignore_progress


def initialise(options: Options, policy: Policy, loudness: int, reached: Any, dropped: Any) -> None:
    """Make a process ready, before its first task."""
    global _blocks, _reached, _dropped
    for number in FROM_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.set_threshold(200_000, 20, 20)  # as the program does
    logging.basicConfig(format="llmzip: %(message)s")
    logging.getLogger("llmzip").setLevel(loudness)
    _blocks, _reached, _dropped = BlockCodec(LoadedModels(options), policy), reached, dropped


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def do(place: int | None, number: int, work: Callable[..., _R], *arguments: Any) -> _R:
    """Do a task, and say at its place how far it is."""
    global _report

    def report(share: float, stream: int) -> None:
        if place is not None:
            _reached[2 * place : 2 * place + 2] = [share, float(stream)]
            if _dropped[place] == number:
                raise _DroppedError

    _report = report
    return work(*arguments)


def encode(content: bytes, options: Options, model: ModelRecord | None, more: int | None) -> tuple[EncodedBlock, Ledger | None]:
    """A block, encoded, and where the bits went if that is asked for. `more`: what it adds to blocks that are held back."""
    ledger = Ledger() if options.explain else None
    return _blocks.encode(content, options, model, added=lambda _: more, progress=_report, account=ledger), ledger


def decode(record: CodedBlock, model: ModelRecord) -> bytes:
    """The content of a block."""
    return _blocks.decode(record, model, _report)


def forecast(model: ModelRecord, shapes: list[Shape]) -> float:
    """Seconds that decoding such blocks will take here."""
    return exact_threads.run(lambda _: forecast_seconds(_blocks.models.ready(model), model, shapes))
