"""Folders to work in beside what they become; what a killed process left of them is cleared by the next one.

A process holds a lock on a file in its folder, which the system drops when the process ends, however it ends: so a
folder whose lock can be had belongs to nobody. Where there are no such locks, age decides.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from llmzip.errors import ModelUnavailableError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

_PURPOSES = ("download", "incoming", "removed")
_LOCK = ".lock"
_ABANDONED_AFTER = 86400.0  # seconds, for folders without a lock


@contextlib.contextmanager
def working_folder(parent: Path, purpose: str) -> Iterator[Path]:
    """An empty folder in `parent`, gone at the end; clears what dead processes left there before.

    Raises:
        ModelUnavailableError: it cannot be made.
    """
    assert purpose in _PURPOSES
    try:
        parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(parent)
        folder, lock = _make(parent, purpose)
    except OSError as e:
        raise ModelUnavailableError(f"the cache folder {parent} cannot be written ({e.strerror}); set LLMZIP_CACHE") from e
    try:
        yield folder
    finally:
        lock.close()
        shutil.rmtree(folder, ignore_errors=True)


def clear_abandoned(parent: Path) -> None:
    """Deletes the working folders in `parent` whose processes are gone."""
    for purpose in _PURPOSES:
        for folder in parent.glob(f".{purpose}-*"):
            _clear(folder)


def _make(parent: Path, purpose: str) -> tuple[Path, BinaryIO]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{purpose}-", dir=parent))
        lock = open(folder / _LOCK, "wb")  # noqa: SIM115  held as long as the folder is
        with contextlib.suppress(OSError):  # a file system without locks: age will have to do
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / _LOCK).exists():  # else it was taken for abandoned before it was locked
            return folder, lock
        lock.close()


def _clear(folder: Path) -> None:
    with contextlib.suppress(OSError):  # in use, gone meanwhile, or not ours to delete
        old = time.time() - folder.stat().st_mtime > _ABANDONED_AFTER
        try:
            with open(folder / _LOCK, "rb+") as lock:
                if fcntl is not None:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                elif not old:
                    return
                shutil.rmtree(folder)
        except FileNotFoundError:
            if old:
                shutil.rmtree(folder)
