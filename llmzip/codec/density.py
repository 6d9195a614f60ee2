"""Recognises dense bytes by their entropy, without a model. Entropies are whole numbers, so that every machine finds the same.

In random letters, base64 and the like a byte says little about the next one. In natural text, code and logs it says much.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

UNIT = 256  # entropies are counted in units of 1/256 bit
LEAST = 8192  # bytes; in fewer, counts of pairs say too little
_SEGMENT = 16384  # bytes whose pairs are counted together
_LEFT = 90  # bytes are dense if a byte keeps this percentage of its entropy once the byte before is known; in text it keeps 60 to 80
_SEGMENTS = 15  # of 16 segments must be dense
_UNSEEN = 185  # what a pair of bytes that occurs adds to the entropy that counts show too small: UNIT / (2 ln 2) (Miller and Madow)
_GAIN = 96  # percent of what xz makes of bytes, at least: where order shows no more than that, a model finds hardly any


def is_dense(content: bytes) -> bool:
    """Whether a model may hardly help with this. Natural text, code and logs are never dense."""
    size = len(content)
    if size < LEAST:
        return False
    data = np.frombuffer(content, np.uint8)
    stops = [*range(_SEGMENT, size - LEAST + 1, _SEGMENT), size]
    dense = 0
    for start, stop in zip([0, *stops], stops, strict=False):
        plain, left = _entropies(data[start:stop])
        dense += (stop - start) * (0 < 100 * left >= _LEFT * plain)
    return 16 * dense >= _SEGMENTS * size


def is_hopeless(content: bytes, packed: int) -> bool:
    """Whether dense bytes are as good as random: neither xz, which made `packed` bytes of them, nor pairs of bytes show any order."""
    plain, left = _entropies(np.frombuffer(content, np.uint8))
    bits = 8 * UNIT * packed
    return bits >= plain and 100 * left >= _GAIN * bits


def _entropies(data: NDArray[np.uint8]) -> tuple[int, int]:
    """The entropy of all bytes, and their entropy once the byte before each is known, in UNITs."""
    single = np.bincount(data, minlength=256)
    first = np.bincount(data[:-1], minlength=256)
    pairs = np.bincount(data[:-1].astype(np.int32) * 256 + data[1:], minlength=1 << 16)
    plain = len(data) * _log2(len(data)) - _weighed(single)
    return plain, _weighed(first) - _weighed(pairs) + _UNSEEN * int((pairs > 0).sum() - (first > 0).sum())


def _weighed(counts: NDArray[np.int64]) -> int:
    """The sum of n log2 n."""
    numbers, times = np.unique(counts[counts > 0], return_counts=True)
    return sum(n * k * _log2(n) for n, k in zip(numbers.tolist(), times.tolist(), strict=True))


@functools.lru_cache(1 << 16)
def _log2(n: int) -> int:
    """In UNITs, rounded down."""
    return int(n**UNIT).bit_length() - 1
