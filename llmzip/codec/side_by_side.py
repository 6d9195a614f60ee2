"""Blocks side by side: other processes encode and decode them. What comes out does not depend on how many there are.

A block depends on those before it by two things only: the model that is in force in its frame, and the blocks that are held back. So a block
is encoded ahead of its turn as if none were held back, with the model that is known by then. Where that was wrong (`block_codec.holds`), it
is encoded once more at its turn. Coded blocks are decoded with the model record before them, and depend on nothing else.

This process reads, writes and keeps the order. The others only compute, each with its own threads. They end when this one ends, in
whatever way. Signals from a terminal do not reach them: this process decides. Where one of them is ended from outside, all that were at work
are replaced. What they were working on is done again when its turn comes, so a block that ends its process does so alone in the end.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any, Generic, TypeVar

from llmzip.archive.parser import Placed
from llmzip.archive.records import Block, CodedBlock, ModelRecord
from llmzip.codec import worker
from llmzip.codec.block_codec import Announce, Begun, BlockCodec, EncodedBlock, Progress, holds, ignore_progress
from llmzip.codec.ledger import Ledger
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.observer import AnyAccount
from llmzip.codec.policy import Policy
from llmzip.errors import LLZError, reason
from llmzip.options import Options
from llmzip.system import exact_threads

_LOOK = 0.1  # seconds between two looks at how far others are
_ENDING = 0.3  # seconds in which a signal for a whole group ends this process, too
_TRIES = 3  # for a block whose process is lost

_T = TypeVar("_T")
_R = TypeVar("_R")


class WorkerLostError(LLZError):
    """Processes that computed for this one are lost again and again, or could not be started."""


class Workers(BlockCodec):
    """A block codec that lets other processes compute. They are started when there is work for them, and load their models then.

    Threads that share it do not wait for each other.

    Args:
        options: how to compute. The threads are divided among the processes.
        jobs: how many processes, at most options.MOST_JOBS.
        policy: as for a `BlockCodec`.
    """

    def __init__(self, options: Options, jobs: int, policy: Policy = Policy.SMALLEST) -> None:
        threads = max(1, (options.threads or exact_threads.default_threads()) // jobs)
        super().__init__(LoadedModels(replace(options, threads=threads)), policy)
        self._jobs, self._context = jobs, multiprocessing.get_context("spawn")
        if os.name == "posix":
            _start_tracker()
        self._starting = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        places = 2 * jobs  # so many blocks are under way, so that no process waits for the next one
        self._free, self._tasks = list(range(places)), 0
        self._reached = self._context.RawArray("d", 2 * places)  # of each place: share of its block done, and bytes of bitstream
        self._dropped = self._context.RawArray("q", places)  # of each place: the number of a task that nobody waits for any more

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

        def begin(content: bytes, beside: deque[_Task[Any]]) -> _Encoding:
            nonlocal at
            at += len(content)
            return self._encoding(content, options, model(), None, beside, at - len(content))

        return self._ahead(contents, begin)

    def decoding(self, records: Iterator[Placed], announce: Announce | None) -> Iterator[tuple[Placed, Begun[bytes] | None]]:
        """See `BlockCodec.decoding`."""

        def begin(placed: Placed, beside: deque[_Task[Any]]) -> _Task[bytes] | None:
            if placed.model is None or not isinstance(placed.record, CodedBlock):
                return None
            return self._decoding(placed.record, placed.model, announce, beside, placed.span.start)

        return self._ahead(records, begin)

    def _ahead(self, items: Iterator[_T], begin: Callable[[_T, deque[_Task[Any]]], _R]) -> Iterator[tuple[_T, _R]]:
        """Yield items in their order, while work on further ones has begun. An error comes after all that was before it."""
        waiting, beside, more = deque[tuple[_T, _R]](), deque[_Task[Any]](), True
        failed: Exception | None = None
        try:
            while waiting or more:
                while more and (not waiting or (self._free and len(waiting) < len(self._dropped))):
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
        self, content: bytes, options: Options, model: ModelRecord | None, more: int | None, beside: deque[_Task[Any]], at: int | None
    ) -> _Encoding:  # fmt: skip
        return _Encoding(self._submit(len(content), at, beside, worker.encode, content, options, model, more), model)

    def _decoding(
        self, record: CodedBlock, model: ModelRecord, announce: Announce | None, beside: deque[_Task[Any]], at: int | None
    ) -> _Task[bytes]:  # fmt: skip
        if announce:

            def forecast(shapes: list[Any], tell: Callable[[float], None]) -> None:
                share = min(self._jobs, len(shapes))
                self._submit(0, None, deque(), worker.forecast, model, shapes).when_done(lambda seconds: tell(seconds / share))

            announce(model, record, forecast)
        return self._submit(record.size, at, beside, worker.decode, record, model)

    def _submit(self, size: int, at: int | None, beside: deque[_Task[Any]], work: Callable[..., _R], *arguments: Any) -> _Task[_R]:
        """Let a process do some work. `at`: where the block of this size begins in the input; `beside`: the tasks of the same stream."""
        task: _Task[_R] = _Task(self, size, at, beside, work, arguments)
        self.begin(task)
        beside.append(task)
        return task

    def begin(self, task: _Task[Any]) -> None:
        """Hand a task to a process, also one whose process is lost."""
        with self._starting:
            self._tasks += 1
            place = self._free.pop() if self._free and task.size else None
            if place is not None:
                self._reached[2 * place : 2 * place + 2] = [0.0, 0.0]
            try:
                with _without_signals():
                    try:
                        task.start(self._executor(), place, self._tasks)
                    except BrokenProcessPool:  # no task has noticed yet
                        self._pool = None
                        task.start(self._executor(), place, self._tasks)
            except OSError as e:
                raise WorkerLostError(f"no process can be started ({reason(e)}); free memory, or use fewer --jobs") from e

    def _executor(self) -> ProcessPoolExecutor:
        if self._pool is None:
            logger = logging.getLogger("llmzip")
            given = (self.models.options, self._policy, logger.getEffectiveLevel(), self._reached, self._dropped)
            self._pool = ProcessPoolExecutor(self._jobs, self._context, worker.initialise, given)
        return self._pool

    def lose(self, pool: ProcessPoolExecutor) -> None:
        """Use other processes than those of `pool` from now on, as one of them is gone."""
        with self._starting:
            if self._pool is pool:
                self._pool = None

    def at(self, place: int) -> tuple[float, float]:
        """How far the task at a place is: share of the block, and bytes of its bitstream."""
        return self._reached[2 * place], self._reached[2 * place + 1]

    def free(self, place: int) -> None:
        """Let others have a place."""
        self._free.append(place)

    def drop(self, place: int, number: int) -> None:
        """End a task that a process is busy with. If it has ended already, that changes nothing."""
        self._dropped[place] = number


class _Task(Generic[_R]):
    """Work for another process.

    Attributes:
        size: of the block; 0 if it is not about one.
        at: where the block begins in the input; None if that is not known.
    """

    def __init__(
        self, workers: Workers, size: int, at: int | None, beside: deque[_Task[Any]], work: Callable[..., _R], arguments: tuple[Any, ...]
    ) -> None:  # fmt: skip
        self.size, self.at = size, at
        self._workers, self._beside, self._work, self._arguments = workers, beside, work, arguments
        self._place: int | None = None
        self._number, self._last = 0, (0.0, 0.0)

    def start(self, pool: ProcessPoolExecutor, place: int | None, number: int) -> None:
        """Hand it over."""
        self._pool, self._place, self._number = pool, place, number
        self._future: Future[_R] = pool.submit(worker.do, place, number, self._work, *self._arguments)
        if place is not None:
            self._future.add_done_callback(lambda _: self._workers.free(place))

    def when_done(self, tell: Callable[[_R], None]) -> None:
        """Call `tell` with the result when it is there; not if there is an error."""
        self._future.add_done_callback(lambda done: None if done.cancelled() or done.exception() else tell(done.result()))

    def result(self, progress: Progress) -> _R:
        """Wait for the result. `progress` is told the share of this block that has been done, with all that was done beside it.

        If the process is lost, another one does the work again.

        Raises:
            WorkerLostError: that happened too often.
            Exception: of the work.
        """
        try:
            lost = 0
            while True:
                try:
                    return self._wait(progress)
                except BrokenProcessPool as e:
                    self._workers.lose(self._pool)
                    time.sleep(_ENDING)
                    lost += 1
                    if lost == _TRIES:
                        which = "a block" if self.at is None else f"the block at byte {self.at:,}"
                        raise WorkerLostError(
                            f"the process that worked on {which} was ended from outside {_TRIES} times, perhaps for lack of memory; use fewer --jobs"
                        ) from e
                    self._workers.begin(self)
        finally:
            with contextlib.suppress(ValueError):  # a task that stands alone
                self._beside.remove(self)

    def _wait(self, progress: Progress) -> _R:
        while not wait([self._future], _LOOK).done:
            reached = [(share * task.size, stream) for task in self._beside for share, stream in [task._reached()]]
            progress(sum(done for done, _ in reached) / max(1, self.size), int(sum(stream for _, stream in reached)))
        return self._future.result()

    def drop(self) -> None:
        """End it, as nobody waits for it any more."""
        if not self._future.cancel() and self._place is not None:
            self._workers.drop(self._place, self._number)

    def _reached(self) -> tuple[float, float]:
        if self._future.done():
            self._last = (1.0, self._last[1])
        elif self._place is not None:
            self._last = self._workers.at(self._place)
        return self._last


class _Encoding:
    """A block that is being encoded.

    Attributes:
        model: the model record that was taken to be in force.
        ledger: where the bits go, if that is asked for; set with the result.
    """

    def __init__(self, task: _Task[tuple[EncodedBlock, Ledger | None]], model: ModelRecord | None) -> None:
        self._task, self.model = task, model
        self.ledger: Ledger | None = None

    @property
    def at(self) -> int | None:
        """See `_Task`."""
        return self._task.at

    def result(self, progress: Progress) -> EncodedBlock:
        """See `_Task.result`."""
        encoded, self.ledger = self._task.result(progress)
        return encoded


def _start_tracker() -> None:
    """Start the library's process that removes its semaphores when this process has ended, in whatever way. It would warn of each."""
    given = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        with _without_signals():
            multiprocessing.resource_tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if given is not None:
            os.environ["PYTHONWARNINGS"] = given


@contextlib.contextmanager
def _without_signals() -> Iterator[None]:
    """Processes that are started meanwhile never see a terminal's signals. Other threads of this process do, and this one does afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, worker.FROM_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
