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
from dataclasses import replace
from typing import Any, TypeVar

from llmzip.codec import worker
from llmzip.codec.policy import Policy
from llmzip.codec.pool import TRIES, Task, Work, WorkerLostError
from llmzip.codec.side_by_side import Workers
from llmzip.errors import reason
from llmzip.options import Options
from llmzip.system import exact_threads

_ENDING = 0.3  # seconds in which a signal for a whole group ends this process, too

_R = TypeVar("_R")


def workers(options: Options, jobs: int, policy: Policy = Policy.SMALLEST) -> Workers:
    """A block codec that lets `jobs` processes compute, at most options.MOST_JOBS. The threads of the options are divided among them."""
    threads = max(1, (options.threads or exact_threads.default_threads()) // jobs)
    own = replace(options, threads=threads)
    return Workers(own, Processes(jobs, own, policy), policy)


class Processes:
    """A `Pool` of at most `jobs` processes, which are started when there is work for them.

    Args:
        jobs: how many.
        options: how each of them computes.
        policy: of their block codecs.

    Attributes:
        jobs: as given.
        places: so many blocks are under way, so that no process waits for the next one.
        alive: not known.
    """

    alive = None

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

    def submit(self, work: Work[_R], beside: deque[Task[Any]]) -> Task[_R]:
        """See `Pool.submit`."""
        task: _Task[_R] = _Task(self, work, beside)
        try:
            self.begin(task)
        except BaseException:
            beside.remove(task)
            raise
        return task

    def begin(self, task: _Task[Any]) -> None:
        """Hand a task to a process, also one whose process is lost."""
        with self._starting:
            self._tasks += 1
            place = self._free.pop() if self._free and task.work.size else None
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
                raise WorkerLostError(f"no process can be started ({reason(e)}); free memory, or use fewer --workers") from e

    def _executor(self) -> ProcessPoolExecutor:
        if self._pool is None:
            logger = logging.getLogger("llmzip")
            given = (self._options, self._policy, logger.getEffectiveLevel(), self._reached, self._dropped)
            self._pool = ProcessPoolExecutor(self.jobs, self._context, worker.initialise, given)
        return self._pool

    def end(self) -> None:
        """End the processes. What is in work is done before."""
        with self._starting:
            pool, self._pool = self._pool, None
        if pool:
            pool.shutdown(wait=False, cancel_futures=True)

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


class _Task(Task[_R]):
    def __init__(self, processes: Processes, work: Work[_R], beside: deque[Task[Any]]) -> None:
        super().__init__(work, beside)
        self._processes, self._number, self._lost = processes, 0, 0
        self._place: int | None = None

    def start(self, pool: ProcessPoolExecutor, place: int | None, number: int) -> None:
        """Hand it over."""
        self._pool, self._place, self._number = pool, place, number
        self._future: Future[_R] = pool.submit(worker.do, place, number, self.work.call, *self.work.arguments)
        if place is not None:
            self._future.add_done_callback(lambda _: self._processes.free(place))

    def wait(self, seconds: float) -> bool:
        """See `Task.wait`. If the process is lost, another one does the work again."""
        if not wait([self._future], seconds).done:
            return False
        if not self._future.cancelled() and isinstance(error := self._future.exception(), BrokenProcessPool):
            self._begin_again(error)
            return False
        return True

    def _begin_again(self, error: BrokenProcessPool) -> None:
        self._processes.lose(self._pool)
        time.sleep(_ENDING)
        self._lost += 1
        if self._lost == TRIES:
            raise WorkerLostError(
                f"the process that worked on {self.work.name} was ended from outside {TRIES} times, perhaps for lack of memory; use fewer --workers"
            ) from error
        self._processes.begin(self)

    def outcome(self) -> _R:
        """See `Task.outcome`."""
        return self._future.result()

    def reached(self) -> tuple[float, float]:
        """See `Task.reached`."""
        if self._future.done():
            return 1.0, self._last[1]
        return self._last if self._place is None else self._processes.at(self._place)

    def drop(self) -> None:
        """See `Task.drop`."""
        if not self._future.cancel() and self._place is not None:
            self._processes.drop(self._place, self._number)

    def when_done(self, tell: Callable[[_R], None]) -> None:
        """See `Task.when_done`."""
        self._future.add_done_callback(lambda done: None if done.cancelled() or done.exception() else tell(done.result()))


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
