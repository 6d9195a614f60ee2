"""Parses archives into checked records, from any source of bytes. docs/format.md is the specification.

There is one parser. It asks for bytes and does not know where they come from: `pull` reads them from a stream, and
`fileobj.incremental.PushReader` passes on bytes that come in pieces. Lengths are checked before memory is allocated.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Iterator
from typing import BinaryIO, NamedTuple, TypeVar

from llmzip.archive import forms, numbers
from llmzip.archive.records import (
    ARITHMETIC_VERSION,
    DIGEST_BYTES,
    FORMAT_VERSION,
    MAGIC,
    MAX_RECORD,
    MAX_SINKS,
    MAX_WINDOW,
    SOLE_DIGEST_BYTES,
    SOLE_TOKENIZER_BYTES,
    TAG_CODED,
    TAG_END,
    TAG_FORM,
    TAG_MODEL,
    TAG_PARITY,
    TAG_SOLE,
    TAG_STORED,
    TAG_XZ,
    TOKENIZER_BYTES,
    WHOLE_BYTES,
    AnyRecord,
    CodedBlock,
    EndRecord,
    FormBlock,
    ModelRecord,
    ParityRecord,
    Record,
    SoleBlock,
    StoredBlock,
    XzBlock,
    is_model_id,
    sole_digest,
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


def _decode_sole(c: _Cursor) -> SoleBlock:
    number, settings = c.take(2)
    digest, tokenizer = c.take(SOLE_DIGEST_BYTES), c.take(SOLE_TOKENIZER_BYTES)
    size = c.varint(MAX_BLOCK)
    symbols = c.varint(size)
    check, stream = c.word(), c.rest()
    if not symbols:
        raise DamagedArchiveError(_DAMAGED)
    model, meaning = numbers.MODELS.get(number), numbers.meaning(settings, symbols)
    if model is None or meaning is None:
        raise UnsupportedArchiveError("the archive was made with a model or a level that this llmzip does not know; use a newer llmzip")
    span, adapter, lanes = meaning
    record = ModelRecord(*model, span, adapter)
    if sole_digest(record) != digest or not record.tokenizer.startswith(tokenizer):
        raise UnsupportedArchiveError(
            f"the archive was made with another {model.model_id} than this llmzip knows; use the llmzip that wrote it"
        )
    return SoleBlock(record, CodedBlock(size, symbols, lanes, check, stream), settings)


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


def _decode_record(tag: bytes, body: bytes) -> AnyRecord:
    c = _Cursor(body)
    if tag == TAG_MODEL:
        return _decode_model(c)
    if tag == TAG_CODED:
        return _decode_coded(c)
    if tag == TAG_FORM:
        return _decode_form(c)
    if tag == TAG_SOLE:
        return _decode_sole(c)
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


def parse_start(first: bool) -> Parser[bytes]:
    """Parse magic and version, with which a frame starts, or the magic and the tag of a sole block.

    Args:
        first: whether this is the archive's first frame, which must exist.

    Returns:
        What was parsed; nothing if the archive ends instead. Zeros may follow its end, up to the input's end.

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
        return b""
    if start != MAGIC:
        if not first:
            raise DamagedArchiveError("what follows the archive's first part is not an llmzip archive; cut it off or get another copy")
        raise NotAnArchiveError("not an llmzip archive; check that this is the right file")
    version = yield from _exactly(1)
    if version[0] != FORMAT_VERSION and version != TAG_SOLE:
        raise UnsupportedArchiveError(
            f"format version {version[0]} is unknown to this llmzip (it reads {FORMAT_VERSION}); use a newer llmzip"
        )
    return start + version


def _padding(part: bytes) -> Parser[None]:
    """Parse the zeros after an archive's last frame, up to the input's end. Raises DamagedArchiveError if something else follows.

    Args:
        part: the first zeros, already read.
    """
    while part:
        part = yield 1 << 16
        if part.strip(b"\0"):
            raise DamagedArchiveError("something follows the archive's last part and the zeros after it; cut it off or get another copy")


def parse_record() -> Parser[AnyRecord]:
    """Parse one record, and check its CRC-32 and the bounds of its fields.

    Raises:
        UnsupportedArchiveError: this version cannot read the record.
        DamagedArchiveError: the record is damaged or cut short.
    """
    return (yield from _parse_sized_record())[0]


def _parse_sized_record(tag: bytes = b"") -> Parser[tuple[AnyRecord, int]]:
    """Parse one record, the tag of which may be parsed already; return it and its size in bytes."""
    head = tag + (yield from _exactly(2 - len(tag)))
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

    A sole block is given as the three records that it stands for: its bytes are those of the block, the others have none.

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
        pending: records that were parsed and are the next ones; no byte is needed for them.
    """

    def __init__(self) -> None:
        self.position = 0
        self.pending: tuple[Placed, ...] = ()
        self._frames = 0
        self._inside = False  # whether inside a frame
        self._model: ModelRecord | None = None

    def next_record(self) -> Parser[Placed | None]:
        """Parse the next record; return None at the archive's end.

        Raises:
            NotAnArchiveError, UnsupportedArchiveError, DamagedArchiveError: as for `parse_start` and `parse_record`.
        """
        if not self.pending:
            yield from self._parse()
        if not self.pending:
            return None
        return self.take()

    def take(self) -> Placed:
        """Return the first record that is pending."""
        placed, *rest = self.pending
        self.pending = tuple(rest)
        return placed

    def _parse(self) -> Parser[None]:
        """Make a record pending, or the three that a sole block stands for; none at the archive's end."""
        tag = b""
        if not self._inside:
            if not (start := (yield from parse_start(not self._frames))):
                return
            tag = start[len(MAGIC) :] if start.endswith(TAG_SOLE) else b""
            self.position += len(start) - len(tag)
            self._frames, self._inside, self._model = self._frames + 1, True, None
        record, size = yield from _parse_sized_record(tag)
        span = range(self.position, self.position + size)
        if isinstance(record, SoleBlock):
            if not tag:
                raise DamagedArchiveError(_DAMAGED)  # it is a frame by itself
            parts: list[tuple[Record, range]] = [(record.model, span[:0]), (record.block, span), (record.end, span[size:])]
            self.pending = tuple(Placed(part, place, record.model, self._frames - 1) for part, place in parts)
        else:
            self._model = record if isinstance(record, ModelRecord) else self._model
            self.pending = (Placed(record, span, self._model, self._frames - 1),)
        self.position, self._inside = span.stop, not isinstance(self.pending[-1].record, EndRecord)


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
