"""Lets one process at a time do work that the others then need not do, as they find what it has made."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

_log = logging.getLogger(__name__)

_LONGEST = 120.0  # seconds to wait for another process; after that the work is done twice, which does no harm


class Turn:
    """A turn to make a file. It ends with the process at the latest.

    Where files cannot be locked, all processes have their turns at once. Then they do the same work, and that does no harm.
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
            with contextlib.suppress(OSError):  # whoever waits at the deleted file finds what was made
                self._place.unlink()
            self._lock.release()
            self._lock = None
