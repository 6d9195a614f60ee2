"""The records that a frame is made of, and how they are written. docs/format.md is the specification.

Nothing here needs the model or torch.
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
DIGEST_BYTES = 10  # leading bytes of the SHA-256 of the weights
TOKENIZER_BYTES = 6  # leading bytes of the SHA-256 of the tokenizer
WHOLE_BYTES = 8  # leading bytes of the SHA-256 of a frame's content
MAX_RECORD = MAX_BLOCK + (1 << 16)  # most bytes of a record's body
MAX_ID = 200  # most characters of a model's ID, all printable ASCII
MAX_WINDOW = 8160  # window and sinks together stay below the limit of the engine's sums
MAX_SINKS = 16

TAG_MODEL, TAG_CODED, TAG_FORM, TAG_STORED, TAG_XZ, TAG_PARITY, TAG_END = b"M", b"C", b"F", b"S", b"X", b"P", b"E"


@dataclass(frozen=True)
class ModelRecord:
    """The model that codes the blocks after this record, and every parameter that affects a probability.

    Attributes:
        model_id: the model's ID, printable ASCII.
        digest: the first bytes of the SHA-256 of the weights.
        tokenizer: the first bytes of the SHA-256 of the tokenizer.
        span: the attention span.
        adapter: parameters of the adapter.
        arithmetic: version of the arithmetic.
    """

    model_id: str
    digest: bytes
    tokenizer: bytes
    span: AttentionSpan
    adapter: AdapterParameters
    arithmetic: int = ARITHMETIC_VERSION

    def body(self) -> bytes:
        """Return the record's body."""
        name = self.model_id.encode("ascii")
        head = (
            bytes([self.arithmetic]) + varint(self.span.window) + bytes([self.span.sinks]) + encode_flagged(self.adapter, self.span.local)
        )
        return head + bytes([len(name)]) + name + self.digest + self.tokenizer


@dataclass(frozen=True)
class CodedBlock:
    """A block coded with the model.

    Attributes:
        size: bytes of content.
        symbols: number of symbols coded.
        lanes: number of lanes.
        check: CRC-32 of the content.
        stream: the coded symbols.
    """

    size: int
    symbols: int
    lanes: int
    check: int
    stream: bytes = field(repr=False)

    def body(self) -> bytes:
        """Return the record's body."""
        return varint(self.size) + varint(self.symbols) + varint(self.lanes) + struct.pack("<I", self.check) + self.stream


@dataclass(frozen=True)
class FormBlock(CodedBlock):
    """A coded block whose symbols are a text, from which the content is made as its side information says; see `forms`.

    Attributes:
        text: bytes of the text.
        packed: whether the side information is packed with LZMA2.
        side: the side information.
    """

    text: int
    packed: bool
    side: bytes = field(repr=False)

    def body(self) -> bytes:
        """Return the record's body."""
        side = bytes([self.packed]) + varint(len(self.side)) + self.side
        numbers = varint(self.text) + varint(self.symbols) + varint(self.lanes)
        return varint(self.size) + side + numbers + struct.pack("<I", self.check) + self.stream


@dataclass(frozen=True)
class StoredBlock:
    """A block stored without coding.

    Attributes:
        content: the content.
    """

    content: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of content."""
        return len(self.content)

    def body(self) -> bytes:
        """Return the record's body."""
        return self.content


@dataclass(frozen=True)
class XzBlock:
    """A block as raw LZMA2.

    Attributes:
        size: bytes of content.
        check: CRC-32 of the content.
        stream: the raw LZMA2.
    """

    size: int
    check: int
    stream: bytes = field(repr=False)

    def body(self) -> bytes:
        """Return the record's body."""
        return varint(self.size) + struct.pack("<I", self.check) + self.stream


@dataclass(frozen=True)
class ParityRecord:
    """Data for repairing what comes before its frame. Decoding does not use it.

    Attributes:
        content: the body; `parity.frame.read` reads it.
    """

    content: bytes = field(repr=False)

    def body(self) -> bytes:
        """Return the record's body."""
        return self.content


@dataclass(frozen=True)
class EndRecord:
    """The end of a frame.

    Attributes:
        size: bytes of the frame's whole content.
        check: the first bytes of the SHA-256 of the whole content.
    """

    size: int
    check: bytes

    def body(self) -> bytes:
        """Return the record's body."""
        return varint(self.size) + self.check


Block = CodedBlock | StoredBlock | XzBlock
Record = ModelRecord | Block | ParityRecord | EndRecord
_TAGS: dict[type[Record], bytes] = {
    ModelRecord: TAG_MODEL, CodedBlock: TAG_CODED, FormBlock: TAG_FORM, StoredBlock: TAG_STORED, XzBlock: TAG_XZ,
    ParityRecord: TAG_PARITY, EndRecord: TAG_END,
}  # fmt: skip
TAGS = frozenset(_TAGS.values())


class WholeCheck:
    """Running size and check of a frame's content.

    Attributes:
        size: bytes of content added.
    """

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def update(self, content: bytes) -> None:
        """Add a block's content."""
        self.size += len(content)
        self._hash.update(content)

    def record(self) -> EndRecord:
        """Return the end record for the content added."""
        return EndRecord(self.size, self._hash.digest()[:WHOLE_BYTES])


def check_size(blocks: int, end: EndRecord) -> None:
    """Raise DamagedArchiveError if a frame's blocks together do not have the size that its end record states.

    Args:
        blocks: bytes of content of all blocks.
        end: the end record.
    """
    if blocks != end.size:
        raise DamagedArchiveError("the blocks together do not have the size their archive states; get another copy")


def content_check(content: bytes) -> int:
    """Return the CRC-32 of a block's content."""
    return zlib.crc32(content)


def is_model_id(text: str) -> bool:
    """Return whether a model record can hold this ID."""
    return 1 <= len(text) <= MAX_ID and text.isascii() and text.isprintable()


def frame_start() -> bytes:
    """Return magic and version, with which a frame starts."""
    return MAGIC + bytes([FORMAT_VERSION])


def encode_record(record: Record) -> bytes:
    """Return a record's bytes: tag, length, body, and the CRC-32 of these three."""
    body = record.body()
    framed = _TAGS[type(record)] + varint(len(body)) + body
    return framed + struct.pack("<I", zlib.crc32(framed))
