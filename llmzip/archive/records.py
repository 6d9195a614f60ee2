"""The records that a frame is made of, and how they are written. docs/format.md is the specification.

Nothing here needs the model or torch.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field

from llmzip.archive.numbers import Numbered, model_number, settings_of
from llmzip.archive.wire import encode_flagged, varint
from llmzip.errors import DamagedArchiveError
from llmzip.parameters import MAX_BLOCK, AdapterParameters, AttentionSpan

MAGIC = b"\x89LLZ"
FORMAT_VERSION = 1
ARITHMETIC_VERSION = 4
DIGEST_BYTES = 10  # leading bytes of the SHA-256 of the weights
TOKENIZER_BYTES = 6  # leading bytes of the SHA-256 of the tokenizer
WHOLE_BYTES = 8  # leading bytes of the SHA-256 of a frame's content
SOLE_DIGEST_BYTES, SOLE_TOKENIZER_BYTES = (
    5,
    3,
)  # leading bytes that a sole block keeps of the SHA-256 of its model record's body, and of the tokenizer
MAX_RECORD = MAX_BLOCK + (1 << 16)  # most bytes of a record's body
MAX_ID = 200  # most characters of a model's ID, all printable ASCII
MAX_WINDOW = 8160  # window and sinks together stay below the limit of the engine's sums
MAX_SINKS = 16

TAG_MODEL, TAG_CODED, TAG_FORM, TAG_STORED, TAG_XZ, TAG_PARITY, TAG_END = b"M", b"C", b"F", b"S", b"X", b"P", b"E"
TAG_SOLE = b"\x84"  # comes right after the magic, in the place of the version


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
class SoleBlock:
    """A frame of one coded block in one short record: its model is registered, its parameters are those of a level.

    It means the same as a model record, a coded block and an end record. Make one with `sole_block`.

    Attributes:
        model: what a model record would say.
        block: the block.
        settings: the number of the parameters; see `numbers`.
    """

    model: ModelRecord
    block: CodedBlock
    settings: int

    @property
    def end(self) -> EndRecord:
        """What an end record would say. The block's own check is the only one."""
        return EndRecord(self.block.size, b"")

    def body(self) -> bytes:
        """Return the record's body."""
        number = model_number(_numbered(self.model))
        assert number is not None
        head = bytes([number, self.settings]) + sole_digest(self.model) + self.model.tokenizer[:SOLE_TOKENIZER_BYTES]
        block = self.block
        return head + varint(block.size) + varint(block.symbols) + struct.pack("<I", block.check) + block.stream


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
        check: the first bytes of the SHA-256 of the whole content; none if the frame is a sole block.
    """

    size: int
    check: bytes

    def body(self) -> bytes:
        """Return the record's body."""
        return varint(self.size) + self.check


Block = CodedBlock | StoredBlock | XzBlock
Record = ModelRecord | Block | ParityRecord | EndRecord  # what an archive is read as
AnyRecord = Record | SoleBlock  # as it is stored
_TAGS: dict[type[AnyRecord], bytes] = {
    ModelRecord: TAG_MODEL, CodedBlock: TAG_CODED, FormBlock: TAG_FORM, StoredBlock: TAG_STORED, XzBlock: TAG_XZ,
    ParityRecord: TAG_PARITY, EndRecord: TAG_END, SoleBlock: TAG_SOLE,
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

    def is_what(self, end: EndRecord) -> bool:
        """Return whether the content added is what an end record says."""
        return self.size == end.size and self._hash.digest().startswith(end.check)


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


def sole_block(model: ModelRecord, block: CodedBlock) -> SoleBlock | None:
    """Return the sole block that means the same as these records; None if there is none."""
    settings = settings_of(model.span, model.adapter, block.symbols, block.lanes)
    if model_number(_numbered(model)) is None or settings is None or isinstance(block, FormBlock):
        return None
    return SoleBlock(model, block, settings)


def frame_size(only: SoleBlock | StoredBlock | XzBlock) -> int:
    """Return the bytes of a frame that holds nothing else."""
    if isinstance(only, SoleBlock):
        return len(MAGIC) + len(encode_record(only))
    return len(frame_start()) + len(encode_record(only)) + len(encode_record(EndRecord(only.size, bytes(WHOLE_BYTES))))


def sole_digest(model: ModelRecord) -> bytes:
    """Return the bytes by which a sole block binds its weights and parameters."""
    return hashlib.sha256(model.body()).digest()[:SOLE_DIGEST_BYTES]


def _numbered(model: ModelRecord) -> Numbered:
    return Numbered(model.model_id, model.digest, model.tokenizer)


def frame_start() -> bytes:
    """Return magic and version, with which a frame of records starts."""
    return MAGIC + bytes([FORMAT_VERSION])


def start_at(data: bytes, at: int) -> int:
    """Return how many bytes the start of a frame at a position has: magic and version, or the magic before a sole block; 0 if none starts there."""
    if data.startswith(frame_start(), at):
        return len(frame_start())
    return len(MAGIC) if data.startswith(MAGIC + TAG_SOLE, at) else 0


def encode_record(record: AnyRecord) -> bytes:
    """Return a record's bytes: tag, length, body, and the CRC-32 of these three."""
    body = record.body()
    framed = _TAGS[type(record)] + varint(len(body)) + body
    return framed + struct.pack("<I", zlib.crc32(framed))
