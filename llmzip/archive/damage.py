"""Repairs a damaged archive with its parity, if it has any, before it is decoded.

Functions, files and the command line all do this, wherever the source can be read twice.
"""

from __future__ import annotations

import io
import mmap
import warnings
from typing import BinaryIO

from llmzip.archive.parity.layout import MARKER
from llmzip.archive.parity.repair import RepairResult, repair_archive
from llmzip.archive.parser import read_records
from llmzip.errors import LLZError
from llmzip.system import streams

LOST = "its parity is damaged beyond use"


def sound(source: BinaryIO) -> BinaryIO:
    """Return a file with the archive in `source`, repaired if it is damaged and has parity; a repair gives a warning.

    Args:
        source: a binary file, read from its current position.

    Returns:
        A file in memory with the repaired archive; else `source` at the same position. A source that is not seekable is returned unread.

    Raises:
        DamagedArchiveError: there is parity, but too much is damaged.
    """
    if not getattr(source, "seekable", lambda: False)():
        return source
    start, damaged = source.tell(), False
    try:
        for _ in read_records(source):
            pass
    except LLZError:
        damaged = True
    source.seek(start)
    repair = repaired(source) if damaged else None
    if repair is None:
        return source
    warn(repair)
    return io.BytesIO(repair.archive)


def repaired(source: BinaryIO) -> RepairResult | None:
    """Return the result of repairing an archive with its parity; None if it has no parity or is already whole.

    Args:
        source: a seekable file, read from its current position, to which it returns.

    Raises:
        LLZError: too much is damaged.
    """
    if not _has_parity(source):
        return None
    start = source.tell()
    archive = streams.read_all(source)
    source.seek(start)
    found = repair_archive(archive)
    return None if found is None or found.archive == archive else found


def extent(repair: RepairResult) -> str:
    """Return how much was repaired, in words."""
    return f"{max(repair.damaged, 1):,} of its {repair.parts:,} parts were restored from its parity"


def warn(repair: RepairResult) -> None:
    """Warn that a damaged archive was repaired before it is decoded."""
    what = f"{LOST}; the rest is whole" if repair.lost else f"is damaged; {extent(repair)}"
    warnings.warn(f"the archive {what}; repair it with llmzip.repair", UserWarning, stacklevel=2)


def _has_parity(source: BinaryIO) -> bool:
    """Whether the marker of a parity record is anywhere in a file, from its current position on.

    A file with a descriptor is searched without being read into memory, as it may be any file, of any size.
    """
    start = source.tell()
    try:
        with mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return view.find(MARKER, start) >= 0
    except (OSError, ValueError, AttributeError):  # a file in memory, an empty one, or one that cannot be mapped
        pass
    tail = b""
    try:
        while part := streams.read(source, 1 << 20):
            if MARKER in tail + part:
                return True
            tail = part[-len(MARKER) :]
        return False
    finally:
        source.seek(start)
