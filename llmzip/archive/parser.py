"""Parses archives into checked records, from any source of bytes. docs/format.md is the specification.

There is one parser. It asks for bytes and does not know where they come from: `pull` reads them from a stream, and
`fileobj.incremental.PushReader` passes on bytes that come in pieces. Lengths are checked before memory is allocated.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Iterator
from typing import BinaryIO, NamedTuple, TypeVar

from llmzip.archive import forms
from llmzip.archive.records import (
    ARITHMETIC_VERSION,
    DIGEST_BYTES,
    FORMAT_VERSION,
    MAGIC,
    MAX_RECORD,
    MAX_SINKS,
    MAX_WINDOW,
    TAG_CODED,
    TAG_END,
    TAG_FORM,
    TAG_MODEL,
    TAG_PARITY,
    TAG_STORED,
    TAG_XZ,
    TOKENIZER_BYTES,
    WHOLE_BYTES,
    CodedBlock,
    EndRecord,
    FormBlock,
    ModelRecord,
    ParityRecord,
    Record,
    StoredBlock,
    XzBlock,
    frame_start,
    is_model_id,
)
from llmzip.archive.wire import DAMAGED as _DAMAGED
from llmzip.archive.wire import Cursor as _Cursor
from llmzip.archive.wire import decode_flagged
from llmzip.errors import DamagedArchiveError, NotAnArchiveError, UnsupportedArchiveError
from llmzip.parameters import MAX_BLOCK, MAX_LANES, AttentionSpan
from llmzip.system import streams

_CRC_BYTES = 4


def _decode_model(c: _Cursor) -> ModelRecord:
    arithmetic = c.take(1)[0]
    if arithmetic != ARITHMETIC_VERSION:
        raise UnsupportedArchiveError(
            f"the archive uses arithmetic version {arithmetic}, this llmzip knows {ARITHMETIC_VERSION}; use the llmzip that wrote it"
        )
    window, sinks = c.varint(MAX_WINDOW), c.take(1)[0]
    if window < 1 or sinks > MAX_SINKS:
        raise DamagedArchiveError(_DAMAGED)
    adapter, local = decode_flagged(c)
    model_id = c.take(c.take(1)[0]).decode("latin-1")
    if not is_model_id(model_id):
        raise DamagedArchiveError(_DAMAGED)
    record = ModelRecord(model_id, c.take(DIGEST_BYTES), c.take(TOKENIZER_BYTES), AttentionSpan(window, sinks, local), adapter, arithmetic)
    c.end()
    return record


def _decode_coded(c: _Cursor) -> CodedBlock:
    size = c.varint(MAX_BLOCK)
    symbols = c.varint(size)  # every symbol is at least one byte
    lanes = c.varint(min(symbols, MAX_LANES))
    if lanes < 1:
        raise DamagedArchiveError(_DAMAGED)
    return CodedBlock(size, symbols, lanes, c.word(), c.rest())


def _decode_form(c: _Cursor) -> FormBlock:
    size, packed = c.varint(MAX_BLOCK), c.take(1)[0]
    if packed > 1:
        raise UnsupportedArchiveError("the archive holds a block of a form that this llmzip does not know; use a newer llmzip")
    side = c.take(c.varint(forms.MAX_SIDE))
    text = c.varint(MAX_BLOCK)
    symbols = c.varint(text)
    lanes = c.varint(min(symbols, MAX_LANES))
    if lanes < 1 or size < 1:
        raise DamagedArchiveError(_DAMAGED)
    forms.read_side(side, bool(packed), size, text)
    return FormBlock(size, symbols, lanes, c.word(), c.rest(), text, bool(packed), side)


def _decode_record(tag: bytes, body: bytes) -> Record:
    c = _Cursor(body)
    if tag == TAG_MODEL:
        return _decode_model(c)
    if tag == TAG_CODED:
        return _decode_coded(c)
    if tag == TAG_FORM:
        return _decode_form(c)
    if tag == TAG_STORED:
        if len(body) > MAX_BLOCK:
            raise DamagedArchiveError(_DAMAGED)
        return StoredBlock(body)
    if tag == TAG_XZ:
        return XzBlock(c.varint(MAX_BLOCK), c.word(), c.rest())
    if tag == TAG_PARITY:
        return ParityRecord(body)
    if tag == TAG_END:
        record = EndRecord(c.varint(1 << 63), c.take(WHOLE_BYTES))
        c.end()
        return record
    raise UnsupportedArchiveError(f"the archive holds a record of unknown kind {tag!r}; use a newer llmzip")


_T = TypeVar("_T")
Parser = Generator[int, bytes, _T]  # yields the most bytes it wants, and is sent that many or fewer; none at the end of input


def _exactly(n: int) -> Parser[bytes]:
    """Return the next n bytes. Raises DamagedArchiveError if there are fewer."""
    out = bytearray()  # parts may be of one byte each
    while len(out) < n:
        part = yield min(n - len(out), 1 << 20)
        if not part:
            raise DamagedArchiveError("the archive ends too early: it is cut short; get another copy")
        out += part
    return bytes(out)


def parse_start(first: bool) -> Parser[bool]:
    """Parse magic and version, with which a frame starts.

    Args:
        first: whether this is the archive's first frame, which must exist.

    Returns:
        True if a frame starts; False if the archive ends instead. Zeros may follow its end, up to the input's end.

    Raises:
        NotAnArchiveError: the first frame does not start with the magic.
        UnsupportedArchiveError: the format version is unknown.
        DamagedArchiveError: something else follows a frame, or the input is cut short.
    """
    start = b""
    while len(start) < len(MAGIC) and (part := (yield len(MAGIC) - len(start))):
        start += part
    if not first and not start.strip(b"\0"):
        yield from _padding(start)
        return False
    if start != MAGIC:
        if not first:
            raise DamagedArchiveError("what follows the archive's first part is not an llmzip archive; cut it off or get another copy")
        raise NotAnArchiveError("not an llmzip archive; check that this is the right file")
    version = (yield from _exactly(1))[0]
    if version != FORMAT_VERSION:
        raise UnsupportedArchiveError(f"format version {version} is unknown to this llmzip (it reads {FORMAT_VERSION}); use a newer llmzip")
    return True


def _padding(part: bytes) -> Parser[None]:
    """Parse the zeros after an archive's last frame, up to the input's end. Raises DamagedArchiveError if something else follows.

    Args:
        part: the first zeros, already read.
    """
    while part:
        part = yield 1 << 16
        if part.strip(b"\0"):
            raise DamagedArchiveError("something follows the archive's last part and the zeros after it; cut it off or get another copy")


def parse_record() -> Parser[Record]:
    """Parse one record, and check its CRC-32 and the bounds of its fields.

    Raises:
        UnsupportedArchiveError: this version cannot read the record.
        DamagedArchiveError: the record is damaged or cut short.
    """
    return (yield from _parse_sized_record())[0]


def _parse_sized_record() -> Parser[tuple[Record, int]]:
    """Parse one record; return it and its size in bytes."""
    head = yield from _exactly(2)
    while head[-1] & 0x80:
        if len(head) > 5:
            raise DamagedArchiveError(_DAMAGED)
        head += yield from _exactly(1)
    length = _Cursor(head[1:]).varint(MAX_RECORD)
    body = yield from _exactly(length)
    if struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) != (yield from _exactly(_CRC_BYTES)):
        raise DamagedArchiveError(_DAMAGED)
    return _decode_record(head[:1], body), len(head) + length + _CRC_BYTES


class Placed(NamedTuple):
    """A record, its position in the archive, and the model in force there.

    Attributes:
        record: the record.
        span: positions of its bytes in the archive.
        model: the latest model record of the frame, this one included; None before the first.
        frame: number of its frame in the archive, from 0.
    """

    record: Record
    span: range
    model: ModelRecord | None
    frame: int


class ArchiveParser:
    """Parses an archive record by record.

    It counts frames and positions and tracks the model in force, so that no other code needs to.

    Attributes:
        position: position of the next byte to parse.
    """

    def __init__(self) -> None:
        self.position = 0
        self._frames = 0
        self._inside = False  # whether inside a frame
        self._model: ModelRecord | None = None

    def next_record(self) -> Parser[Placed | None]:
        """Parse the next record; return None at the archive's end.

        Raises:
            NotAnArchiveError, UnsupportedArchiveError, DamagedArchiveError: as for `parse_start` and `parse_record`.
        """
        if not self._inside:
            if not (yield from parse_start(not self._frames)):
                return None
            self.position += len(frame_start())
            self._frames, self._inside, self._model = self._frames + 1, True, None
        record, size = yield from _parse_sized_record()
        if isinstance(record, ModelRecord):
            self._model = record
        span = range(self.position, self.position + size)
        self.position, self._inside = span.stop, not isinstance(record, EndRecord)
        return Placed(record, span, self._model, self._frames - 1)


def pull(parser: Parser[_T], source: BinaryIO) -> _T:
    """Run a parser on a stream, which may return fewer bytes at a time than asked for, and return its result."""
    try:
        wanted = next(parser)
        while True:
            wanted = parser.send(streams.read(source, wanted))
    except StopIteration as done:
        result: _T = done.value
        return result


def read_records(source: BinaryIO) -> Iterator[Placed]:
    """Yield all records of an archive, frame after frame.

    Args:
        source: a binary file, read from its current position; positions in the archive count from there.

    Raises:
        NotAnArchiveError, UnsupportedArchiveError, DamagedArchiveError: as for `parse_start` and `parse_record`.
    """
    parser = ArchiveParser()
    while (placed := pull(parser.next_record(), source)) is not None:
        yield placed
