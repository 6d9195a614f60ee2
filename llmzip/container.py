"""The archive: frames of checked records. docs/format.md is the specification; this module reads and writes it.

Nothing here knows the model or torch. Lengths are bounded before anything is allocated.

There is one parser, which asks for bytes and does not know where they come from: `pull` takes them from a stream,
`incremental.PushReader` takes what it is given.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, TypeVar

from llmzip import forms, streams
from llmzip.errors import DamagedArchiveError, NotAnArchiveError, UnsupportedArchiveError
from llmzip.fields import DAMAGED as _DAMAGED
from llmzip.fields import Cursor as _Cursor
from llmzip.fields import decode_flagged, encode_flagged, varint
from llmzip.parameters import AdapterParameters

MAGIC = b"\x89LLZ"
FORMAT_VERSION = 1
ARITHMETIC_VERSION = 4
DIGEST_BYTES = 10  # of the weights' SHA-256
TOKENIZER_BYTES = 6  # of the tokenizer's SHA-256
WHOLE_BYTES = 8  # of the content's SHA-256
MAX_BLOCK = 1 << 24  # bytes of content in one block
MAX_RECORD = MAX_BLOCK + (1 << 16)
MAX_ID = 200  # characters of printable ASCII
MAX_LANES = 4096
MAX_WINDOW = 8160  # with the sinks, below what the engine's sums allow
MAX_SINKS = 16

TAG_MODEL, TAG_CODED, TAG_FORM, TAG_STORED, TAG_XZ, TAG_PARITY, TAG_END = b"M", b"C", b"F", b"S", b"X", b"P", b"E"


@dataclass(frozen=True)
class ModelRecord:
    """Which model codes the blocks that follow, and every parameter that affects a probability."""

    model_id: str
    digest: bytes
    tokenizer: bytes
    window: int
    sinks: int
    adapter: AdapterParameters
    near: bool = True  # whether the heads that look near do
    arithmetic: int = ARITHMETIC_VERSION

    def body(self) -> bytes:
        """The record's bytes."""
        name = self.model_id.encode("ascii")
        head = bytes([self.arithmetic]) + varint(self.window) + bytes([self.sinks]) + encode_flagged(self.adapter, self.near)
        return head + bytes([len(name)]) + name + self.digest + self.tokenizer


@dataclass(frozen=True)
class CodedBlock:
    """A block coded with the model."""

    size: int
    symbols: int
    lanes: int
    check: int  # CRC-32 of the content
    stream: bytes = field(repr=False)

    def body(self) -> bytes:
        """The record's bytes."""
        return varint(self.size) + varint(self.symbols) + varint(self.lanes) + struct.pack("<I", self.check) + self.stream


@dataclass(frozen=True)
class FormBlock(CodedBlock):
    """A block whose symbols stand for a text from which the content is made, as its side information says; `forms` knows how."""

    text: int  # bytes
    packed: bool  # whether the side information is LZMA2
    side: bytes = field(repr=False)

    def body(self) -> bytes:
        """The record's bytes."""
        side = bytes([self.packed]) + varint(len(self.side)) + self.side
        numbers = varint(self.text) + varint(self.symbols) + varint(self.lanes)
        return varint(self.size) + side + numbers + struct.pack("<I", self.check) + self.stream


@dataclass(frozen=True)
class StoredBlock:
    """A block as it is."""

    content: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of content."""
        return len(self.content)

    def body(self) -> bytes:
        """The record's bytes."""
        return self.content


@dataclass(frozen=True)
class XzBlock:
    """A block as raw LZMA2."""

    size: int
    check: int
    stream: bytes = field(repr=False)

    def body(self) -> bytes:
        """The record's bytes."""
        return varint(self.size) + struct.pack("<I", self.check) + self.stream


@dataclass(frozen=True)
class ParityRecord:
    """Helps to repair what comes before its frame; decoding has no use for it. `parity.read` knows what is in it."""

    content: bytes = field(repr=False)

    def body(self) -> bytes:
        """The record's bytes."""
        return self.content


@dataclass(frozen=True)
class EndRecord:
    """Ends a frame: size and check of its whole content."""

    size: int
    check: bytes

    def body(self) -> bytes:
        """The record's bytes."""
        return varint(self.size) + self.check


Block = CodedBlock | StoredBlock | XzBlock
Record = ModelRecord | Block | ParityRecord | EndRecord
_TAGS: dict[type[Record], bytes] = {
    ModelRecord: TAG_MODEL, CodedBlock: TAG_CODED, FormBlock: TAG_FORM, StoredBlock: TAG_STORED, XzBlock: TAG_XZ,
    ParityRecord: TAG_PARITY, EndRecord: TAG_END,
}  # fmt: skip
TAGS = frozenset(_TAGS.values())


