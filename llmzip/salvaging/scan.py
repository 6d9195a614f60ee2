"""Reads an archive past its damage: intact records, repaired records, and the damaged parts between them.

Where a record is damaged and cannot be repaired, its length, or a search for the next intact record, says where to go on.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from itertools import takewhile

from llmzip.archive.records import (
    MAGIC,
    TAG_CODED,
    TAG_END,
    TAG_FORM,
    TAG_PARITY,
    TAG_SOLE,
    TAG_STORED,
    TAG_XZ,
    SoleBlock,
    StoredBlock,
    frame_start,
    start_at,
)
from llmzip.errors import LLZError
from llmzip.salvaging.items import CUT, DAMAGED, Found, Item, Lost, Start, ends_frame
from llmzip.salvaging.landmarks import Head
from llmzip.salvaging.record_repair import RecordFinder, parse

_START = frame_start()
_MIN_TAIL = 19  # bytes that follow a block's content, at least: its CRC, and an end record
_MIN_MATCHES = 2  # correct bytes by which a damaged start of a frame is recognised


def scan(data: bytes) -> list[Item]:
    """Return all parts of an archive, in order and without holes; zeros that follow the last frame are no part."""
    return list(_Scanner(data).items())


class _Scanner:
    def __init__(self, data: bytes) -> None:
        self._data, self._size = data, len(data)
        self._records = RecordFinder(data)
        self._landmarks, self._padding = self._records.landmarks, self._records.padding
        self._dead_ends: set[int] = set()  # positions from which the lengths of records lead to nothing sound

    def items(self) -> Iterator[Item]:
        at, frame_due = 0, True  # frame_due: a frame must start here
        while at < (self._padding if frame_due and at else self._size):  # zeros after a frame mean nothing
            for item in self._items_at(at, frame_due):
                yield item
                at, frame_due = item.stop, ends_frame(item)

    def _items_at(self, at: int, frame_due: bool) -> list[Item]:
        """Return what begins at a position: one item or more."""
        if size := start_at(self._data, at):
            return [Start(at, at + size)]
        if found := self._records.intact(at) or self._records.flip_repaired(at):
            return [found]
        if frame_due and (begun := self._behind_start(at)):
            return begun
        if damaged := self._damaged_chain(at):
            return [*damaged]
        if found := self._records.intact_or_repaired(at):
            return [found]
        return [*self._lost_until_sound(at)]

    def _behind_start(self, at: int) -> list[Item]:
        """Return the damaged start of a frame and the record that follows it, if there is one; else nothing."""
        if found := self._records.intact_or_repaired(at + len(_START)):
            return [Start(at, at + len(_START), intact=False), found]
        found = self._records.intact_or_repaired(at + len(MAGIC))
        if isinstance(found, Found) and isinstance(found.record, SoleBlock):
            return [Start(at, at + len(MAGIC), intact=self._data.startswith(MAGIC, at)), found]
        return []

    def _damaged_chain(self, at: int) -> list[Lost]:
        """Return the damaged records from a position on if their lengths lead to something sound, else nothing."""
        chain: list[Lost] = []
        while at not in self._dead_ends and (head := Head.at(self._data, at)):
            if head.stop > self._size or self._length_is_wrong(head):
                break
            chain.append(self._lost_record(head, head.stop, whole=True))
            at = head.stop
            if at == self._size or start_at(self._data, at) or self._records.intact_or_repaired(at):
                return chain
            if head.tag in (TAG_END, TAG_SOLE) and (at >= self._padding or self._behind_start(at)):
                return chain
        self._dead_ends.update((at, *(lost.start for lost in chain)))
        return []

    def _length_is_wrong(self, head: Head) -> bool:
        """Whether an intact record begins within this one and reaches to its end or beyond.

        Then the end computed from the length is wrong, as bytes before it were deleted. Also true when no work is left to check that.
        """
        for position in takewhile(lambda p: p < head.stop, self._landmarks.after(head.start)):
            found = self._records.intact(position)
            if (found and found.stop >= head.stop) or not self._records.spend(1, 0):
                return True
        return False

    def _lost_record(self, head: Head, stop: int, whole: bool) -> Lost:
        """Return the damaged part data[head.start:stop], described by its head.

        Args:
            head: the head at the part's start.
            stop: position after the part's last byte.
            whole: whether the part is known to be exactly one record.
        """
        record = None
        if head.stop == stop:
            raw = self._data[head.start : stop - 4]
            with contextlib.suppress(LLZError):
                record = parse(raw + zlib.crc32(raw).to_bytes(4, "little"))
        reason = CUT if stop == self._size < head.stop else DAMAGED
        size, total = head.content_size(self._data), head.total(self._data)
        if not size and head.stop > stop:
            size = None  # more than a record of this kind may be lost
        return Lost(head.start, stop, reason, whole, head.tag if whole or total is not None else b"", size, total, record)

    def _lost_until_sound(self, at: int) -> list[Lost]:
        """Return the damaged part from a position to the next one where something sound begins."""
        head = Head.at(self._data, at)
        stop = self._next_sound(at, head)
        if not head or (head.content_size(self._data) is None and head.stop <= self._size):
            return [Lost(at, stop)]
        if head.stop < stop:
            return [self._lost_record(head, head.stop, whole=False), Lost(head.stop, stop)]
        return [self._lost_record(head, stop, whole=False)]

    def _next_sound(self, at: int, head: Head | None) -> int:
        """Return the next position where something sound begins that belongs to the archive.

        Records of an archive that is stored within this one's content do not count.

        Args:
            at: where the damaged part starts.
            head: the damaged part's head, if it has one.
        """
        passed = at
        for position in self._landmarks.after(at):
            if position < passed:
                continue
            passed, ended = self._end_of_run(position)
            if not self._belongs_to_archive(passed, ended, head):
                continue
            found = self._records.intact(position)
            if isinstance(found, Found) and isinstance(found.record, StoredBlock) and not self._may_continue_at(found.stop):
                self._records.mark_unproven(position)  # so many CRCs were tried that one alone proves too little
            return position
        return self._size

    def _end_of_run(self, at: int) -> tuple[int, bool]:
        """Return where the run of intact records and frames that begins here ends, and whether an end record is its last part."""
        ended = False
        while True:
            if size := start_at(self._data, at):
                at, ended = at + size, False
            elif found := self._records.intact(at):
                at, ended = found.stop, isinstance(found, Found) and ends_frame(found)
            else:
                return at, ended

    def _belongs_to_archive(self, stop: int, ended: bool, head: Head | None) -> bool:
        """Whether a run of records found by search is the archive's own, judged by where it ends.

        A file in the archive's content may be an archive, too.

        Args:
            stop: position after the run.
            ended: whether its last record is an end record.
            head: the head of the damaged part before the run, if it has one.
        """
        if ended and stop == self._size:
            return True
        if head and head.tag in (TAG_STORED, TAG_XZ, TAG_PARITY) and stop <= head.stop:
            return False  # inside that record
        if not ended or (head and head.tag in (TAG_CODED, TAG_FORM, TAG_SOLE) and head.content_size(self._data)):
            return True
        matches = sum(a == b for a, b in zip(self._data[stop : stop + len(_START)], _START, strict=False))
        at_end = self._size - stop < _MIN_TAIL or stop >= self._padding
        return matches >= _MIN_MATCHES or at_end or self._records.intact(stop + len(_START)) is not None

    def _may_continue_at(self, at: int) -> bool:
        """Whether a record, a frame or the archive's end can be at a position."""
        return at >= self._padding or start_at(self._data, at) > 0 or Head.at(self._data, at) is not None
