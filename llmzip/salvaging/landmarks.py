"""Finds heads of records, and positions where intact records begin, without reading an archive from its start."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from llmzip.archive.forms import MAX_SIDE
from llmzip.archive.records import (
    MAGIC,
    MAX_RECORD,
    SOLE_DIGEST_BYTES,
    SOLE_TOKENIZER_BYTES,
    TAG_CODED,
    TAG_END,
    TAG_FORM,
    TAG_SOLE,
    TAG_STORED,
    TAG_XZ,
    TAGS,
    WHOLE_BYTES,
    start_at,
)
from llmzip.archive.wire import Cursor, varint
from llmzip.errors import DamagedArchiveError
from llmzip.parameters import MAX_BLOCK, MAX_LANES
from llmzip.salvaging import crc

_WINDOW = 1 << 20  # bytes searched at a time
_KNOWN = np.isin(np.arange(256), [tag[0] for tag in TAGS])
_LENGTH_BYTES = 5  # most bytes of an encoded length
_CRC_BYTES = 4


@dataclass(frozen=True)
class Head:
    """Tag and length of a record as stored, whether or not they are right.

    Attributes:
        tag: the first byte.
        start: position where the record begins.
        body: position where its body begins.
        stop: position where it ends according to its length; may lie beyond the archive.
    """

    tag: bytes
    start: int
    body: int
    stop: int

    @classmethod
    def at(cls, data: bytes, start: int, known: bool = True) -> Head | None:
        """Return the head at a position.

        Args:
            data: the archive.
            start: the position.
            known: whether only tags that this version knows are accepted.

        Returns:
            The head, or None if no record can begin there.
        """
        tag = data[start : start + 1]
        end = start + 1
        while end < len(data) and end <= start + _LENGTH_BYTES and data[end] & 0x80:
            end += 1
        end += 1
        try:
            length = Cursor(data[start + 1 : end]).varint(MAX_RECORD)
        except DamagedArchiveError:
            return None
        if (known and tag not in TAGS) or end > start + 1 + _LENGTH_BYTES:
            return None
        return cls(tag, start, end, end + length + _CRC_BYTES)

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return self.stop - self.body - _CRC_BYTES

    def difference(self, data: bytes) -> int:
        """Return the exclusive or of the stored CRC-32 and the computed one; 0 for an intact record."""
        view = memoryview(data)
        return zlib.crc32(view[self.start : self.stop - _CRC_BYTES]) ^ int.from_bytes(view[self.stop - _CRC_BYTES : self.stop], "little")

    def content_size(self, data: bytes) -> int | None:
        """Return the bytes of content according to the record's fields; 0 if it is not a block, None if the fields are out of range."""
        cursor = Cursor(data[self.body : min(self.body + 32, self.stop - _CRC_BYTES)])
        try:
            if self.tag == TAG_STORED:
                return self.length if self.length <= MAX_BLOCK else None
            if self.tag == TAG_CODED:
                size = cursor.varint(MAX_BLOCK)
                symbols = cursor.varint(size)
                lanes = cursor.varint(min(symbols, MAX_LANES))
                return size if lanes and self.length <= 4 * (symbols + lanes) + 20 else None  # 28 bits a symbol, at most
            if self.tag == TAG_SOLE:
                cursor.take(2 + SOLE_DIGEST_BYTES + SOLE_TOKENIZER_BYTES)
                size = cursor.varint(MAX_BLOCK)
                return size if cursor.varint(size) else None
            if self.tag == TAG_FORM:
                size = cursor.varint(MAX_BLOCK)
                return size if size and cursor.take(1)[0] <= 1 and cursor.varint(MAX_SIDE) < self.length else None
            return cursor.varint(MAX_BLOCK) if self.tag == TAG_XZ else 0
        except DamagedArchiveError:
            return None

    def total(self, data: bytes) -> int | None:
        """Return the bytes of the frame's content according to an end record's fields; None if this cannot be an end record."""
        body = data[self.body : self.stop - _CRC_BYTES]
        try:
            size = Cursor(body).varint(1 << 63)
        except DamagedArchiveError:
            return None
        return size if self.tag == TAG_END and len(body) == len(varint(size)) + WHOLE_BYTES else None


class Landmarks:
    """Positions where something intact begins: a record whose CRC-32 holds, or a frame. They are found when first asked for, and kept."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._windows: dict[int, list[int]] = {}

    def __contains__(self, position: int) -> bool:
        found = self._window(position // _WINDOW)
        i = bisect_right(found, position)
        return i > 0 and found[i - 1] == position

    def after(self, position: int) -> Iterator[int]:
        """Yield the landmarks after a position, in order."""
        for window in range(position // _WINDOW, -(-len(self._data) // _WINDOW)):
            found = self._window(window)
            yield from found[bisect_right(found, position) :]

    def _window(self, window: int) -> list[int]:
        if window not in self._windows:
            start = window * _WINDOW
            stop = min(start + _WINDOW, len(self._data))
            self._windows[window] = sorted({*_records(self._data, start, stop), *_frames(self._data, start, stop)})
        return self._windows[window]


def _frames(data: bytes, start: int, stop: int) -> Iterator[int]:
    """Yield the positions in data[start:stop] where frames start."""
    at = data.find(MAGIC, start, stop + len(MAGIC) - 1)
    while at >= 0:
        if start_at(data, at):
            yield at
        at = data.find(MAGIC, at + 1, stop + len(MAGIC) - 1)


def _records(data: bytes, start: int, stop: int) -> list[int]:
    """Return the positions in data[start:stop] where a record starts: a known tag, a length in bounds and a correct CRC-32."""
    everything = np.frombuffer(data, dtype=np.uint8)
    part = everything[start : stop + _LENGTH_BYTES].astype(np.int64)
    part = np.concatenate([part, np.full(_LENGTH_BYTES, 0xFF)])  # no length ends there
    tags = np.flatnonzero(_KNOWN[part[: stop - start]])
    length, size = np.zeros_like(tags), np.ones_like(tags)
    more = np.ones(len(tags), dtype=bool)
    plausible = ~more
    for i in range(_LENGTH_BYTES):
        group = part[tags + 1 + i]
        length += np.where(more, group & 0x7F, 0) << 7 * i
        size += more
        plausible |= more & (group < 0x80) & ((group > 0) | (i == 0))  # ends here, in its shortest form
        more &= group >= 0x80
    ends = tags + start + size + length  # of the bodies
    plausible &= (length <= MAX_RECORD) & (ends + _CRC_BYTES <= len(data))
    tags, ends = tags[plausible], ends[plausible]
    if not len(tags):
        return []
    stored = sum(everything[ends + i].astype(np.uint32) << np.uint32(8 * i) for i in range(_CRC_BYTES))
    found: list[int] = (tags[crc.of_spans(data, tags + start, ends) == stored] + start).tolist()
    return found
