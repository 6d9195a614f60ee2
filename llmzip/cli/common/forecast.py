"""Says before a long decode about how long it will take."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from llmzip.archive.parser import read_records
from llmzip.archive.records import CodedBlock, EndRecord, ModelRecord
from llmzip.errors import LLZError

if TYPE_CHECKING:
    from llmzip.codec.loaded_models import LoadedModel

_WORTH_SAYING = 20.0  # seconds
_FEW = 500  # symbols that take less on any machine, so that nothing is timed


@dataclass
class Contents:
    """What the records of an archive say that it holds.

    Attributes:
        size: bytes.
        coded: each coded block without its stream, and the model record it follows.
    """

    size: int = 0
    coded: list[tuple[ModelRecord, CodedBlock]] = field(default_factory=list)


def contents(archive: BinaryIO) -> Contents | None:
    """Reads an archive to its end; None if it is damaged, as decoding will tell."""
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
    """What a codec announces its blocks to, for one archive.

    Args:
        name: of the archive.
        found: what it holds, so that all of it is forecast at once; else every block is by itself.
    """

    def __init__(self, name: str, found: Contents | None) -> None:
        self._name = name
        self._ahead = None if found is None else list(found.coded)

    def __call__(self, loaded: LoadedModel, model: ModelRecord, block: CodedBlock) -> None:
        """Says how long this block, or all with the same model, will take, if that is long and was not said before."""
        blocks = [block]
        if self._ahead is not None:
            blocks = [b for m, b in self._ahead if m == model]
            self._ahead = [(m, b) for m, b in self._ahead if m != model]
        if sum(b.symbols for b in blocks) < _FEW:
            return
        from tqdm import tqdm

        from llmzip.codec.forecast import Forecast, Shape

        seconds = Forecast(loaded, model).seconds(Shape(b.symbols, b.lanes) for b in blocks)
        if seconds >= _WORTH_SAYING:
            size = sum(b.size for b in blocks)
            tqdm.write(f"llmzip: {self._name}: {size:,} bytes to decode, about {duration(seconds)}", file=sys.stderr)


def duration(seconds: float) -> str:
    """A time as people say it: 45 s, 12 min, 2 h 10 min, 3 days."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if (minutes := round(seconds / 60)) < 60:
        return f"{minutes} min"
    if (tens := round(seconds / 600)) < 288:
        return f"{tens // 6} h" + (f" {tens % 6}0 min" if tens % 6 else "")
    return f"{seconds / 86400:,.0f} days"
