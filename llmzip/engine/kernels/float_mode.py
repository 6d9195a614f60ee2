"""Kernels of `float_mode`."""

from __future__ import annotations

import numba as nb

from llmzip.engine.kernels.rows import jit, parallel
from llmzip.entropy.kernels.exponential import bits_from_float, float_from_bits


@jit
def is_standard(sums):
    """Whether this thread adds as the operands and sums int32 [n, 3] say."""
    wrong = 0
    for i in range(sums.shape[0]):
        wrong += bits_from_float(float_from_bits(sums[i, 0]) + float_from_bits(sums[i, 1])) != sums[i, 2]
    return wrong == 0


@parallel
def modes(sums, out):
    """The same of as many threads as `out`, bool [threads], has places."""
    for part in nb.prange(out.shape[0]):
        out[part] = is_standard(sums)
