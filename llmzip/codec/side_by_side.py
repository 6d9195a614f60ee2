"""Blocks side by side: the workers of a pool encode and decode them. What comes out does not depend on how many there are, nor on what they are.

A block depends on those before it by two things only: the model that is in force in its frame, and the blocks that are held back. So a block
is encoded ahead of its turn as if none were held back, with the model that is known by then. Where that was wrong (`block_codec.holds`), it
is encoded once more at its turn. Coded blocks are decoded with the model record before them, and depend on nothing else.

This process reads, writes and keeps the order. The others only compute, each with its own threads.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from llmzip.archive.parser import Placed
from llmzip.archive.records import Block, CodedBlock, ModelRecord
from llmzip.codec import worker
from llmzip.codec.block_codec import Announce, Begun, BlockCodec, EncodedBlock, Progress, holds, ignore_progress
from llmzip.codec.ledger import Ledger
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.observer import AnyAccount
from llmzip.codec.policy import Policy
from llmzip.codec.pool import Pool, Task, Work
from llmzip.errors import LLZError
from llmzip.options import Options

_T = TypeVar("_T")
_R = TypeVar("_R")


class Workers(BlockCodec):
    """A block codec that lets a pool compute.

    Threads that share it do not wait for each other.

    Args:
        options: how to compute what has to be computed here after all.
        pool: does the work.
        policy: as for a `BlockCodec`; the pool has the same one.
    """

    def __init__(self, options: Options, pool: Pool, policy: Policy = Policy.SMALLEST) -> None:
        super().__init__(LoadedModels(options), policy)
        self._pool = pool

    @property
    def alive(self) -> int | None:
        """How many workers there are now; None if that is not known."""
        return self._pool.alive

    def encode(
        self,
        content: bytes,
        options: Options,
        model: ModelRecord | None = None,
        *,
        added: Callable[[bytes], int | None] = lambda content: None,
        progress: Progress = ignore_progress,
        account: AnyAccount | None = None,
        begun: Begun[EncodedBlock] | None = None,
    ) -> EncodedBlock:
        """See `BlockCodec.encode`. An account other than a ledger has to watch in this process."""
        if account is not None and not isinstance(account, Ledger):
            return super().encode(content, options, model, added=added, progress=progress, account=account)
        task = begun if isinstance(begun, _Encoding) else None
        encoded = task.result(progress) if task else None
        if task is None or encoded is None or not holds(encoded, task.model, model, lambda: added(content)):
            task = self._encoding(content, options, model, added(content), deque(), task.at if task else None)
            encoded = task.result(progress)
        if account is not None and task.ledger:
            account.add(task.ledger)
        return encoded

    def decode(
        self, record: Block, model: ModelRecord | None, progress: Progress = ignore_progress, announce: Announce | None = None,
        begun: Begun[bytes] | None = None,
    ) -> bytes:  # fmt: skip
        """See `BlockCodec.decode`. Blocks that need no model are decoded in this process."""
        if model is None or not isinstance(record, CodedBlock):
            return super().decode(record, model, progress)
        return (begun or self._decoding(record, model, announce, deque(), None)).result(progress)

    def encoding(
        self, contents: Iterator[bytes], options: Options, model: Callable[[], ModelRecord | None]
    ) -> Iterator[tuple[bytes, Begun[EncodedBlock] | None]]:  # fmt: skip
        """See `BlockCodec.encoding`."""
        at = 0

        def begin(content: bytes, beside: deque[Task[Any]]) -> _Encoding:
            nonlocal at
            at += len(content)
            return self._encoding(content, options, model(), None, beside, at - len(content))

        return self._ahead(contents, begin)

    def decoding(self, records: Iterator[Placed], announce: Announce | None) -> Iterator[tuple[Placed, Begun[bytes] | None]]:
        """See `BlockCodec.decoding`."""

        def begin(placed: Placed, beside: deque[Task[Any]]) -> Task[bytes] | None:
            if placed.model is None or not isinstance(placed.record, CodedBlock):
                return None
            return self._decoding(placed.record, placed.model, announce, beside, placed.span.start)

        return self._ahead(records, begin)

    def _ahead(self, items: Iterator[_T], begin: Callable[[_T, deque[Task[Any]]], _R]) -> Iterator[tuple[_T, _R]]:
        """Yield items in their order, while work on further ones has begun. An error comes after all that was before it."""
        waiting, beside, more = deque[tuple[_T, _R]](), deque[Task[Any]](), True
        failed: Exception | None = None
        try:
            while waiting or more:
                while more and (not waiting or (self._pool.have_room() and len(waiting) < self._pool.places)):
                    try:
                        item = next(items)
                        waiting.append((item, begin(item, beside)))
                    except StopIteration:
                        more = False
                    except (LLZError, OSError) as e:
                        more, failed = False, e
                if waiting:
                    yield waiting.popleft()
            if failed:
                raise failed
        finally:
            for task in beside:
                task.drop()

    def _encoding(
        self, content: bytes, options: Options, model: ModelRecord | None, more: int | None, beside: deque[Task[Any]], at: int | None
    ) -> _Encoding:  # fmt: skip
        work = Work(worker.encode, (content, options, model, more), len(content), at, model, functools.partial(_proof, content, at))
        return _Encoding(self._pool.submit(work, beside), model)

    def _decoding(
        self, record: CodedBlock, model: ModelRecord, announce: Announce | None, beside: deque[Task[Any]], at: int | None
    ) -> Task[bytes]:  # fmt: skip
        if announce:

            def forecast(shapes: list[Any], tell: Callable[[float], None]) -> None:
                share = min(self._pool.jobs, len(shapes))
                work = Work(worker.forecast, (model, shapes), model=model)
                self._pool.submit(work, deque()).when_done(lambda seconds: tell(seconds / share))

            announce(model, record, forecast)
        return self._pool.submit(Work(worker.decode, (record, model), record.size, at, model), beside)


def _proof(content: bytes, at: int | None, result: tuple[EncodedBlock, Ledger | None]) -> tuple[Work[bytes], bytes] | None:
    """What has to give the content, if a block was encoded rightly; None where no model was used."""
    block, model, _ = result[0]
    if model is None or not isinstance(block, CodedBlock):
        return None
    return Work(worker.decode, (block, model), len(content), at, model), content


class _Encoding:
    """A block that is being encoded.

    Attributes:
        model: the model record that was taken to be in force.
        at: where the block begins in the input; None if that is not known.
        ledger: where the bits go, if that is asked for; set with the result.
    """

    def __init__(self, task: Task[tuple[EncodedBlock, Ledger | None]], model: ModelRecord | None) -> None:
        self._task, self.model, self.at = task, model, task.work.at
        self.ledger: Ledger | None = None

    def result(self, progress: Progress) -> EncodedBlock:
        """See `Task.result`."""
        encoded, self.ledger = self._task.result(progress)
        return encoded
