"""Corrections and their trace, compiled by numba. The sums equal `reference.correct` bit for bit.

Arrays of rows here may be some of a call's rows: `origin` is the index of their first one in the call, which feeds t steps of each lane. `place` is
that of `place_in`.
"""

from __future__ import annotations

import numpy as np

from llmzip.engine.corrections import LARGEST
from llmzip.engine.kernels.packing import OUTPUTS
from llmzip.engine.kernels.products import product
from llmzip.engine.kernels.rows import ZERO, counts_nothing, f32, glue, i32, jit

_LARGEST = f32(LARGEST)
_COLUMNS = 64  # summed together, so that sums stay in the first cache


@glue
def corrected(c):
    """Whether there are corrections: c is a `CorrectionArrays`."""
    return c.values.shape[0] > 0


@glue
def place_in(c):
    """Where in the trace a call notes its rows: the steps of a segment, and how many are traced before. Code with all of c as argument takes long to compile."""
    return c.steps, c.at


@glue
def traced(place, i, t):
    """Row of the trace that row i of a call belongs to."""
    return i // t * place[0] + place[1] + i % t


@counts_nothing
def note_rows(place, values, to, first, last, origin, t):
    """Copies rows [first, last) of numbers [n, m or more] into the trace's array `to`, [rows, m]."""
    for i in range(first, last):
        source, target = values[i], to[traced(place, origin + i, t)]
        for j in range(target.shape[0]):
            target[j] = source[j]


@counts_nothing
def note_scales(place, values, to, first, last, origin, t):
    """As `note_rows`, of one number for each row."""
    for i in range(first, last):
        to[traced(place, origin + i, t)] = values[i]


@jit
def sum_signs(amx, place, q, signs, row, z, z_trace, row_trace, first, last, origin, t):
    """Sums of rows [first, last) of int8 q with packed signs, into z int32 [n, OUTPUTS or more]; notes them, and the rows' scales."""
    product(amx, q[first:last], signs, z[first:last])
    note_rows(place, z, z_trace, first, last, origin, t)
    note_scales(place, row, row_trace, first, last, origin, t)


@counts_nothing
def _sum(total, z, b, start, width):
    """total[:width] = sum over r of z[r] b[r, start:], in the order of r."""
    rank, r = b.shape[0], 0
    for j in range(width):
        total[j] = ZERO
    while r + 4 <= rank:
        z0, z1, z2, z3 = f32(z[r]), f32(z[r + 1]), f32(z[r + 2]), f32(z[r + 3])
        b0, b1, b2, b3 = b[r, start:], b[r + 1, start:], b[r + 2, start:], b[r + 3, start:]
        for j in range(width):
            total[j] = (((total[j] + z0 * b0[j]) + z1 * b1[j]) + z2 * b2[j]) + z3 * b3[j]
        r += 4
    while r < rank:
        z0, b0 = f32(z[r]), b[r, start:]
        for j in range(width):
            total[j] += z0 * b0[j]
        r += 1


@counts_nothing
def _correct(acc, z, b, begin, low, high, total):
    for start in range(low, high, _COLUMNS):
        width = min(_COLUMNS, high - start)
        for i in range(acc.shape[0]):
            _sum(total, z[i], b, start, width)
            to = acc[i, begin + start :]
            for j in range(width):
                to[j] += i32(np.rint(min(max(total[j], -_LARGEST), _LARGEST)))


@jit
def correct(acc, z, b, begin, low, high):
    """`reference.correct` of outputs [low, high) of b float32 [rank, outputs], which lie in columns of acc int32 [n, any] from `begin` on."""
    _correct(acc, z, b, begin, low, high, np.empty(_COLUMNS, f32))


@jit
def correct_share(acc, z, b, begin, w, share, shares):
    """`correct` of what a thread's share of a product with packed weights w fills, by `products.product_share`."""
    blocks, outputs = w.shape[0], b.shape[1]
    low = max(np.int64(0), share * blocks // shares * OUTPUTS - begin)
    high = min(outputs, (share + 1) * blocks // shares * OUTPUTS - begin)
    if low < high:
        correct(acc, z, b, begin, low, high)
