"""What is done about a damaged archive before it is decoded: its parity repairs it, if it has any.

Everything that decodes from a source it can read twice does this: functions, files and the command line.
"""

from __future__ import annotations

import copy
import io
import mmap
import warnings
from collections.abc import Iterator
from typing import BinaryIO

from llmzip.archive.parity.layout import MARKER
from llmzip.archive.parity.repair import RepairResult, repair_archive
from llmzip.archive.parser import ArchiveParser, Placed, pull
from llmzip.errors import LLZError
from llmzip.system import streams

LOST = "its parity is damaged beyond use"


class ArchiveReader:
    """Reads the records of an archive in order. Where one is damaged and the archive has parity, it goes on in the repaired archive.

    A warning says so. A source that is not seekable is read forward only, and cannot be repaired.

    Attributes:
        source: the archive, or the repaired one.
        start: where the archive starts in `source`.
        seekable: whether `source` can be read again.
        parser: knows what comes next.
    """

    def __init__(self, source: BinaryIO) -> None:
        self.source = source
        self.seekable: bool = getattr(source, "seekable", lambda: False)()
        self.start = source.tell() if self.seekable else 0
        self.parser = ArchiveParser()
        self._repaired = False

    def __iter__(self) -> Iterator[Placed]:
        while (placed := self.next()) is not None:
            yield placed

    def next(self) -> Placed | None:
        """The next record; None at the archive's end. After an error, the source must be where it was to read again.

        Raises:
            NotAnArchiveError, UnsupportedArchiveError, DamagedArchiveError.
        """
        parser = copy.copy(self.parser)  # takes its place only if all goes well: an error must occur again
        try:
            placed = pull(parser.next_record(), self.source)
        except LLZError:
            if not self._repair():
                raise
            return self.next()
        self.parser = parser
        return placed

    def _repair(self) -> bool:
        """Go on in the repaired archive, if there is one that begins with what was read so far."""
        if not self.seekable or self._repaired:
            return False
        self.source.seek(self.start)
        repair = repaired(self.source)
        if repair is None or not repair.archive.startswith(streams.read_all(self.source, self.parser.position)):
            return False
        warn(repair)
        self.source, self.start, self._repaired = io.BytesIO(repair.archive), 0, True
        self.source.seek(self.parser.position)
        return True


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