class WholeCheck:
    """Running size and check of a frame's content."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def update(self, content: bytes) -> None:
        """Adds a block's content."""
        self.size += len(content)
        self._hash.update(content)

    def record(self) -> EndRecord:
        """The end record for what was added."""
        return EndRecord(self.size, self._hash.digest()[:WHOLE_BYTES])


def check_size(blocks: int, end: EndRecord) -> None:
    """Fails if the blocks of a frame have not together the size that its end record states. Raises DamagedArchiveError."""
    if blocks != end.size:
        raise DamagedArchiveError("the blocks together do not have the size their archive states; get another copy")


def content_check(content: bytes) -> int:
    """CRC-32 of a block's content."""
    return zlib.crc32(content)


def is_model_id(text: str) -> bool:
    """Whether a model record can hold this ID."""
    return 1 <= len(text) <= MAX_ID and text.isascii() and text.isprintable()


def frame_start() -> bytes:
    """Magic and version."""
    return MAGIC + bytes([FORMAT_VERSION])


def encode_record(record: Record) -> bytes:
    """Tag, length, body and CRC-32 of the three."""
    body = record.body()
    framed = _TAGS[type(record)] + varint(len(body)) + body
    return framed + struct.pack("<I", zlib.crc32(framed))


def _decode_model(c: _Cursor) -> ModelRecord:
    arithmetic = c.take(1)[0]
    if arithmetic != ARITHMETIC_VERSION:
        raise UnsupportedArchiveError(
            f"the archive uses arithmetic version {arithmetic}, this llmzip knows {ARITHMETIC_VERSION}; use the llmzip that wrote it"
        )
    window, sinks = c.varint(MAX_WINDOW), c.take(1)[0]
    if window < 1 or sinks > MAX_SINKS:
        raise DamagedArchiveError(_DAMAGED)
    adapter, near = decode_flagged(c)
    model_id = c.take(c.take(1)[0]).decode("latin-1")
    if not is_model_id(model_id):
        raise DamagedArchiveError(_DAMAGED)
    record = ModelRecord(model_id, c.take(DIGEST_BYTES), c.take(TOKENIZER_BYTES), window, sinks, adapter, near, arithmetic)
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
Parser = Generator[int, bytes, _T]  # yields how many bytes it wants at most, is sent that many or fewer; none at the end


def _exactly(n: int) -> Parser[bytes]:
    out = bytearray()  # parts may be of one byte each
    while len(out) < n:
        part = yield min(n - len(out), 1 << 20)
        if not part:
            raise DamagedArchiveError("the archive ends too early: it is cut short; get another copy")
        out += part
    return bytes(out)


def parse_start(first: bool) -> Parser[bool]:
    """Magic and version; False where an archive ends, with zeros up to the input's end or without, instead of going on with another frame.

    Args:
        first: whether this is the archive's first frame, which must be there.

    Raises:
        NotAnArchiveError, UnsupportedArchiveError, DamagedArchiveError.
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
    """What is left of the input after an archive's last frame: zeros, of which `part` are the first."""
    while part:
        part = yield 1 << 16
        if part.strip(b"\0"):
            raise DamagedArchiveError("something follows the archive's last part and the zeros after it; cut it off or get another copy")


def parse_record() -> Parser[Record]:
    """A record, whose CRC-32 and bounds hold. Raises UnsupportedArchiveError, DamagedArchiveError."""
    head = yield from _exactly(2)
    while head[-1] & 0x80:
        if len(head) > 5:
            raise DamagedArchiveError(_DAMAGED)
        head += yield from _exactly(1)
    length = _Cursor(head[1:]).varint(MAX_RECORD)
    body = yield from _exactly(length)
    if struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) != (yield from _exactly(4)):
        raise DamagedArchiveError(_DAMAGED)
    return _decode_record(head[:1], body)


def pull(parser: Parser[_T], source: BinaryIO) -> _T:
    """Runs a parser on a stream, which may give fewer bytes at a time than asked for."""
    try:
        wanted = next(parser)
        while True:
            wanted = parser.send(streams.read(source, wanted))
    except StopIteration as done:
        result: _T = done.value
        return result


def read_frames(source: BinaryIO) -> Iterator[Iterator[Record]]:
    """The frames of an archive, each an iterator over its records up to and including the end record.

    A frame must be read to its end before the next is asked for.

    Raises:
        NotAnArchiveError, UnsupportedArchiveError, DamagedArchiveError.
    """
    first = True
    while pull(parse_start(first), source):
        yield _records(source)
        first = False


def _records(source: BinaryIO) -> Iterator[Record]:
    while True:
        record = pull(parse_record(), source)
        yield record
        if isinstance(record, EndRecord):
            return
