"""Finds the record at a position of a damaged archive, and repairs it where its CRC-32 allows.

Two kinds of damage are repaired: one flipped bit, which the CRC identifies, and a destroyed tag and length, which are rebuilt from the
position where the record ends.

A hostile archive may consist of nothing but damage. The work spent on repair is therefore limited in proportion to the archive's size.
When the limit is reached, only intact records are found.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, takewhile

import numpy as np

from llmzip.archive.parser import parse_record, pull
from llmzip.archive.records import MAX_RECORD, TAGS, AnyRecord, StoredBlock
from llmzip.archive.wire import varint
from llmzip.errors import LLZError
from llmzip.salvaging import crc
from llmzip.salvaging.items import Found, Lost
from llmzip.salvaging.landmarks import Head, Landmarks

_MAX_HEAD = 6  # bytes of tag and length
_MAX_STOPS = 4096  # ends tried for one record; there are many only if the record holds archives
# The work allowed for repair is counted in tries. The archive has _TRIES, and one more for each _SHARE of its bytes. Testing one possible end
# of a record costs one try, a search for a flipped bit costs _FLIP, and _CHECKED bytes of which the CRC is computed cost one.
_TRIES = 1 << 17
_SHARE = 4
_FLIP = 256
_CHECKED = 4096


def parse(raw: bytes) -> AnyRecord:
    """Return the record in `raw`. Raises LLZError."""
    return pull(parse_record(), io.BytesIO(raw))


class RecordFinder:
    """Finds intact and repairable records by position.

    Attributes:
        landmarks: positions where intact records and frames begin.
        padding: position where the zeros at the archive's end begin; the archive's size if there are none.
    """

    def __init__(self, data: bytes) -> None:
        self.landmarks = Landmarks(data)
        self.padding = len(data.rstrip(b"\0"))
        self._data, self._view, self._size = data, memoryview(data), len(data)
        self._checked: dict[int, Found | Lost | None] = {}  # results of `intact`
        self._repaired: dict[int, Found | None] = {}  # results of the repairs
        self._tries = _TRIES + self._size // _SHARE

    def intact(self, at: int) -> Found | Lost | None:
        """Return the record at a position if its CRC holds, else None. It is `Lost` if this version cannot read it."""
        if at not in self._checked:
            self._checked[at] = None
            head = Head.at(self._data, at, known=False)
            if head and head.stop <= self._size and self._crc_holds(head):
                try:
                    self._checked[at] = Found(at, head.stop, parse(self._data[at : head.stop]))
                except LLZError as e:
                    self._checked[at] = Lost(at, head.stop, str(e), True, head.tag, head.content_size(self._data))
        return self._checked[at]

    def intact_or_repaired(self, at: int) -> Found | Lost | None:
        """Return the record at a position if it is intact or can be repaired, else None."""
        found = self.intact(at)
        if not found and at < self._size:
            if at not in self._repaired:
                self._repaired[at] = self.flip_repaired(at) or self._head_rebuilt(at)
            found = self._repaired[at]
        return found

    def flip_repaired(self, at: int) -> Found | None:
        """Return the record at a position, repaired, if one flipped bit explains its damage."""
        if not self.spend(_FLIP, 0):
            return None
        head = Head.at(self._data, at)
        if head and head.stop <= self._size and self.spend(0, head.stop - at):
            bit = crc.flipped_bit(head.difference(self._data), head.stop - at)
            if bit is not None and (found := self._with_bit_flipped(at, head.stop, bit)):
                return found
        raw = self._data[at : at + _MAX_HEAD]
        for bit in range(8 * len(raw)):
            head = Head.at(_flip(raw, bit), 0)
            if head and bit < 8 * head.body and at + head.stop <= self._size:
                found = self._with_bit_flipped(at, at + head.stop, bit)
                if found:
                    return found
        return None

    def mark_unproven(self, at: int) -> None:
        """Note that the CRC of the intact record at a position does not prove it."""
        found = self.intact(at)
        assert isinstance(found, Found)
        self._checked[at] = replace(found, proven=False)

    def spend(self, tries: int, size: int) -> bool:
        """Subtract work from what is allowed.

        Args:
            tries: number of tries.
            size: bytes to be checked.

        Returns:
            False if too little was left.
        """
        self._tries -= tries + size // _CHECKED
        return self._tries >= 0

    def _crc_holds(self, head: Head) -> bool:
        if head.tag in TAGS:
            return head.start in self.landmarks
        return self.spend(0, head.stop - head.start) and not head.difference(self._data)

    def _with_bit_flipped(self, at: int, stop: int, bit: int) -> Found | None:
        """Return the record data[at:stop] with one bit flipped, if its CRC holds then."""
        if not self.spend(0, stop - at):
            return None
        raw = _flip(self._data[at:stop], bit)
        head = Head.at(raw, 0)
        if not head or head.stop != len(raw) or head.difference(raw):
            return None
        try:
            record = parse(raw)
        except LLZError:
            return None
        # In a large body, some bit explains by chance what many damaged bytes did. The check of the content reveals that, but stored
        # blocks have none.
        proven = not (isinstance(record, StoredBlock) and head.body <= bit // 8 < len(raw) - 4)
        return Found(at, stop, record, f"bit {bit % 8} of byte {at + bit // 8:,} of the archive was flipped", proven)

    def _head_rebuilt(self, at: int) -> Found | None:
        """Return the record at a position with its tag and length rebuilt, if its end is known and its CRC holds then."""
        near = takewhile(lambda p: p <= at + _MAX_HEAD + MAX_RECORD + 4, self.landmarks.after(at + _MAX_HEAD - 1))
        stops = [*islice(near, min(_MAX_STOPS, max(self._tries, 0))), *self._archive_ends(at)]
        if not self.spend(len(stops), stops[-2] - at if len(stops) > 1 else 0):
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
                record = parse(head + self._data[at + len(head) : stop])
            except LLZError:
                continue
            return Found(at, stop, record, "its kind and length were destroyed")
        return None

    def _archive_ends(self, at: int) -> list[int]:
        """Positions after `at` where the archive's last record may end. Zeros may follow it, and its CRC may end in zeros as well."""
        return sorted({end for end in (*range(self.padding, self.padding + 4), self._size) if at < end <= self._size})


def _flip(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _lengths(total: int) -> Iterator[bytes]:
    """Yield each encoded body length with which a record has `total` bytes."""
    for size in range(1, _MAX_HEAD):
        body = total - 1 - size - 4
        if 0 <= body <= MAX_RECORD and len(varint(body)) == size:
            yield varint(body)
