"""CRC-32 as arithmetic: the CRCs of many spans of bytes at once, and which flipped bit explains a wrong one.

A CRC is the rest of a polynomial over GF(2) by the generator, so a zero bit at the end of the bytes multiplies it by x. That gives the
CRC of any span from those of two beginnings, and makes the place of a flipped bit a discrete logarithm.
"""

from __future__ import annotations

import functools
import math
import zlib

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]
Integers = npt.NDArray[np.int64]

_GENERATOR = 0xEDB88320  # reflected: the highest bit is the coefficient of x^0
_ONE = 0x80000000
_ORDER = 2**32 - 1  # x^_ORDER = 1: the generator is primitive


def _times(table: Words, values: Words) -> Words:
    """Multiplies by the factor that the table [4, 256] stands for."""
    product: Words = (
        table[0][values & 0xFF] ^ table[1][(values >> np.uint32(8)) & 0xFF] ^ table[2][(values >> np.uint32(16)) & 0xFF]
    ) ^ table[3][values >> np.uint32(24)]
    return product


@functools.cache
def _tables() -> list[Words]:
    """For x^(2^k), k = 0 to 31: its products with each value of each byte of a word, [4, 256]."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    images = (bits >> np.uint32(1)) ^ np.where(bits & np.uint32(1), np.uint32(_GENERATOR), np.uint32(0))  # of each bit, by x
    tables = []
    for _ in range(32):
        table = np.zeros((4, 256), dtype=np.uint32)
        for bit in range(8):
            table[:, 1 << bit : 2 << bit] = table[:, : 1 << bit] ^ images.reshape(4, 8)[:, bit, None]
        tables.append(table)
        images = _times(table, images)
    return tables


def times_power(values: Words, exponents: Integers) -> Words:
    """Multiplies each value by x to the power of its exponent, which may be negative."""
    out, exponents = values.copy(), exponents % _ORDER
    for k, table in enumerate(_tables()):
        chosen = (exponents >> k) & 1 == 1
        if chosen.any():
            out[chosen] = _times(table, out[chosen])
    return out


def of_spans(data: bytes, starts: Integers, stops: Integers, before: Words | int = 0) -> Words:
    """The CRC-32 of each data[start:stop].

    Args:
        data: any bytes.
        starts: positions in them, in any order, [n].
        stops: where each span ends, [n].
        before: CRC-32 of bytes to imagine before the span, [n] or one for all.
    """
    marks, where = np.unique(np.concatenate([starts, stops]), return_inverse=True)
    view, crc, crcs = memoryview(data), 0, np.zeros(len(marks), dtype=np.uint32)
    for i, (at, to) in enumerate(zip(marks[:-1].tolist(), marks[1:].tolist(), strict=True), 1):
        crc = zlib.crc32(view[at:to], crc)
        crcs[i] = crc  # of what begins at the first mark
    first, last = crcs[where[: len(starts)]], crcs[where[len(starts) :]]
    return times_power(first ^ np.uint32(before), 8 * (stops - starts)) ^ last


def flipped_bit(difference: int, size: int) -> int | None:
    """The one bit whose flip in a message, or in the CRC-32 stored after it, makes the two disagree as they do.

    Args:
        difference: exclusive or of the CRC-32 computed and the one stored; not 0.
        size: bytes of the message and the four of its CRC.

    Returns:
        The bit's number, 8 a byte, lowest bit first; None if no single flip explains it. If more was damaged than a bit, some bit
        explains it by chance in about size / 2^29 of all cases.
    """
    step = math.isqrt(8 * size) + 1  # baby steps, giant steps
    small = times_power(np.full(step, _ONE, dtype=np.uint32), np.arange(step))
    large = times_power(np.full(step, difference, dtype=np.uint32), -step * np.arange(step))
    _, rest, quotient = np.intersect1d(small, large, return_indices=True)
    powers = quotient * step + rest
    powers = powers[powers < 8 * size]
    return 8 * size - 1 - int(powers[0]) if len(powers) else None
