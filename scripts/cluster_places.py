"""Where `cluster_faults.py` lets two workers compute, and what it can do to them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import clusters, links

WAYS = ("processes", "local", "nodes", "link", "link, far head")
Driver = subprocess.Popen[bytes]


class Place(ABC):
    """A place for workers.

    Attributes:
        way: its name.
        before: what begins the driver's command.
        options: of the driver.
        soon: seconds after the driver's end when nothing lives any more.
    """

    way: str
    soon = 5.0
    before: Sequence[str] = ()
    options: Sequence[str]

    @abstractmethod
    def workers(self, driver: int) -> list[int]:
        """The processes that work for a driver."""

    def prepare(self) -> None:  # noqa: B027  most have nothing to do
        """See that everything is there for the next run."""

    def left(self, session: int) -> list[str]:
        """Processes that a driver has left, which had that session."""
        return [*clusters.of_session(session).values()]

    def lose_node(self, again: bool) -> None:
        """End a node that works; or all of them, and one comes back."""
        raise AssertionError("it has no nodes")


class Processes(Place):
    """Processes of the driver's own."""

    way = "processes"

    def __init__(self) -> None:
        self.options = ["--workers", "2"]

    def workers(self, driver: int) -> list[int]:
        """See `Place`."""
        return [pid for pid, args in clusters.of_session(driver).items() if "spawn_main" in args]


class Local(Place):
    """A cluster that the driver starts for itself."""

    way = "local"

    def __init__(self) -> None:
        self.options = ["--cluster", "local", "--workers", "2"]

    def workers(self, driver: int) -> list[int]:
        """See `Place`."""
        return [*clusters.of_session(driver, "ray::Worker")]

    def left(self, session: int) -> list[str]:
        """See `Place`: also the process that waits for the driver's end."""
        return super().left(session) + clusters.watchdogs()


class Nodes(Place):
    """Two nodes over loopback, and a head that does nothing.

    Args:
        made: the cluster.
        cache: of each node.
    """

    way = "nodes"

    def __init__(self, made: clusters.Machines, cache: Path) -> None:
        self._made, self._cache = made, cache
        self._nodes: list[Any] = []
        self.options = ["--cluster", made.address, "--workers", "2"]

    def _start(self) -> None:
        self._nodes.append(self._made.add(self._cache))

    def prepare(self) -> None:
        """See `Place`."""
        while len(self._nodes) < 2:
            self._start()

    def workers(self, driver: int) -> list[int]:
        """See `Place`."""
        return [pid for node in self._nodes for pid in clusters.workers(node)]

    def left(self, session: int) -> list[str]:
        """See `Place`: also on the nodes."""
        return [*super().left(session), *(f"worker {pid}" for pid in self.workers(session))]

    def lose_node(self, again: bool) -> None:
        """See `Place`."""
        for node in list(self._nodes) if again else self._nodes[:1]:
            self._made.kill(node)
            self._nodes.remove(node)
        if again:
            self._start()


class Link(Place):
    """Two machines with a link.

    Args:
        made: the machines.
        cache: of both.
        driver: the machine of the driver; "one" has the head.
    """

    def __init__(self, made: links.Linked, cache: Path, driver: str) -> None:
        self.made, self.way = made, "link" if driver == "one" else "link, far head"
        self.soon = 5.0 if driver == "one" else 90.0
        self._caches = dict.fromkeys(("one", "two"), cache)
        self.before = made.inside(driver)
        self.options = ["--cluster", made.address, "--workers", "2"]

    def prepare(self) -> None:
        """See `Place`."""
        self.made.mend()
        self.made.kill("two")  # after a cut it may end at any moment
        self.made.start(self._caches)

    def workers(self, driver: int) -> list[int]:
        """See `Place`."""
        return self.made.workers()

    def left(self, session: int) -> list[str]:
        """See `Place`: also on the machines, once they reach each other again."""
        self.made.mend()
        return [*super().left(session), *(f"worker {pid}" for pid in self.workers(session))]


@contextlib.contextmanager
def made(way: str, cache: Path) -> Iterator[Place | str]:
    """A place for several runs; why there is none, if there is none."""
    with contextlib.ExitStack() as stack:
        if way == "processes":
            yield Processes()
            return
        try:
            import ray  # noqa: F401
        except ImportError:
            yield "llmzip[ray] is not installed"
            return
        if way == "local":
            yield Local()
        elif way == "nodes":
            yield Nodes(stack.enter_context(clusters.machines()), cache)
        elif why := links.why_not():
            yield why
        else:
            yield Link(stack.enter_context(links.linked()), cache, "one" if way == "link" else "two")


@dataclass(frozen=True)
class Fault:
    """Something that can happen.

    Attributes:
        do: makes it happen at a place, to a driver; gives the signal that the driver was sent, or 0.
        ways: places where it can.
        to_workers: whether there must be a worker.
    """

    do: Callable[[Any, Driver], int]
    ways: tuple[str, ...]
    to_workers: bool = True


def _kill_workers(place: Place, driver: Driver, most: int) -> int:
    for pid in place.workers(driver.pid)[:most]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return 0


def _kill_again_and_again(place: Place, driver: Driver) -> int:
    while driver.poll() is None:
        _kill_workers(place, driver, 9)
        time.sleep(0.3)
    return 0


def _lose_node(place: Place, _: Driver) -> int:
    place.lose_node(again=False)
    return 0


def _lose_all_nodes(place: Place, _: Driver) -> int:
    place.lose_node(again=True)
    return 0


def _cut(place: Link, driver: Driver) -> int:
    place.made.cut()
    return 0


def _cut_for_a_while(place: Link, driver: Driver) -> int:
    place.made.cut()
    time.sleep(2)
    place.made.mend()
    return 0


def _signal(kind: signal.Signals, all_of_a_terminal: bool = False) -> Callable[[Any, Driver], int]:
    def do(_: Place, driver: Driver) -> int:
        if driver.poll() is None:
            os.killpg(driver.pid, kind) if all_of_a_terminal else driver.send_signal(kind)
        return kind

    return do


FAULTS = {
    "worker killed": Fault(lambda place, driver: _kill_workers(place, driver, 1), WAYS[:4]),
    "both workers killed": Fault(lambda place, driver: _kill_workers(place, driver, 9), ("processes", "nodes")),
    "workers killed again and again": Fault(_kill_again_and_again, ("processes", "local")),
    "node killed": Fault(_lose_node, ("nodes",)),
    "all nodes killed, one back": Fault(_lose_all_nodes, ("nodes",)),
    "link cut": Fault(_cut, ("link", "link, far head")),
    "link cut for 2 s": Fault(_cut_for_a_while, ("link", "link, far head")),
    "SIGINT": Fault(_signal(signal.SIGINT, True), WAYS[:4], False),
    "SIGTERM": Fault(_signal(signal.SIGTERM), WAYS[:4], False),
    "SIGKILL": Fault(_signal(signal.SIGKILL), WAYS[:4], False),
}
