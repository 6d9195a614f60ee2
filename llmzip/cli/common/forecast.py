"""Tells the user before a long decode about how long it will take."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from llmzip.archive.parser import read_records
from llmzip.archive.records import CodedBlock, EndRecord, ModelRecord
from llmzip.errors import LLZError

if TYPE_CHECKING:
    from llmzip.codec.any_model import Shape
    from llmzip.codec.block_codec import Tell

_WORTH_SAYING = 20.0  # seconds; a shorter decode is not announced
_FEW = 500  # so few symbols take less on any machine, so nothing is timed


@dataclass
class Contents:
    """What the records of an archive say that it contains.

    Attributes:
        size: bytes of content.
        coded: each coded block, without its stream, and the model record in force.
    """

    size: int = 0
    coded: list[tuple[ModelRecord, CodedBlock]] = field(default_factory=list)


def contents(archive: BinaryIO) -> Contents | None:
    """Read an archive to its end; None if it is damaged, as decoding will tell."""
    found = Contents()
    try:
        for record, _, model, _ in read_records(archive):
            if isinstance(record, CodedBlock) and model:
                found.coded.append((model, CodedBlock(record.size, record.symbols, record.lanes, record.check, b"")))
            elif isinstance(record, EndRecord):
                found.size += record.size
    except (OSError, LLZError):
        return None
    return found


class Forecaster:
    """Is told of each block of one archive before it is decoded, and prints a forecast if that will take long.

    Args:
        name: name of the archive.
        found: what the archive contains, for one forecast of everything. If None, each block gets its own forecast.
    """

    def __init__(self, name: str, found: Contents | None) -> None:
        self._name = name
        self._ahead = None if found is None else list(found.coded)

    def __call__(self, model: ModelRecord, block: CodedBlock, forecast: Callable[[list[Shape], Tell], None]) -> None:
        """Print how long this block, or all blocks with the same model, will take, if that is long and was not said before."""
        blocks = [block]
        if self._ahead is not None:
            blocks = [b for m, b in self._ahead if m == model]
            self._ahead = [(m, b) for m, b in self._ahead if m != model]
        if sum(b.symbols for b in blocks) < _FEW:
            return
        from llmzip.codec.any_model import Shape

        size = sum(b.size for b in blocks)
        forecast([Shape(b.symbols, b.lanes) for b in blocks], lambda seconds: self._say(size, seconds))

    def _say(self, size: int, seconds: float) -> None:
        from tqdm import tqdm

        if seconds >= _WORTH_SAYING:
            tqdm.write(f"llmzip: {self._name}: {size:,} bytes to decode, about {duration(seconds)}", file=sys.stderr)


def duration(seconds: float) -> str:
    """A time in words: 45 s, 12 min, 2 h 10 min, 3 days."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if (minutes := round(seconds / 60)) < 60:
        return f"{minutes} min"
    if (tens := round(seconds / 600)) < 288:
        return f"{tens // 6} h" + (f" {tens % 6}0 min" if tens % 6 else "")
    return f"{seconds / 86400:,.0f} days"
