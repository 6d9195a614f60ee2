"""Records of an archive and how they are written: what a frame is made of. docs/format.md is the specification.

Nothing here knows the model or torch.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field

from llmzip.archive.wire import encode_flagged, varint
from llmzip.errors import DamagedArchiveError
from llmzip.parameters import MAX_BLOCK, AdapterParameters, AttentionSpan

MAGIC = b"\x89LLZ"
FORMAT_VERSION = 1
ARITHMETIC_VERSION = 4
DIGEST_BYTES = 10  # of the weights' SHA-256
TOKENIZER_BYTES = 6  # of the tokenizer's SHA-256
WHOLE_BYTES = 8  # of the content's SHA-256
MAX_RECORD = MAX_BLOCK + (1 << 16)
MAX_ID = 200  # characters of printable ASCII
MAX_WINDOW = 8160  # with the sinks, below what the engine's sums allow
MAX_SINKS = 16

TAG_MODEL, TAG_CODED, TAG_FORM, TAG_STORED, TAG_XZ, TAG_PARITY, TAG_END = b"M", b"C", b"F", b"S", b"X", b"P", b"E"


@dataclass(frozen=True)
class ModelRecord:
    """Which model codes the blocks that follow, and every parameter that affects a probability."""

    model_id: str
    digest: bytes
    tokenizer: bytes
    span: AttentionSpan
    adapter: AdapterParameters
    arithmetic: int = ARITHMETIC_VERSION

    def body(self) -> bytes:
        """The record's bytes."""
        name = self.model_id.encode("ascii")
        head = (
            bytes([self.arithmetic]) + varint(self.span.window) + bytes([self.span.sinks]) + encode_flagged(self.adapter, self.span.local)
        )
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
