"""Lets one process at a time do work that the others then need not do, as they find what it has made."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

_log = logging.getLogger(__name__)

_LONGEST = 120.0  # seconds to wait; whoever takes longer is stopped or far slower, and to work twice does no harm


class Turn:
    """A turn to make a file. The system ends it when the process ends in any way.

    Where files cannot be locked everybody has it at once, which does no harm either.
    """

    def __init__(self, file: Path) -> None:
        self._place = file.with_suffix(".lock")
        self._lock: BaseFileLock | None = None

    def take(self) -> bool:
        """Wait for the turn. Returns whether another process had it meanwhile."""
        from filelock import FileLock, Timeout  # importing it takes a tenth of a second, and it is seldom needed

        lock, waited = FileLock(self._place), False
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                waited = True
                _log.debug("another process is making %s", self._place.stem)
                lock.acquire(timeout=_LONGEST)
            self._lock = lock
        except (OSError, NotImplementedError):  # of which Timeout is one, too
            _log.debug("no turn can be taken at %s", self._place, exc_info=True)
        return waited

    def give(self) -> None:
        """End the turn."""
        if self._lock:
            with contextlib.suppress(OSError):  # for who waits meanwhile, it is the turn at a file that is gone: he finds what was made
                self._place.unlink()
            self._lock.release()
            self._lock = None
