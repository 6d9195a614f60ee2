"""Reads an archive past its damage: what is intact, what can be mended, and what lies between.

Where a record's CRC-32 does not hold, it may be one flipped bit, which the CRC itself identifies, or a head that can be rebuilt from where
the next record begins. If not, its length, or a search, says where to go on.

An archive may be made to do harm, and be nothing but damage. So what mending may take is limited in proportion to the archive's size; when
that is used up, only what is intact is found.
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, takewhile

import numpy as np

from llmzip.archive.parser import parse_record, pull
from llmzip.archive.records import (
    MAX_RECORD,
    TAG_CODED,
    TAG_END,
    TAG_FORM,
    TAG_PARITY,
    TAG_STORED,
    TAG_XZ,
    TAGS,
    EndRecord,
    Record,
    StoredBlock,
    frame_start,
)
from llmzip.archive.wire import varint
from llmzip.errors import LLZError
from llmzip.salvaging import crc
from llmzip.salvaging.landmarks import Head, Landmarks

DAMAGED, CUT = "damaged", "cut off"  # why something is lost
_START = frame_start()
_MAX_HEAD = 6  # bytes of tag and length
_MAX_STOPS = 4096  # that are tried as a record's; many only if the record holds archives
_AFTER = 19  # bytes that follow a block's content, at least: its CRC, and an end record
_TRIES = 1 << 17  # what mending may take: ends of records that are tried, and one more for each _SHARE bytes of the archive ...
_SHARE = 4
_FLIP = 256  # ... where a search for a flipped bit counts as so many ...
_CHECKED = 4096  # ... and so many bytes that are checked count as one
_ALIKE = 2  # bytes that a damaged start of a frame has right


@dataclass(frozen=True)
class Start:
    """Where a frame starts: data[start:stop].

    Attributes:
        intact: whether magic and version are as they should be.
    """

    start: int
    stop: int
    intact: bool = True


@dataclass(frozen=True)
class Found:
    """A record that is there: data[start:stop].

    Attributes:
        mended: what was wrong and is right now; empty if nothing was.
        proven: whether its own checks leave no doubt, those to come included; if not, only the frame's can.
    """

    start: int
    stop: int
    record: Record
    mended: str = ""
    proven: bool = True


@dataclass(frozen=True)
class Lost:
    """A part that is damaged: data[start:stop].

    Attributes:
        reason: why, in a few words.
        whole: whether it is known to be one record, from its first byte to its last.
        tag: of the record, if it is one, or looks like an end record.
        size: bytes of content, as the record's fields say; None if they are out of range or not there.
        total: bytes of content of the frame, as the fields of an end record say.
        record: what the record is if only its CRC is wrong.
    """

    start: int
    stop: int
    reason: str = DAMAGED
    whole: bool = False
    tag: bytes = b""
    size: int | None = None
    total: int | None = None
    record: Record | None = None


Item = Start | Found | Lost


def scan(data: bytes) -> list[Item]:
    """All of an archive, in order and without holes."""
    return list(_Scanner(data).items())


class _Scanner:
    def __init__(self, data: bytes) -> None:
        self._data, self._view, self._size = data, memoryview(data), len(data)
        self._landmarks = Landmarks(data)
        self._checked: dict[int, Found | Lost | None] = {}
        self._mended: dict[int, Found | None] = {}
        self._stuck: set[int] = set()  # from where lengths lead to nothing sound
        self._filled = len(data.rstrip(b"\0"))  # where the zeros at the end begin
        self._tries = _TRIES + self._size // _SHARE

    def items(self) -> Iterator[Item]:
        at, fresh = 0, True  # whether a frame must start here
        while at < (self._filled if fresh and at else self._size):  # zeros after a frame are nothing
            for item in self._next(at, fresh):
                yield item
                at = item.stop
                fresh = isinstance(item.record, EndRecord) if isinstance(item, Found) else isinstance(item, Lost) and item.tag == TAG_END

    def _next(self, at: int, fresh: bool) -> list[Item]:
        if self._data.startswith(_START, at):
            return [Start(at, at + len(_START))]
        if found := self._check(at) or self._flip(at):
            return [found]
        if fresh and (found := self._record(at + len(_START))):
            return [Start(at, at + len(_START), intact=False), found]
        if steps := self._walk(at):
            return [*steps]
        if found := self._record(at):
            return [found]
        return [*self._search(at)]

    def _check(self, at: int) -> Found | Lost | None:
        """A record whose CRC holds; lost if this version cannot read it."""
        if at not in self._checked:
            self._checked[at] = None
            head = Head.at(self._data, at, known=False)
            if head and head.stop <= self._size and self._intact(head):
                try:
                    self._checked[at] = Found(at, head.stop, self._parse(self._data[at : head.stop]))
                except LLZError as e:
                    self._checked[at] = Lost(at, head.stop, str(e), True, head.tag, head.content_size(self._data))
        return self._checked[at]

    def _intact(self, head: Head) -> bool:
        if head.tag in TAGS:
            return head.start in self._landmarks
        return self._may_try(0, head.stop - head.start) and not head.difference(self._data)

    def _may_try(self, ends: int, size: int) -> bool:
        """Takes so many tries, and bytes to be checked, off what is left of them; False if it was too little."""
        self._tries -= ends + size // _CHECKED
        return self._tries >= 0

    @staticmethod
    def _parse(raw: bytes) -> Record:
        """The record that the bytes are. Raises LLZError."""
        return pull(parse_record(), io.BytesIO(raw))

    def _record(self, at: int) -> Found | Lost | None:
        """A record that is intact or can be mended."""
        found = self._check(at)
        if not found and at < self._size:
            if at not in self._mended:
                self._mended[at] = self._flip(at) or self._rebuild(at)
            found = self._mended[at]
        return found

    def _flip(self, at: int) -> Found | None:
        """A record of which one bit was flipped."""
        if not self._may_try(_FLIP, 0):
            return None
        head = Head.at(self._data, at)
        if head and head.stop <= self._size and self._may_try(0, head.stop - at):
            bit = crc.flipped_bit(head.difference(self._data), head.stop - at)
            if bit is not None and (found := self._flipped(at, head.stop, bit)):
                return found
        raw = self._data[at : at + _MAX_HEAD]
        for bit in range(8 * len(raw)):
            head = Head.at(_with_flip(raw, bit), 0)
            if head and bit < 8 * head.body and at + head.stop <= self._size and (found := self._flipped(at, at + head.stop, bit)):
                return found
        return None

    def _flipped(self, at: int, stop: int, bit: int) -> Found | None:
        if not self._may_try(0, stop - at):
            return None
        raw = _with_flip(self._data[at:stop], bit)
        head = Head.at(raw, 0)
        if not head or head.stop != len(raw) or head.difference(raw):
            return None
        try:
            record = self._parse(raw)
        except LLZError:
            return None
        # In a large body some bit or other explains what many damaged bytes did; the content's check tells, but stored blocks have none.
        proven = not (isinstance(record, StoredBlock) and head.body <= bit // 8 < len(raw) - 4)
        return Found(at, stop, record, f"bit {bit % 8} of byte {at + bit // 8:,} of the archive was flipped", proven)

    def _rebuild(self, at: int) -> Found | None:
        """A record of which tag and length are destroyed, but not where it ends."""
        near = takewhile(lambda p: p <= at + _MAX_HEAD + MAX_RECORD + 4, self._landmarks.after(at + _MAX_HEAD - 1))
        stops = [*islice(near, min(_MAX_STOPS, max(self._tries, 0))), *self._ends(at)]
        if not self._may_try(len(stops), stops[-2] - at if len(stops) > 1 else 0):
            return None
        heads = [(tag + length, stop) for stop in stops for length in _lengths(stop - at) for tag in TAGS]
        if not heads:
            return None
        ends = np.array([stop - 4 for _, stop in heads])
        stored = np.array([int.from_bytes(self._view[end : end + 4], "little") for end in ends.tolist()], dtype=np.uint32)
        bodies = np.array([at + len(head) for head, _ in heads])
        before = np.array([zlib.crc32(head) for head, _ in heads], dtype=np.uint32)
        for i in np.flatnonzero(crc.of_spans(self._data, bodies, ends, before) == stored).tolist():
            head, stop = heads[i]
            try:
                record = self._parse(head + self._data[at + len(head) : stop])
            except LLZError:
                continue
            return Found(at, stop, record, "its kind and length were destroyed")
        return None

    def _ends(self, at: int) -> list[int]:
        """Where the archive may end, as zeros may follow it: the last CRC may have some, too."""
        return sorted({end for end in (*range(self._filled, self._filled + 4), self._size) if at < end <= self._size})

    def _walk(self, at: int) -> list[Lost]:
        """The damaged records from here on, if their lengths lead to something sound; else nothing."""
        steps: list[Lost] = []
        while at not in self._stuck and (head := Head.at(self._data, at)) and head.stop <= self._size and not self._hides(head):
            steps.append(self._lost(head, head.stop, whole=True))
            at = head.stop
            if at == self._size or self._data.startswith(_START, at) or self._record(at):
                return steps
            if head.tag == TAG_END and at >= self._filled:
                return steps
            if head.tag == TAG_END and self._record(at + len(_START)):
                return steps
        self._stuck.update((at, *(step.start for step in steps)))
        return []

    def _hides(self, head: Head) -> bool:
        """Whether an intact record reaches to this one's end or beyond, so that the end is none: bytes were deleted before."""
        for position in takewhile(lambda p: p < head.stop, self._landmarks.after(head.start)):
            found = self._check(position)
            if (found and found.stop >= head.stop) or not self._may_try(1, 0):
                return True
        return False

    def _lost(self, head: Head, stop: int, whole: bool) -> Lost:
        record = None
        if head.stop == stop:
            raw = self._data[head.start : stop - 4]
            with contextlib.suppress(LLZError):
                record = self._parse(raw + zlib.crc32(raw).to_bytes(4, "little"))
        reason = CUT if stop == self._size < head.stop else DAMAGED
        size, total = head.content_size(self._data), head.total(self._data)
        if not size and head.stop > stop:
            size = None  # more than a record of this kind may be lost
        return Lost(head.start, stop, reason, whole, head.tag if whole or total is not None else b"", size, total, record)

    def _search(self, at: int) -> list[Lost]:
        """What is lost up to the next place where something sound begins."""
        head = Head.at(self._data, at)
        stop = self._resume(at, head)
        if not head or (head.content_size(self._data) is None and head.stop <= self._size):
            return [Lost(at, stop)]
        if head.stop < stop:
            return [self._lost(head, head.stop, whole=False), Lost(head.stop, stop)]
        return [self._lost(head, stop, whole=False)]

    def _resume(self, at: int, head: Head | None) -> int:
        """Where something sound begins that belongs to the archive, not to an archive that it holds."""
        passed = at
        for position in self._landmarks.after(at):
            if position < passed:
                continue
            passed, ended = self._follow(position)
            if not self._is_own(passed, ended, head):
                continue
            found = self._check(position)
            if isinstance(found, Found) and isinstance(found.record, StoredBlock) and not self._goes_on(found.stop):
                self._checked[position] = replace(found, proven=False)  # a CRC alone, of so many that were tried, proves too little
            return position
        return self._size

    def _follow(self, at: int) -> tuple[int, bool]:
        """Where the sound records and frames that begin here end, and whether with an end record."""
        ended = False
        while True:
            if self._data.startswith(_START, at):
                at, ended = at + len(_START), False
            elif found := self._check(at):
                at, ended = found.stop, isinstance(found, Found) and isinstance(found.record, EndRecord)
            else:
                return at, ended

    def _is_own(self, stop: int, ended: bool, head: Head | None) -> bool:
        """Whether records found by search are the archive's, by where they end; a file in the content may be an archive, too.

        Args:
            stop: their end.
            ended: whether the last one is an end record.
            head: of the damaged part before them, if it has one.
        """
        if ended and stop == self._size:
            return True
        if head and head.tag in (TAG_STORED, TAG_XZ, TAG_PARITY) and stop <= head.stop:
            return False  # inside that record
        if not ended or (head and head.tag in (TAG_CODED, TAG_FORM) and head.content_size(self._data)):
            return True
        alike = sum(a == b for a, b in zip(self._data[stop : stop + len(_START)], _START, strict=False)) >= _ALIKE
        ends = self._size - stop < _AFTER or stop >= self._filled
        return alike or ends or self._check(stop + len(_START)) is not None

    def _goes_on(self, at: int) -> bool:
        """Whether a record, a frame or the archive's end can be here."""
        return at >= self._filled or self._data.startswith(_START, at) or Head.at(self._data, at) is not None


def _with_flip(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _lengths(total: int) -> Iterator[bytes]:
    """The lengths, as written, of bodies whose records have so many bytes."""
    for size in range(1, _MAX_HEAD):
        body = total - 1 - size - 4
        if 0 <= body <= MAX_RECORD and len(varint(body)) == size:
            yield varint(body)
