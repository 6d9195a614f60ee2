"""Blocks by any executor in the way of `concurrent.futures`: a pool of processes or threads, or what Dask, MPI and others offer.

Nothing is shared with the executor's workers. So they tell no progress within a block, and a block that one of them has begun goes on to its end.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from typing import Any, Protocol, TypeVar

from llmzip.codec import worker
from llmzip.codec.policy import Policy
from llmzip.codec.pool import Task, Work, WorkerLostError
from llmzip.codec.side_by_side import Workers
from llmzip.options import Options

_R = TypeVar("_R")


class Future(Protocol):
    """What an executor gives for a task, as `concurrent.futures.Future`."""

    def cancel(self) -> Any: ...  # noqa: D102
    def cancelled(self) -> bool: ...  # noqa: D102
    def done(self) -> bool: ...  # noqa: D102
    def result(self) -> Any: ...  # noqa: D102
    def exception(self) -> BaseException | None: ...  # noqa: D102
    def add_done_callback(self, call: Callable[[Any], Any], /) -> Any: ...  # noqa: D102


class Executor(Protocol):
    """What runs tasks, as `concurrent.futures.Executor`."""

    def submit(self, call: Callable[..., Any], /, *arguments: Any) -> Future: ...  # noqa: D102


def workers(executor: Executor, options: Options, policy: Policy = Policy.SMALLEST) -> Workers:
    """A block codec that lets an executor compute. Whoever made the executor ends it."""
    return Workers(options, _Executed(executor, options, policy), policy)


class _Executed:
    """A `Pool` of an executor's workers."""

    alive = None

    def __init__(self, executor: Executor, options: Options, policy: Policy) -> None:
        known = getattr(executor, "_max_workers", None)  # those of the standard library have it
        self.jobs = known if isinstance(known, int) and known > 0 else 2 * (os.cpu_count() or 1)
        self.places = 2 * self.jobs
        self._executor, self._options, self._policy = executor, options, policy
        self._counting, self._busy = threading.Lock(), 0

    def have_room(self) -> bool:
        """See `Pool.have_room`."""
        return self._busy < self.places

    def submit(self, work: Work[_R], beside: deque[Task[Any]]) -> Task[_R]:
        """See `Pool.submit`."""
        try:
            future = self._executor.submit(worker.do_anywhere, self._options, self._policy, work.call, *work.arguments)
        except BrokenExecutor as e:
            raise _lost(work) from e
        if work.size:
            self._count(1)
            future.add_done_callback(lambda _: self._count(-1))
        return _Task(future, work, beside)

    def _count(self, more: int) -> None:
        with self._counting:
            self._busy += more


class _Task(Task[_R]):
    def __init__(self, future: Future, work: Work[_R], beside: deque[Task[Any]]) -> None:
        super().__init__(work, beside)
        self._future, self._done = future, threading.Event()
        future.add_done_callback(lambda _: self._done.set())

    def wait(self, seconds: float) -> bool:
        """See `Task.wait`."""
        return self._done.wait(seconds)

    def outcome(self) -> _R:
        """See `Task.outcome`."""
        try:
            found: _R = self._future.result()
        except BrokenExecutor as e:
            raise _lost(self.work) from e
        return found

    def reached(self) -> tuple[float, float]:
        """See `Task.reached`."""
        return (1.0 if self._future.done() else 0.0), 0.0

    def drop(self) -> None:
        """See `Task.drop`."""
        self._future.cancel()

    def when_done(self, tell: Callable[[_R], None]) -> None:
        """See `Task.when_done`."""
        self._future.add_done_callback(lambda done: None if done.cancelled() or done.exception() else tell(done.result()))


def _lost(work: Work[Any]) -> WorkerLostError:
    return WorkerLostError(
        f"the executor lost a worker while {work.name} was in work, perhaps for lack of memory; make another executor, with fewer workers"
    )
