"""Rotary positions without a limit, in integers.

`models.rotary` says how far each pair turns at a position. Here that is a fraction of a turn in 64-bit fixed point, where multiplication by the
position wraps as angles do, so a stream can be of any length. Cosine and sine come from a table of one turn, computed in integers and
pinned by hash.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from functools import cache

import numpy as np
from numpy.typing import NDArray

from llmzip.models.rotary import CONTEXT, PI, turns_per_position

TABLE_BITS = 14  # entries of one turn; the angle's rounding error is at most pi / 2^14
FRACTION_BITS = 15  # of the table's values
_TAYLOR_BITS = 64
_TABLE_SHA256 = "3f34b45169012275ef210195f8a3ff7a1eb3dd798acfbaa9d876e4f224ff7ae0"


@cache
def turn_table() -> NDArray[np.int32]:
    """cos(2 pi i / 2^14) in units of 2^-15, rounded to nearest, int32 [2^14]; sin is the same a quarter turn back.

    Computed by Taylor series in 64-bit fixed point over an eighth of a turn and mirrored.
    """
    n = 1 << TABLE_BITS
    one = 1 << _TAYLOR_BITS
    two_pi = int(CONTEXT.multiply(PI, Decimal(2 * one)))

    def cos_sin(i: int) -> tuple[int, int]:
        x = two_pi * i // n
        sums, term, k = [0, 0], one, 0
        while term:
            sums[k % 2] += term if k % 4 < 2 else -term
            k += 1
            term = (term * x >> _TAYLOR_BITS) // k
        return sums[0], sums[1]

    def rounded(v: int) -> int:
        return (v + (1 << (_TAYLOR_BITS - 1 - FRACTION_BITS))) >> (_TAYLOR_BITS - FRACTION_BITS)

    eighth, quarter = n // 8, n // 4
    first = np.zeros(quarter + 1, dtype=np.int32)
    for i in range(eighth + 1):
        c, s = cos_sin(i)
        first[i], first[quarter - i] = rounded(c), rounded(s)
    half = np.concatenate([first, -first[quarter - 1 :: -1]])  # 0 .. n/2
    table = np.concatenate([half, half[-2:0:-1]]).astype(np.int32)
    if hashlib.sha256(table.astype("<i4").tobytes()).hexdigest() != _TABLE_SHA256:
        raise AssertionError("the rotary table came out wrong on this machine")
    return table


@cache
def turn_fractions(base: float, head_dim: int, divisors: tuple[float, ...] = ()) -> NDArray[np.uint64]:
    """Turns per position of each rotated pair, in units of 2^-64: uint64 [head_dim / 2]."""
    return np.array([int(CONTEXT.multiply(turns, 1 << 64)) for turns in turns_per_position(base, head_dim, divisors)], dtype=np.uint64)


def rotation(positions: NDArray[np.int64], base: float, head_dim: int, divisors: tuple[float, ...] = ()) -> NDArray[np.float32]:
    """Cosines and sines for `positions` [n] >= 0: float32 [n, 2, head_dim / 2], multiples of 2^-15."""
    with np.errstate(over="ignore"):
        angle = positions.astype(np.uint64)[:, None] * turn_fractions(base, head_dim, divisors)  # wraps: whole turns drop out
        nearest = (angle + np.uint64(1 << (63 - TABLE_BITS))) >> np.uint64(64 - TABLE_BITS)
    index = nearest.astype(np.int64) & ((1 << TABLE_BITS) - 1)
    table = turn_table()
    quarter = 1 << (TABLE_BITS - 2)
    sines = table[(index - quarter) & ((1 << TABLE_BITS) - 1)]
    return np.stack([table[index], sines], axis=1).astype(np.float32) * np.float32(2.0**-FRACTION_BITS)


class Rotations:
    """Rotations of positions as they come, made some time ahead.

    Args:
        base, head_dim, divisors: as in `rotation`.
        last: later positions are rotated as this one.
    """

    _AHEAD = 512

    def __init__(self, base: float, head_dim: int, divisors: tuple[float, ...] = (), last: int | None = None) -> None:
        self._base, self._head_dim, self._divisors, self._last = base, head_dim, divisors, last
        self._first, self._ready = 0, np.empty((0, 2, head_dim // 2), np.float32)

    def at(self, first: int, n: int) -> NDArray[np.float32]:
        """float32 [n, 2, head_dim / 2] for positions first, first + 1, ..."""
        if not self._first <= first <= first + n <= self._first + len(self._ready):
            positions = np.arange(first, first + max(n, self._AHEAD), dtype=np.int64)
            if self._last is not None:
                positions = np.minimum(positions, self._last)
            self._first, self._ready = first, rotation(positions, self._base, self._head_dim, self._divisors)
        return self._ready[first - self._first :][:n]
