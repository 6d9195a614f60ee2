"""Matrix products for few rows, where reading the weights is what takes the time.

A library's int8 product rearranges the weights on every call; here they are laid out once, so that each is read once for
all rows, in the order of memory. For many rows the library's kernel, which this one wraps, is faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numba as nb
import numpy as np
import torch
from torch import Tensor

from llmzip.engine.gemm import Gemm
from llmzip.engine.kernels import i16, i32, parallel
from llmzip.engine.simd import mix

_OUTPUTS = 32  # outputs whose weights lie together
MOST_ROWS = 12  # beyond which the wrapped kernel is faster (measured: docs/design.md)


@parallel
def _products(q, w, out, parts):
    """out int32 [m, n] from q int8 [m, k] and w int8 [n / _OUTPUTS, k / 2, _OUTPUTS, 2]."""
    m, k = q.shape
    blocks = w.shape[0]
    for part in nb.prange(parts):
        wide = np.empty((m, k), i16)
        for i in range(m):
            for j in range(k):
                wide[i, j] = q[i, j]
        sums = np.empty((8, _OUTPUTS), i32)
        for b in range(part * blocks // parts, (part + 1) * blocks // parts):
            here = w[b].ctypes.data
            i = 0
            while i < m:
                at = wide[i:].ctypes.data
                if m - i >= 8:
                    n = 8
                    mix(_OUTPUTS, 8, at, 2 * k, here, k // 2, sums.ctypes.data)
                elif m - i >= 4:
                    n = 4
                    mix(_OUTPUTS, 4, at, 2 * k, here, k // 2, sums.ctypes.data)
                elif m - i >= 2:
                    n = 2
                    mix(_OUTPUTS, 2, at, 2 * k, here, k // 2, sums.ctypes.data)
                else:
                    n = 1
                    mix(_OUTPUTS, 1, at, 2 * k, here, k // 2, sums.ctypes.data)
                for r in range(n):
                    out[i + r, b * _OUTPUTS : (b + 1) * _OUTPUTS] = sums[r]
                i += n


@dataclass
class _Prepared:
    """A weight matrix for the wrapped kernel and, made when first needed, in blocks."""

    w: Tensor
    wrapped: Any

    @cached_property
    def blocks(self) -> Any:
        n, k = self.w.shape
        return self.w.view(n // _OUTPUTS, _OUTPUTS, k // 2, 2).transpose(1, 2).contiguous().numpy()


class SmallBatchGemm:
    """A kernel that takes few rows itself and passes many on."""

    def __init__(self, wrapped: Gemm, threads: int) -> None:
        self.wrapped, self._threads = wrapped, threads
        self.name = f"compiled+{wrapped.name}"

    def prepare(self, w: Tensor) -> _Prepared:
        """Needs n a multiple of 32 and k even; other shapes always go to the wrapped kernel."""
        return _Prepared(w, self.wrapped.prepare(w))

    def multiply(self, q: Tensor, w: _Prepared) -> Tensor:
        """int32 [m, n]."""
        n, k = w.w.shape
        if q.shape[0] > MOST_ROWS or n % _OUTPUTS or k % 2:
            return self.wrapped.multiply(q, w.wrapped)
        out = torch.empty((q.shape[0], n), dtype=torch.int32)
        _products(q.numpy(), w.blocks, out.numpy(), self._threads)
        return out
