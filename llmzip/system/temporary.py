"""What must not outlive the process: temporary files and folders, and programs it started.

Whoever makes such a thing makes it here, under one lock. So at any moment either it is not there yet or `remove_all` knows of it,
and a signal may end the process at that moment (`signals`).
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

_T = TypeVar("_T")

_lock = threading.RLock()
_removals: list[Callable[[], None]] = []


@contextlib.contextmanager
def temporary(make: Callable[[], _T], remove: Callable[[_T], None]) -> Iterator[_T]:
    """What `make` gives; `remove` is called with it at the end, whatever ends it.

    Args:
        make: may raise what it likes; nothing is removed then.
        remove: must bear that the thing is gone already, and must not take long.
    """
    with _lock:
        thing = make()
        removal = functools.partial(remove, thing)
        _removals.append(removal)
    try:
        yield thing
    finally:
        with _lock:
            _removals.remove(removal)
            removal()


def hold(patience: float = -1) -> None:
    """Waits until nothing is being made or removed, and lets nothing be from here on: for whoever ends the process.

    Args:
        patience: seconds to wait at most; without end if negative.
    """
    _lock.acquire(timeout=patience)


def remove_all() -> None:
    """Removes all that is there, the latest first: what was started in a folder ends before the folder goes."""
    for removal in reversed(_removals):
        with contextlib.suppress(Exception):  # the others must go all the same
            removal()
