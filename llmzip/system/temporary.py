"""Temporary objects that must not outlive the process: files, folders, and programs it started.

All of them are created here, under one lock. So at any moment an object either does not exist yet or is known to `remove_all`,
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
    """The object that `make` creates; `remove` is called with it at the end, whatever ends the block.

    Args:
        make: creates the object. If it raises, nothing is removed.
        remove: removes the object. It must be quick, and must accept that the object is gone already.
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
    """Take the lock and keep it, so no temporary object is created or removed while the process exits.

    Args:
        patience: seconds to wait at most; no limit if negative.
    """
    _lock.acquire(timeout=patience)


def remove_all() -> None:
    """Remove all temporary objects, the latest first: a program ends before the folder it runs in is removed."""
    for removal in reversed(_removals):
        with contextlib.suppress(Exception):  # the others must go all the same
            removal()
