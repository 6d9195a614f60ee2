"""One contender on one file: its archive, the time both ways, and whether the content came back."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from llmzip.benchmark.competitors import Code, CompetitorError, Contender
from llmzip.codec.codec import Codec

_ENOUGH = 0.2  # quick calls are repeated for so many seconds, and the best time counts
_TRIES = 20
_WARM_UP = b"The first text takes longer: the model is read, and kernels are made ready. " * 3


@dataclass(frozen=True)
class Measurement:
    """Of one contender on one file, or summed over files.

    Attributes:
        content, archive: bytes.
        compress_seconds, decompress_seconds: of the best run.
    """

    file: str
    contender: str
    by: str
    content: int
    archive: int
    compress_seconds: float
    decompress_seconds: float

    @property
    def bits_per_byte(self) -> float:
        """Bits of archive for a byte of content."""
        return 8 * self.archive / self.content

    @property
    def compress_speed(self) -> float:
        """Bytes of content a second."""
        return self.content / self.compress_seconds

    @property
    def decompress_speed(self) -> float:
        """Bytes of content a second."""
        return self.content / self.decompress_seconds


def measure(contender: Contender, file: str, content: bytes) -> Measurement:
    """Compresses and decompresses `content`, which is not empty.

    Raises:
        CompetitorError: it failed, or what came back differs.
    """
    archive, there = _timed(contender.compress, content)
    back, again = _timed(contender.decompress, archive)
    if back != content:
        raise CompetitorError("what came back is not what went in")
    return Measurement(file, contender.name, contender.by, len(content), len(archive), there, again)


def _timed(code: Code, data: bytes) -> tuple[bytes, float]:
    best, spent = float("inf"), 0.0
    for _ in range(_TRIES):
        start = time.perf_counter()
        result = code(data)
        seconds = max(time.perf_counter() - start, 1e-9)
        best, spent = min(best, seconds), spent + seconds
        if spent > _ENOUGH:
            break
    return result, best


def llmzip_at(codec: Codec, level: int, model: str = "") -> Contender:
    """llmzip at a level. Contenders of several levels share the models of `codec`; `model` tells those of several models apart."""
    own = Codec(replace(codec.options, level=level), blocks=codec.blocks)
    return Contender(f"llmzip -{level}{f' {model}' if model else ''}", "library", own.compress, own.decompress)


def warm_up(codec: Codec) -> float:
    """Load the model and code a first text in both directions; return the seconds that took. They count for no speed.

    Raises:
        LLZError: the model cannot be had.
    """
    start = time.perf_counter()
    codec.decompress(codec.compress(_WARM_UP))
    return time.perf_counter() - start
