"""Folders to work in beside what they become, and turns to take: what a killed process left is cleared by the next one.

A process holds a lock on a file, which the system drops when the process ends, however it ends: so a folder whose lock can be
had belongs to nobody, and nobody waits for the dead.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llmzip.errors import ModelUnavailableError, reason
from llmzip.system.temporary import temporary

if TYPE_CHECKING:
    from filelock import BaseFileLock

_PURPOSES = ("download", "incoming", "removed")
_LOCK = ".lock"
_TRIES = 3
_ABANDONED_AFTER = 86400.0  # seconds, for folders without a lock


class NotWritableError(ModelUnavailableError):
    """The cache is somebody else's, to be read only, or its disk is full."""


@contextlib.contextmanager
def working_folder(parent: Path, purpose: str) -> Iterator[Path]:
    """An empty folder in `parent`, gone at the end; clears what dead processes left there before.

    Raises:
        NotWritableError: it cannot be made.
    """
    assert purpose in _PURPOSES
    with temporary(lambda: _make(parent, purpose), _remove) as (folder, _):
        yield folder


@contextlib.contextmanager
def taking_turns(place: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Lets one process or thread at a time do what the others then need not.

    Args:
        place: a file to hold a lock on, which stays; all that take turns name the same.
        waits: called once if another one has it.

    Raises:
        NotWritableError: it cannot be written.
    """
    from filelock import Timeout

    lock = _lock(place)
    with _writing(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waits()
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def clear_abandoned(parent: Path) -> None:
    """Deletes the working folders in `parent` whose processes are gone."""
    for purpose in _PURPOSES:
        for folder in parent.glob(f".{purpose}-*"):
            _clear(folder)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise NotWritableError(f"the cache folder {folder} cannot be written ({reason(e)}); set LLMZIP_CACHE to one that can") from e


def _lock(place: Path) -> BaseFileLock:
    from filelock import FileLock  # a tenth of a second, for what is seldom done

    return FileLock(place)


def _make(parent: Path, purpose: str) -> tuple[Path, BaseFileLock]:
    """The folder, and the lock on it."""
    with _writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(parent)
        return _make_locked(parent, purpose)


def _remove(made: tuple[Path, BaseFileLock]) -> None:
    folder, lock = made
    lock.release()
    for _ in range(_TRIES):  # a process that a signal ends may be writing there still
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break


def _make_locked(parent: Path, purpose: str) -> tuple[Path, BaseFileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{purpose}-", dir=parent))
        lock = _lock(folder / _LOCK)
        with contextlib.suppress(FileNotFoundError):  # it was taken for abandoned before it was locked
            lock.acquire()
            if (folder / _LOCK).exists():
                return folder, lock
            lock.release()


def _clear(folder: Path) -> None:
    with contextlib.suppress(OSError):  # in use, gone meanwhile, or not ours to delete
        if (folder / _LOCK).exists():
            with _lock(folder / _LOCK).acquire(timeout=0):
                shutil.rmtree(folder)
        elif time.time() - folder.stat().st_mtime > _ABANDONED_AFTER:
            shutil.rmtree(folder)
