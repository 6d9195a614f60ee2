"""The tasks of a cluster's pool, and the attempts at them."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from llmzip.cluster.nodes import Node
from llmzip.codec.pool import Task, Work
from llmzip.codec.worker import DroppedError
from llmzip.errors import LLZError, NotReproducedError

_R = TypeVar("_R")


class Pool(Protocol):
    """What tasks need of their pool.

    Attributes:
        lost: why nothing comes from it any more; None as long as something may.
    """

    @property
    def lost(self) -> LLZError | None: ...  # noqa: D102

    def post(self, event: Callable[[], None]) -> None:
        """Let the pool's thread do something."""
        ...

    def ended(self, task: ClusterTask[Any]) -> None:
        """Be told that a task is over. Only the pool's thread calls this."""
        ...


@dataclass(frozen=True)
class Limits:
    """When a block takes too long.

    Attributes:
        least: seconds that it may take in any case.
        times: so many times what blocks of its kind and size take.
    """

    least: float = 30.0
    times: float = 4.0


@dataclass(eq=False)
class Attempt:
    """Work that waits for a worker, or has one.

    Attributes:
        task: what it is for.
        work: what is to be done.
        avoid: nodes that must not do it.
        proves: if it proves a result, is called with what it gave, and where.
        copied: whether it was begun a second time, or is that second one.
        reached: how far it is.
    """

    task: ClusterTask[Any]
    work: Work[Any]
    avoid: set[Node] = field(default_factory=set)
    proves: Callable[[Any, Node], None] | None = None
    copied: bool = False
    reached: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        self.task.attempt = self


class ClusterTask(Task[_R]):
    """What the pool's users wait for.

    Attributes:
        waited: whether somebody waits for it.
        lost: workers that were lost with it.
        unreproduced: the node that could not reproduce it, and its error; None if there is none.
        attempt: the latest one.
    """

    attempt: Attempt

    def __init__(self, pool: Pool, work: Work[_R], beside: deque[Task[Any]]) -> None:
        super().__init__(work, beside)
        self._pool, self._over = pool, threading.Event()
        self._value: Any = None
        self._error: Exception | None = None
        self._listeners: list[Callable[[_R], None]] = []
        self.waited, self.lost = False, 0
        self.unreproduced: tuple[Node, Exception] | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is to be done for it any more."""
        return self._over.is_set()

    def finish(self, value: Any = None, error: Exception | None = None) -> None:
        """Set what it gave. Only the pool's thread calls this."""
        if self.over:
            return
        self._value, self._error = value, error
        self._over.set()
        self._pool.ended(self)
        if error is None:
            for tell in self._listeners:
                tell(value)

    def wait(self, seconds: float) -> bool:
        """See `Task.wait`."""
        self.waited = True
        return self._over.wait(seconds) or self._pool.lost is not None

    def outcome(self) -> _R:
        """See `Task.outcome`."""
        if not self.over and self._pool.lost:
            raise self._pool.lost
        if self._error is not None:
            raise self._error
        value: _R = self._value
        return value

    def reached(self) -> tuple[float, float]:
        """See `Task.reached`."""
        return (1.0, self._last[1]) if self.over else self.attempt.reached

    def drop(self) -> None:
        """See `Task.drop`."""
        self._pool.post(functools.partial(self.finish, error=DroppedError()))

    def when_done(self, tell: Callable[[_R], None]) -> None:
        """See `Task.when_done`."""
        self._pool.post(lambda: tell(self.outcome()) if self.over and self._error is None else self._listeners.append(tell))


def placed(error: Exception, work: Work[Any], node: Node) -> Exception:
    """An error, with the block and the node where it came up if that may be at fault."""
    if isinstance(error, LLZError) and error.exit_code == NotReproducedError.exit_code:
        error.args = (f"{error} ({work.name}, on {node})",)
    return error
