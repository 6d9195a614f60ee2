"""Other processes that do tasks for this one, of one block each.

They end when this process ends, in whatever way. Signals from a terminal do not reach them: this process decides. Where one of them is ended from
outside, all that were at work are replaced. What they were working on is done again when somebody waits for it, so a block that ends its
process does so alone in the end.
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
from typing import Any, Generic, TypeVar

from llmzip.codec import worker
from llmzip.codec.block_codec import Progress
from llmzip.codec.policy import Policy
from llmzip.errors import LLZError, reason
from llmzip.options import Options

_LOOK = 0.1  # seconds between two looks at how far others are
_ENDING = 0.3  # seconds in which a signal for a whole group ends this process, too
_TRIES = 3  # for a block whose process is lost

_R = TypeVar("_R")


class WorkerLostError(LLZError):
    """Processes that computed for this one are lost again and again, or could not be started."""


class Processes:
    """At most `jobs` processes, which are started when there is work for them.

    Args:
        jobs: how many.
        options: how each of them computes.
        policy: of their block codecs.

    Attributes:
        jobs: as given.
        places: so many blocks are under way, so that no process waits for the next one.
    """

    def __init__(self, jobs: int, options: Options, policy: Policy) -> None:
        self.jobs, self.places = jobs, 2 * jobs
        self._options, self._policy, self._context = options, policy, multiprocessing.get_context("spawn")
        if os.name == "posix":
            _start_tracker()
        self._starting = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._free, self._tasks = list(range(self.places)), 0
        self._reached = self._context.RawArray("d", 2 * self.places)  # of each place: share of its block done, and bytes of bitstream
        self._dropped = self._context.RawArray("q", self.places)  # of each place: the number of a task that nobody waits for any more

    def have_room(self) -> bool:
        """Whether another block can be under way."""
        return bool(self._free)

    def submit(self, size: int, at: int | None, beside: deque[Task[Any]], work: Callable[..., _R], *arguments: Any) -> Task[_R]:
        """Let a process do some work. `at`: where the block of this size begins in the input; `beside`: the tasks of the same stream."""
        task: Task[_R] = Task(self, size, at, beside, work, arguments)
        self.begin(task)
        beside.append(task)
        return task

    def begin(self, task: Task[Any]) -> None:
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
                if place is not None:
                    self._free.append(place)
                raise WorkerLostError(f"no process can be started ({reason(e)}); free memory, or use fewer --jobs") from e

    def _executor(self) -> ProcessPoolExecutor:
        if self._pool is None:
            logger = logging.getLogger("llmzip")
            given = (self._options, self._policy, logger.getEffectiveLevel(), self._reached, self._dropped)
            self._pool = ProcessPoolExecutor(self.jobs, self._context, worker.initialise, given)
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


class Task(Generic[_R]):
    """Work for another process.

    Attributes:
        size: of the block; 0 if it is not about one.
        at: where the block begins in the input; None if that is not known.
    """

    def __init__(
        self, processes: Processes, size: int, at: int | None, beside: deque[Task[Any]], work: Callable[..., _R], arguments: tuple[Any, ...]
    ) -> None:  # fmt: skip
        self.size, self.at = size, at
        self._processes, self._beside, self._work, self._arguments = processes, beside, work, arguments
        self._place: int | None = None
        self._number, self._last = 0, (0.0, 0.0)

    def start(self, pool: ProcessPoolExecutor, place: int | None, number: int) -> None:
        """Hand it over."""
        self._pool, self._place, self._number = pool, place, number
        self._future: Future[_R] = pool.submit(worker.do, place, number, self._work, *self._arguments)
        if place is not None:
            self._future.add_done_callback(lambda _: self._processes.free(place))

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
                    self._processes.lose(self._pool)
                    time.sleep(_ENDING)
                    lost += 1
                    if lost == _TRIES:
                        which = "a block" if self.at is None else f"the block at byte {self.at:,}"
                        raise WorkerLostError(
                            f"the process that worked on {which} was ended from outside {_TRIES} times, perhaps for lack of memory; use fewer --jobs"
                        ) from e
                    self._processes.begin(self)
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
            self._processes.drop(self._place, self._number)

    def _reached(self) -> tuple[float, float]:
        if self._future.done():
            self._last = (1.0, self._last[1])
        elif self._place is not None:
            self._last = self._processes.at(self._place)
        return self._last


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
