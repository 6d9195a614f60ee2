"""Gradients of corrections, and steps, compiled by numba: see `reference`."""

from __future__ import annotations

import numpy as np

from llmzip.engine.kernels.rows import ZERO, counts_nothing, f32, glue, jit
from llmzip.learning import numerics as ln
from llmzip.learning.kernels.gradients import limited, sum_of_columns

_COLUMNS = ln.COLUMNS
_BLOCK = 64  # outputs whose sums stay in the first cache
_ONE, _SHARE, _PACE = f32(1), f32(ln.MEAN_SHARE), f32(ln.PACE)
_SMALLEST = f32(ln.SMALLEST_GRADIENT)


@counts_nothing
def _collect(d, row, z, g, first, last):
    """Sums of outputs [first, last) of g float32 [rank, outputs]: over the rows i, in their order, of z[i, r] (d[i] * row[i])."""
    rank = g.shape[0]
    for start in range(first, last, _BLOCK):
        width = min(_BLOCK, last - start)
        for r in range(rank):
            total = g[r, start : start + width]
            for j in range(width):
                total[j] = ZERO
            for i in range(d.shape[0]):
                factor, values = f32(z[i, r]), d[i, start : start + width]
                if row.shape[0]:
                    scale = row[i]
                    for j in range(width):
                        total[j] += factor * (values[j] * scale)
                else:
                    for j in range(width):
                        total[j] += factor * values[j]


@glue
def collect_share(d, row, z, g, share, shares):
    """A thread's share of the gradients g float32 [rank, outputs] of a correction: d float32 [rows, outputs], row [rows] or of size 0, z int32 [rows, rank]."""
    outputs = g.shape[1]
    _collect(d, row, z, g, share * outputs // shares, (share + 1) * outputs // shares)


@counts_nothing
def _update(b, squares, g, rate, t, total):
    """`reference.update`, of matrices as float32 [n]; the gradients g are overwritten."""
    n, steps = b.shape[0], f32(t)
    for j in range(_COLUMNS):
        total[j] = ZERO
    for start in range(0, n, _COLUMNS):
        width = min(_COLUMNS, n - start)
        some, s = g[start : start + width], squares[start : start + width]
        for j in range(width):
            value = limited(some[j])
            if abs(value) < _SMALLEST:
                value = ZERO
            some[j] = value
            s[j] += value * value
            total[j] += s[j] / steps
    mean = np.sqrt(sum_of_columns(total) / f32(n))
    slow, raised = np.sqrt(_ONE + steps / _PACE), _SHARE * mean
    for j in range(n):
        divisor = (np.sqrt(squares[j] / steps) + raised) * slow
        b[j] -= rate * (g[j] / max(divisor, _SMALLEST))


@jit
def update_layers(b, squares, g, rate, t, share, shares):
    """A thread's share of the steps of a matrix of all layers: float32 [layers, rank * outputs]. Nothing changes at a rate of 0."""
    if rate > ZERO:
        layers, total = b.shape[0], np.empty(_COLUMNS, f32)
        for i in range(share * layers // shares, (share + 1) * layers // shares):
            _update(b[i], squares[i], g[i], rate, t, total)
