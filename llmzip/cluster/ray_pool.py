"""A pool of workers on the nodes of a Ray cluster.

One thread does everything that Ray and the callers ask for, one event after another; the others only wait.

What can go wrong: a worker or its node is lost, then another one does the work, `pool.TRIES` times; a worker is slow, then the block that everybody waits
for is begun a second time; a node cannot reproduce a block, then another node tries, and if it can, the first one is left out.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import queue
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from llmzip.cluster import nodes
from llmzip.cluster.crew import Crew, Listener, Member, Terms
from llmzip.cluster.host import Failed
from llmzip.cluster.library import ClusterError
from llmzip.cluster.nodes import Node
from llmzip.cluster.tasks import Attempt, ClusterTask, Limits, placed
from llmzip.codec.pool import TRIES, Task, Work, WorkerLostError
from llmzip.errors import DamagedArchiveError, InexactMachineError, LLZError, NotReproducedError, quoted

_log = logging.getLogger(__name__)
_TICK = 1.0  # seconds between two looks at how far workers are
_PATIENCE = 30.0  # seconds without any worker after which the user is told

_ENDING = 2.0  # seconds that ending all workers may take

_R = TypeVar("_R")


class RayPool:
    """A `Pool` of a cluster's workers.

    Args:
        terms: what is asked of them.
        jobs: how many there may be.
        cross_check: percent of the blocks that another node decodes after they were encoded.
        say: is told what the user should know.
        limits: when a block takes too long.

    Attributes:
        lost: why the cluster cannot be reached any more; None as long as it can.
        crew: the workers.
        checked: how many blocks another node has decoded to check them.
    """

    def __init__(
        self, terms: Terms, jobs: int, cross_check: int = 0, say: Callable[[str], None] = _log.warning, limits: Limits | None = None
    ) -> None:  # fmt: skip
        self.jobs, self.places = jobs, 2 * jobs
        self._terms, self._cross_check, self._say, self._limits = terms, cross_check, say, limits or Limits()
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._counting, self._busy = threading.Lock(), 0
        self.crew = Crew(terms, self._events.put, Listener(self._ready, self._done, self._gone, self._refused))
        self._waiting: deque[Attempt] = deque()
        self._working: dict[Member, Attempt] = {}
        self._paces: dict[Any, list[float]] = {}  # seconds for each byte, of each kind of work
        self.checked = 0
        self._due = 0  # percent of blocks to check that have come together
        self._unready = 0  # workers in a row that were lost before they were ready
        self._alone_since, self._told = time.monotonic(), False
        self._looked = 0.0
        self._failed: LLZError | None = None  # what ended everything
        self.lost: LLZError | None = None
        self._thread = threading.Thread(target=self._run, name="llmzip cluster", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> int:
        """How many workers are ready or at work."""
        return sum(member.ready for member in list(self.crew.members))

    def have_room(self) -> bool:
        """See `Pool.have_room`."""
        return self._busy < self.places

    def submit(self, work: Work[_R], beside: deque[Task[Any]]) -> Task[_R]:
        """See `Pool.submit`."""
        task: ClusterTask[_R] = ClusterTask(self, work, beside)
        if work.size:
            self._count(1)
        self.post(functools.partial(self._wait, Attempt(task, work)))
        return task

    def _wait(self, attempt: Attempt) -> None:
        if not attempt.task.over:
            self._waiting.append(attempt)

    def stop(self) -> None:
        """End all workers. The pool is of no use afterwards."""
        self._events.put(None)
        self._thread.join(_ENDING)

    def lose(self, why: LLZError) -> None:
        """Let all who wait have an error. From any thread: the pool's own may be waiting for the cluster."""
        self.lost = why

    def post(self, event: Callable[[], None]) -> None:
        """Let the pool's thread do something."""
        self._events.put(event)

    def _count(self, more: int) -> None:
        with self._counting:
            self._busy += more

    def ended(self, task: ClusterTask[Any]) -> None:
        """Let nobody work any more for a task that is over. Only the pool's thread calls this."""
        if task.work.size:
            self._count(-1)
        self._waiting = deque(attempt for attempt in self._waiting if attempt.task is not task)
        for member, attempt in self._working.items():
            if attempt.task is task:
                self.crew.drop(member)

    def _run(self) -> None:
        while (event := self._next()) is not None:
            try:
                event()
                if self._failed is None:
                    self._look()
                    self._hand_out()
            except Exception as e:  # Ray has many, as when the cluster is gone
                _log.debug("the cluster failed", exc_info=True)
                lost = f"the cluster does not answer any more ({quoted(e)}); see that it runs: ray status"
                self._failed = e if isinstance(e, LLZError) else ClusterError(lost)
            if self._failed is not None:
                self._fail(self._failed)
        with contextlib.suppress(Exception):  # the cluster may be gone
            for member in list(self.crew.members):
                self.crew.dismiss(member)

    def _next(self) -> Callable[[], None] | None:
        try:
            return self._events.get(timeout=_TICK)
        except queue.Empty:
            return lambda: None

    def _fail(self, error: LLZError) -> None:
        """End all that is to be done with an error."""
        tasks = {attempt.task for attempt in (*self._waiting, *self._working.values())}
        self._waiting.clear()
        self._working.clear()
        for task in tasks:
            task.finish(error=error)

    def _hand_out(self) -> None:
        """Give work to idle workers, and start those that are missing."""
        for attempt in list(self._waiting):
            idle = [m for m in self.crew.members if m.ready and m not in self._working and m.node not in attempt.avoid]
            if not idle:
                continue
            self._waiting.remove(attempt)
            self._working[idle[0]] = attempt
            self.crew.assign(idle[0], attempt.work)
        wanted = min(self.jobs, len(self._waiting) + len(self._working))
        while len(self.crew.members) < wanted:
            self.crew.start()

    def _look(self) -> None:
        """See to what no event tells, now and then."""
        if time.monotonic() - self._looked < _TICK:
            return
        self._looked = time.monotonic()
        self.crew.ask()
        self._give_up_if_all_are_refused()
        for member, attempt in self._working.items():
            attempt.reached = max(attempt.reached, member.reached)
        self._copy_what_is_slow()
        for attempt in [a for a in self._waiting if a.avoid]:
            self._find_place(attempt)
        if self.alive or not self._waiting:
            self._alone_since, self._told = time.monotonic(), False
        elif not self._told and time.monotonic() - self._alone_since > _PATIENCE:
            self._told = True
            share = self._terms.share
            gpus = f" and {share.gpus:g} GPUs" if share.gpus else ""
            self._say(f"waiting for a node of the cluster with {share.cpus} free CPUs{gpus}")

    def _give_up_if_all_are_refused(self) -> None:
        """Raise ClusterError if no node is left. A node that died is in Ray's list for a while, so one look when a node is refused would not do."""
        if not self._waiting or not self.crew.refused or self.alive:
            return
        there = nodes.alive(self._terms.share)  # if there is none, one may come
        if there and all(node in self.crew.refused for node in there):
            node, why = list(self.crew.refused.items())[-1]
            raise ClusterError(f"no node of the cluster can be used; {node}: {why}")

    def _copy_what_is_slow(self) -> None:
        """Let a second worker do what everybody waits for, if it takes too long and somebody is idle."""
        for member, attempt in list(self._working.items()):
            paces = self._paces.get(attempt.work.call)
            idle = [m for m in self.crew.members if m.ready and m not in self._working]
            if not (attempt.task.waited and paces and idle and not attempt.copied and not self._waiting):
                continue
            usual = self._limits.times * statistics.median(paces) * attempt.work.size
            if time.monotonic() - member.since > max(self._limits.least, usual):
                attempt.copied = True
                elsewhere = {member.node} if member.node and any(m.node != member.node for m in idle) else set()
                self._waiting.append(Attempt(attempt.task, attempt.work, elsewhere, attempt.proves, copied=True))

    def _find_place(self, attempt: Attempt) -> None:
        """See that there will be a worker on a node that an attempt does not avoid."""
        open_to = {node for node in nodes.alive(self._terms.share) if node not in self.crew.refused} - attempt.avoid
        if not open_to:
            if attempt.task.unreproduced:
                self._waiting.remove(attempt)
                attempt.task.finish(error=attempt.task.unreproduced[1])
            attempt.avoid = set()  # better here than nowhere
            return
        if any(m.node is None or m.node in open_to for m in self.crew.members):
            return
        if len(self.crew.members) >= self.jobs:
            idle = next((m for m in self.crew.members if m.ready and m not in self._working), None)
            if idle is None:
                return
            self.crew.dismiss(idle)
        self.crew.start(attempt.avoid)

    def _ready(self, _member: Member) -> None:
        self._unready = 0

    def _refused(self, node: Node, why: str) -> None:
        self._say(f"{node} is left out: {why}")

    def _gone(self, member: Member, why: str) -> None:
        attempt = self._working.pop(member, None)
        if attempt is None:
            self._unready += bool(why) and not member.ready
            if self._unready >= TRIES * self.jobs:
                raise ClusterError(f"workers cannot be started on the cluster ({why}); see the logs of its nodes")
            return
        if attempt.task.over:
            return
        if why:
            attempt.task.lost += 1
            _log.info("%s: the worker on %s is lost: %s", attempt.work.name, member.node, why)
        if attempt.task.lost >= TRIES:
            where = f"the last one on {member.node} ({why})"
            attempt.task.finish(
                error=WorkerLostError(f"{attempt.work.name}: {TRIES} workers that had it were lost, {where}, perhaps for lack of memory")
            )
        else:
            self._waiting.appendleft(attempt)

    def _done(self, member: Member, answer: Any) -> None:
        attempt = self._working.pop(member)
        work, member.work = attempt.work, None
        task, node = attempt.task, member.node
        assert node
        if task.over:
            return
        error = answer.error if isinstance(answer, Failed) else None
        if error is None and work.size:
            self._paces.setdefault(work.call, []).append((time.monotonic() - member.since) / work.size)
        if attempt.proves and not (error and not isinstance(error, (NotReproducedError, DamagedArchiveError))):
            attempt.proves(answer, node)
        elif isinstance(error, NotReproducedError) and not task.unreproduced:
            task.unreproduced = (node, error)
            self._waiting.appendleft(Attempt(task, work, {node}))
        elif error is not None:
            task.finish(error=placed(error, work, node))
        else:
            if task.unreproduced:
                self.crew.refuse(task.unreproduced[0], f"it could not reproduce {work.name}, and {node} could")
            self._prove(task, answer, node)

    def _prove(self, task: ClusterTask[Any], value: Any, node: Node) -> None:
        """Finish a task, if need be after another node has proven its result."""
        proof = task.work.proof and self._cross_check and task.work.proof(value)
        if not proof:
            task.finish(value)
            return
        self._due += self._cross_check
        if self._due < 100:
            task.finish(value)
            return
        self._due -= 100
        work, content = proof

        def proves(answer: Any, other: Node) -> None:
            if answer == content:
                self.checked += 1
                task.finish(value)
            else:
                task.finish(
                    error=InexactMachineError(
                        f"{work.name}: what {node} encoded does not decode on {other}; test the memory of both, and leave out the one that errs"
                    )
                )

        self._waiting.appendleft(Attempt(task, work, {node}, proves))
