"""What computes for the process that drives: other processes, any executor, or a cluster. `side_by_side` knows no more of them than this.

Work is a pure function of arguments that can be pickled. So it does not matter where it is done, nor how often.
"""

from __future__ import annotations

import abc
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from llmzip.archive.records import ModelRecord
from llmzip.codec.block_codec import BlockCodec, Progress
from llmzip.errors import LLZError

TRIES = 3  # for a block whose worker is lost
_LOOK, _LONGEST = 0.1, 1.0  # seconds between two looks at how far others are: at first, and after a while, as looking costs time, too

_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)


class Call(Protocol[_R_co]):
    """A function that can be called in another process, as those of `worker`."""

    def __call__(self, blocks: BlockCodec, progress: Progress, /, *arguments: Any) -> _R_co:
        """What it gives with the models of a block codec. It tells its progress now and then, and ends if that raises."""
        ...


class WorkerLostError(LLZError):
    """Workers that computed for this process are lost again and again, or could not be started."""


@dataclass(frozen=True)
class Work(Generic[_R]):
    """What one worker does in one go.

    Attributes:
        call: the function.
        arguments: what it is called with.
        size: bytes of the block's content; 0 if it is not about a block.
        at: where the block begins in the input; None if that is not known.
        model: the model that it takes; the codec's own if None.
        proof: gives the work that must return the given bytes if a result is right; None where nothing has to be proven.
    """

    call: Call[_R]
    arguments: tuple[Any, ...]
    size: int = 0
    at: int | None = None
    model: ModelRecord | None = None
    proof: Callable[[_R], tuple[Work[bytes], bytes] | None] | None = None

    @property
    def name(self) -> str:
        """What it works on, in words."""
        return "a block" if self.at is None else f"the block at byte {self.at:,}"


class Task(abc.ABC, Generic[_R]):
    """Work that was handed to a pool.

    Args:
        work: the work.
        beside: the tasks of the same stream that nobody has waited for yet. This one joins them.
    """

    def __init__(self, work: Work[_R], beside: deque[Task[Any]]) -> None:
        self.work, self._beside, self._last = work, beside, (0.0, 0.0)
        beside.append(self)

    def result(self, progress: Progress) -> _R:
        """Wait for the result. `progress` is told the share of this block that has been done, with all that was done beside it.

        Raises:
            WorkerLostError: workers that did it were lost too often.
            Exception: of the work.
        """
        pause = _LOOK
        try:
            while not self.wait(pause):
                pause = min(1.2 * pause, _LONGEST)
                reached = [(share * task.work.size, stream) for task in self._beside for share, stream in [task._most()]]
                progress(sum(done for done, _ in reached) / max(1, self.work.size), int(sum(stream for _, stream in reached)))
            return self.outcome()
        finally:
            with contextlib.suppress(ValueError):  # a task that stands alone
                self._beside.remove(self)

    def _most(self) -> tuple[float, float]:
        """How far it was at most: a worker may have begun again."""
        self._last = max(self._last, self.reached())
        return self._last

    @abc.abstractmethod
    def wait(self, seconds: float) -> bool:
        """Wait at most so long; return whether it is done, well or not."""

    @abc.abstractmethod
    def outcome(self) -> _R:
        """The result of what is done, or its error."""

    @abc.abstractmethod
    def reached(self) -> tuple[float, float]:
        """How far it is: share of the block, from 0 to 1, and bytes of its bitstream."""

    @abc.abstractmethod
    def drop(self) -> None:
        """Let nobody do it any more, as nobody waits for it. If it is done, that changes nothing."""

    @abc.abstractmethod
    def when_done(self, tell: Callable[[_R], None]) -> None:
        """Call `tell` with the result when it is there; not if there is an error."""


class Pool(Protocol):
    """Workers. Threads may share one.

    Attributes:
        jobs: how many workers there may be.
        places: so many blocks are under way at most, so that no worker waits for the next one.
        alive: how many workers there are now; None if that is not known.
    """

    @property
    def jobs(self) -> int: ...  # noqa: D102

    @property
    def places(self) -> int: ...  # noqa: D102

    @property
    def alive(self) -> int | None: ...  # noqa: D102

    def have_room(self) -> bool:
        """Whether another block can be under way."""
        ...

    def submit(self, work: Work[_R], beside: deque[Task[Any]]) -> Task[_R]:
        """Hand work over. `beside`: the tasks of the same stream.

        Raises:
            WorkerLostError: no worker can be started.
        """
        ...
