"""Summary of an archive, read from its records without decoding. It needs no model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

from llmzip.archive import forms, records
from llmzip.archive.parity import frame as parity_frame
from llmzip.archive.parity.layout import Layout
from llmzip.archive.parser import read_records
from llmzip.archive.records import (
    Block,
    CodedBlock,
    EndRecord,
    FormBlock,
    ModelRecord,
    ParityRecord,
    Record,
    StoredBlock,
    XzBlock,
    check_size,
)


@dataclass
class Summary:
    """Sums over all frames of an archive.

    Attributes:
        frames: number of frames, without parity frames.
        archive: bytes of the archive.
        content: bytes of content.
        parity: bytes of parity frames.
        coded: number of blocks coded by a model.
        packed: number of blocks packed with LZMA2.
        stored: number of blocks stored without coding.
        symbols: number of symbols in coded blocks.
        forms: names of the kinds of items in coded blocks, runs and encodings; each once, in order of the kinds.
        lanes: number of lanes of each coded block.
        models: the model records, each once, in order of appearance.
        protected: layouts of the parity frames.
    """

    frames: int = 0
    archive: int = 0
    content: int = 0
    parity: int = 0
    coded: int = 0
    packed: int = 0
    stored: int = 0
    symbols: int = 0
    forms: list[str] = field(default_factory=list)
    lanes: list[int] = field(default_factory=list)
    models: list[ModelRecord] = field(default_factory=list)
    protected: list[Layout] = field(default_factory=list)

    @property
    def blocks(self) -> int:
        """Number of blocks of all kinds."""
        return self.coded + self.packed + self.stored

    @property
    def ratio(self) -> float | None:
        """Bytes of content for a byte of archive; None if one is empty."""
        return self.content / self.archive if self.archive and self.content else None

    @property
    def bits_per_byte(self) -> float | None:
        """Bits of archive for a byte of content; None if there is no content."""
        return 8 * self.archive / self.content if self.content else None

    def add(self, other: Summary) -> None:
        """Add another archive's sums."""
        for name in ("frames", "archive", "content", "parity", "coded", "packed", "stored", "symbols"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.lanes += other.lanes
        self.forms = [name for name in forms.NAMES if name in self.forms or name in other.forms]
        self.protected += other.protected
        self.models = list(dict.fromkeys(self.models + other.models))

    def add_parity(self, record: ParityRecord) -> None:
        """Note the layout in a parity record; only a parity frame's first record is noted."""
        found = parity_frame.read(record.content)
        if found and not found.number:
            self.protected.append(found.layout)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        models = [_model_values(m) for m in self.models]
        protected = [asdict(p) | {"percent": p.percent, "burst": p.burst} for p in self.protected]
        more = {
            "protected": protected,
            "blocks": self.blocks,
            "ratio": self.ratio,
            "bits_per_byte": self.bits_per_byte,
            "format": records.FORMAT_VERSION,
        }
        return asdict(self) | {"models": models} | more


def summarise(source: BinaryIO) -> Summary:
    """Return the summary of an archive, which is read to its end.

    Args:
        source: a binary file, read from its current position.

    Raises:
        LLZError: it is not an archive, of another version, or damaged.
    """
    s = Summary()
    kinds: set[int] = set()
    models: dict[ModelRecord, None] = {}  # a dict keeps the order; searching a list is slow if there are many
    content, types = 0, set[type[Record]]()  # bytes of content and kinds of records in the current frame
    for record, span, _, _ in read_records(source):
        types.add(type(record))
        if isinstance(record, Block):
            content += record.size
        if isinstance(record, ModelRecord):
            models[record] = None
        elif isinstance(record, CodedBlock):
            s.coded += 1
            s.symbols += record.symbols
            s.lanes.append(record.lanes)
            if isinstance(record, FormBlock):
                items = forms.read_side(record.side, record.packed, record.size, record.text)
                kinds.update(item.kind for item in items)
        elif isinstance(record, StoredBlock):
            s.stored += 1
        elif isinstance(record, XzBlock):
            s.packed += 1
        elif isinstance(record, ParityRecord):
            s.add_parity(record)
        elif isinstance(record, EndRecord):
            check_size(content, record)
            s.content += content
            if types == {ParityRecord, EndRecord}:
                s.parity += span.stop - s.archive
            else:
                s.frames += 1
            s.archive, content, types = span.stop, 0, set()
    s.models = list(models)
    s.forms = [forms.NAMES[kind] for kind in sorted(kinds)]
    return s


def _model_values(m: ModelRecord) -> dict[str, Any]:
    """Return a model record's fields as values for JSON."""
    values = asdict(m) | {"digest": m.digest.hex(), "tokenizer": m.tokenizer.hex()}
    del values["span"]
    return values | {"window": m.span.window, "sinks": m.span.sinks, "near": m.span.local}
