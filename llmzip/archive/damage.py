"""What is done about a damaged archive before it is decoded: its parity repairs it, if it has any.

Everything that decodes from a source it can read twice does this: functions, files and the command line.
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
    """The archive in `source`, repaired if it is damaged and has parity; a warning says so. Else `source`, where it stood.

    Args:
        source: a file; one that is not seekable is given back as it is.

    Raises:
        DamagedArchiveError: there is parity, and too much is damaged for it.
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
    """A damaged archive as its parity makes it whole; None if it has no parity. The source stands where it stood.

    Args:
        source: a seekable file.

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
    """How much was repaired, in words."""
    return f"{max(repair.damaged, 1):,} of its {repair.parts:,} parts were restored from its parity"


def warn(repair: RepairResult) -> None:
    """Warn that a damaged archive was repaired on its way to the decoder."""
    what = f"{LOST}; the rest is whole" if repair.lost else f"is damaged; {extent(repair)}"
    warnings.warn(f"the archive {what}; repair it with llmzip.repair", UserWarning, stacklevel=2)


def _has_parity(source: BinaryIO) -> bool:
    """Whether a mark of parity is anywhere in a file.

    A file with a descriptor is looked through without being read into memory: it may be any file, of any size.
    """
    start = source.tell()
    try:
        with mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return view.find(MARKER, start) >= 0
    except (OSError, ValueError, AttributeError):  # a file in memory, an empty one, or one that cannot be looked at in this way
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
