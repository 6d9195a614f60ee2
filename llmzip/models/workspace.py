"""Working folders inside the cache, and locks. The next process clears what a killed process left.

A process holds a lock on a file in its folder. The system releases the lock when the process ends in any way. So a folder whose lock is free
belongs to nobody, and no process waits for one that has ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llmzip.errors import ModelFormatError, ModelUnavailableError, reason
from llmzip.system.temporary import temporary

if TYPE_CHECKING:
    from filelock import BaseFileLock

_PURPOSES = ("download", "incoming", "removed")
_PARTIAL = "partial"
_LOCK = ".lock"
_TRIES = 3
_ABANDONED_AFTER = 86400.0  # seconds, for folders without a lock
_FORGOTTEN_AFTER = 30 * 86400.0  # seconds, for downloads that nobody continues


class NotWritableError(ModelUnavailableError):
    """The cache cannot be written: it belongs to somebody else, is read-only, or its disk is full."""


@contextlib.contextmanager
def working_folder(parent: Path, purpose: str) -> Iterator[Path]:
    """An empty folder in `parent`, deleted at the end. First delete what ended processes left there.

    Raises:
        NotWritableError: it cannot be made.
    """
    assert purpose in _PURPOSES
    with temporary(lambda: _make(parent, purpose), _remove) as (folder, _):
        yield folder


@contextlib.contextmanager
def taking_turns(place: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Let one process or thread at a time do work that the others then need not do.

    Args:
        place: a file to lock, the same for all. It stays.
        waits: is called once if another one holds the lock.

    Raises:
        NotWritableError: it cannot be written.
    """
    from filelock import Timeout

    lock = _lock(place)
    with writing_cache(place.parent):
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


@contextlib.contextmanager
def partial_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder for a download, always the same for one model. It is deleted at the end, unless an error or a signal ends the block: then the
    next download finds what is there. Only one process at a time may have it (`taking_turns`). Those that nobody came back to are deleted.

    Raises:
        NotWritableError: it cannot be made.
    """
    folder = parent / _PARTIAL / name
    with writing_cache(folder):
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
    for other in (parent / _PARTIAL).iterdir():
        with contextlib.suppress(OSError):
            if time.time() - other.stat().st_mtime > _FORGOTTEN_AFTER:
                shutil.rmtree(other)
    try:
        yield folder
    except ModelFormatError:  # llmzip cannot run it, so nobody will come back to it
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()  # if nothing has arrived
        raise
    shutil.rmtree(folder, ignore_errors=True)


def clear_abandoned(parent: Path) -> None:
    """Delete the working folders in `parent` whose processes have ended."""
    for purpose in _PURPOSES:
        for folder in parent.glob(f".{purpose}-*"):
            _clear(folder)


@contextlib.contextmanager
def writing_cache(folder: Path) -> Iterator[None]:
    """Turn errors of the system, while a folder of the cache is written, into NotWritableError."""
    try:
        yield
    except OSError as e:
        raise NotWritableError(f"the cache folder {folder} cannot be written ({reason(e)}); set LLMZIP_CACHE to one that can") from e


def _lock(place: Path) -> BaseFileLock:
    from filelock import FileLock  # importing it takes a tenth of a second, and it is seldom needed

    return FileLock(place)


def _make(parent: Path, purpose: str) -> tuple[Path, BaseFileLock]:
    """The folder, and the lock on it."""
    with writing_cache(parent):
        parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(parent)
        return _make_locked(parent, purpose)


def _remove(made: tuple[Path, BaseFileLock]) -> None:
    folder, lock = made
    lock.release()
    for _ in range(_TRIES):  # a process that is being ended by a signal may still write there
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break


def _make_locked(parent: Path, purpose: str) -> tuple[Path, BaseFileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{purpose}-", dir=parent))
        lock = _lock(folder / _LOCK)
        with contextlib.suppress(FileNotFoundError):  # another process took it for abandoned before it was locked
            lock.acquire()
            if (folder / _LOCK).exists():
                return folder, lock
            lock.release()


def _clear(folder: Path) -> None:
    with contextlib.suppress(OSError):  # in use, gone meanwhile, or not deletable by this user
        if (folder / _LOCK).exists():
            with _lock(folder / _LOCK).acquire(timeout=0):
                shutil.rmtree(folder)
        elif time.time() - folder.stat().st_mtime > _ABANDONED_AFTER:
            shutil.rmtree(folder)
