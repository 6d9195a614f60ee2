"""What a text costs along its way: learning seen as a curve. The area under a curve of bits per byte is the size of the archive."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmzip.codec.codec import Codec
from llmzip.codec.cutting import read_blocks
from llmzip.inspection.result import inspect
from llmzip.options import NEW, Options
from llmzip.scratch.coder import costs
from llmzip.system import exact_threads

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Curve:
    """Bits along a text.

    Attributes:
        name: whose they are.
        ends: bytes of content up to the end of each part, ascending, int64 [n].
        bits: what each part cost, float64 [n].
        archive: bytes of the whole archive.
    """

    name: str
    ends: NDArray[np.int64]
    bits: NDArray[np.float64]
    archive: int

    def spent(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Bits spent up to positions in the content. A part's bits lie evenly over its bytes."""
        bits: NDArray[np.float64] = np.interp(positions, np.append(0, self.ends), np.append(0.0, np.cumsum(self.bits)))
        return bits

    def rates(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Bits per byte between each two positions, float64 [len(positions) - 1]."""
        return np.diff(self.spent(positions)) / np.diff(positions)

    @property
    def area(self) -> float:
        """Bytes that lie under the curve: the archive without what is not coded symbols."""
        return float(self.bits.sum()) / 8


def positions(size: int, parts: int) -> NDArray[np.int64]:
    """Positions from 0 to `size` that cut it into parts of about the same size, none of them empty; int64."""
    return np.unique(np.linspace(0, size, min(parts, size) + 1).astype(np.int64))


def of_model(codec: Codec, content: bytes, name: str, report: Report | None = None) -> Curve:
    """The curve of a codec: what each symbol of its archive costs.

    Raises:
        LLZError: as compressing does.
    """
    found = inspect(codec, content, report, most=1)
    ends = np.append(found.starts[1:], len(found.text)) * len(content) // max(len(found.text), 1)
    return Curve(name, ends.astype(np.int64), found.bits, found.archive)


def of_new(content: bytes, name: str, report: Report | None = None) -> Curve:
    """The curve of the network that starts from nothing.

    Raises:
        LLZError: as compressing does.
    """
    done = 0

    def told(n: int, stream: int) -> None:
        nonlocal done
        done += n
        if report:
            report(done, stream)

    codec = Codec(Options(model=NEW))
    blocks = read_blocks(io.BytesIO(content), codec.options.level_settings().block_bytes)
    bits = exact_threads.run(lambda _: np.concatenate([costs(block, told) for block in blocks]))
    return Curve(name, np.arange(1, len(content) + 1), bits, len(codec.compress(content)))


def of_compressor(compress: Callable[[bytes], bytes], content: bytes, name: str, at: NDArray[np.int64]) -> Curve:
    """The curve of another compressor: what its archive grows by, from one position to the next. Its head and checks belong to the first part."""
    sizes = [len(compress(content[:end])) for end in at[1:].tolist()]
    return Curve(name, at[1:], 8.0 * np.diff([0, *sizes]), sizes[-1])


def overtakes(curve: Curve, other: Curve, at: NDArray[np.int64]) -> int | None:
    """The first of some positions from which on a curve has always spent less than another one; None if it has not at the end."""
    less = curve.spent(at[1:]) < other.spent(at[1:])
    if not less[-1]:
        return None
    more = np.flatnonzero(~less)
    return int(at[1:][more[-1] + 1]) if len(more) else 0
