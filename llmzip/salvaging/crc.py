"""Computes the CRC-32 of many spans at once, and finds the flipped bit that explains a wrong CRC-32.

A CRC is the remainder of a polynomial over GF(2) divided by the generator. A zero bit appended to the bytes multiplies the CRC by x.
The CRC of any span therefore follows from the CRCs of two prefixes, and the position of a flipped bit is a discrete logarithm.
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
    """Return each value times a factor, given by its table of products [4, 256]."""
    product: Words = (
        table[0][values & 0xFF] ^ table[1][(values >> np.uint32(8)) & 0xFF] ^ table[2][(values >> np.uint32(16)) & 0xFF]
    ) ^ table[3][values >> np.uint32(24)]
    return product


@functools.cache
def _tables() -> list[Words]:
    """Return, for each k from 0 to 31, the products of x^(2^k) with every value of every byte of a word, [4, 256]."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    images = (bits >> np.uint32(1)) ^ np.where(bits & np.uint32(1), np.uint32(_GENERATOR), np.uint32(0))  # each bit times x
    tables = []
    for _ in range(32):
        table = np.zeros((4, 256), dtype=np.uint32)
        for bit in range(8):
            table[:, 1 << bit : 2 << bit] = table[:, : 1 << bit] ^ images.reshape(4, 8)[:, bit, None]
        tables.append(table)
        images = _times(table, images)
    return tables


def times_power(values: Words, exponents: Integers) -> Words:
    """Return each value times x to the power of its exponent, which may be negative."""
    out, exponents = values.copy(), exponents % _ORDER
    for k, table in enumerate(_tables()):
        chosen = (exponents >> k) & 1 == 1
        if chosen.any():
            out[chosen] = _times(table, out[chosen])
    return out


def of_spans(data: bytes, starts: Integers, stops: Integers, before: Words | int = 0) -> Words:
    """Return the CRC-32 of each span data[start:stop], [n].

    Args:
        data: any bytes.
        starts: where each span starts, in any order, [n].
        stops: where each span ends, [n].
        before: CRC-32 of bytes that are put before the span, [n] or one for all.
    """
    marks, where = np.unique(np.concatenate([starts, stops]), return_inverse=True)
    view, crc, crcs = memoryview(data), 0, np.zeros(len(marks), dtype=np.uint32)
    for i, (at, to) in enumerate(zip(marks[:-1].tolist(), marks[1:].tolist(), strict=True), 1):
        crc = zlib.crc32(view[at:to], crc)
        crcs[i] = crc  # of the bytes from the first mark to this one
    first, last = crcs[where[: len(starts)]], crcs[where[len(starts) :]]
    return times_power(first ^ np.uint32(before), 8 * (stops - starts)) ^ last


def flipped_bit(difference: int, size: int) -> int | None:
    """Return the one bit whose flip, in a message or in the CRC-32 stored after it, explains why the two disagree.

    Args:
        difference: exclusive or of the computed CRC-32 and the stored one; not 0.
        size: bytes of the message and of its CRC (four) together.

    Returns:
        The bit's number, 8 a byte, lowest bit first; None if no single flip explains the difference. If more than one bit was damaged,
        some bit explains it by chance in about size / 2^29 of all cases.
    """
    step = math.isqrt(8 * size) + 1  # baby steps, giant steps
    small = times_power(np.full(step, _ONE, dtype=np.uint32), np.arange(step))
    large = times_power(np.full(step, difference, dtype=np.uint32), -step * np.arange(step))
    _, rest, quotient = np.intersect1d(small, large, return_indices=True)
    powers = quotient * step + rest
    powers = powers[powers < 8 * size]
    return 8 * size - 1 - int(powers[0]) if len(powers) else None
