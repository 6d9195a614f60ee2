"""The engine's operations on CPU, by compiled kernels; every one equals `reference` bit for bit."""

from __future__ import annotations

import numpy as np
from torch import Tensor, from_numpy

from llmzip.engine import numerics as nm
from llmzip.engine.cache import KVCache
from llmzip.engine.kernels.arguments import Constants, Scaled, Table, Turns
from llmzip.engine.kernels.attention import attend_kernel, store_kernel
from llmzip.engine.kernels.rows import f32, i8, i32, logits_kernel, norm_kernel, quantise_kernel, swiglu_kernel
from llmzip.engine.kernels.simd import VECTOR, size
from llmzip.models.config import LlamaConfig
from llmzip.models.rotate import block_size

_NO_ACC = np.zeros((0, 0), i32)
_NO_COL = np.zeros(0, f32)


class NumbaOps:
    """The operations between products on CPU. Results are the same for any number of threads."""

    name = "numba"

    def __init__(self, config: LlamaConfig, threads: int) -> None:
        self.config, self.threads = config, threads
        self._sizes = size(config.head_dim // VECTOR), size(config.heads // config.kv_heads)
        self._norm = f32(block_size(config.ffn) ** -0.5)

    def add_norm_quantise(self, x: Tensor, acc: Tensor | None, col: Tensor | None, row: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
        """See `reference.add_norm_quantise`."""
        q, scale = np.empty(x.shape, i8), np.empty(x.shape[0], f32)
        if acc is None or col is None or row is None:
            norm_kernel(x.numpy(), _NO_ACC, _NO_COL, _NO_COL, f32(eps), q, scale, self.threads)
        else:
            norm_kernel(x.numpy(), acc.numpy(), col.numpy(), row.numpy(), f32(eps), q, scale, self.threads)
        return from_numpy(q), from_numpy(scale)

    def attend(
        self, acc: Tensor, col: Tensor, row: Tensor, cs: Tensor, pinned: Tensor, cache: KVCache, layer: int, slot: Table
    ) -> tuple[Tensor, Tensor]:
        """See `operations.Operations.attend`."""
        c = self.config
        out = np.empty((acc.shape[0], c.query_width), f32)
        qkv, turns = Scaled(acc.numpy(), col.numpy(), row.numpy()), Turns(cs.numpy(), pinned.numpy())
        here, block = cache.arrays(slot).of_layer(layer), block_size(c.ffn)
        constants = Constants(c.heads, f32(nm.score_scale(c.head_dim)), cache.sinks, f32(c.norm_eps), block, self._norm)
        if cs.shape[0] > 1:
            store_kernel(qkv, turns.here, c.heads, c.head_dim, here, self.threads)
        attend_kernel(*self._sizes, qkv, turns, constants, here, out, self.threads)
        q, scale = np.empty(out.shape, i8), np.empty(out.shape[0], f32)
        quantise_kernel(out, q, scale, self.threads)
        return from_numpy(q), from_numpy(scale)

    def swiglu_rotate_quantise(self, acc: Tensor, col: Tensor, row: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """See `reference.swiglu_rotate_quantise`."""
        n = acc.shape[0]
        q, scale = np.empty((n, self.config.ffn), i8), np.empty(n, f32)
        swiglu_kernel(acc.numpy(), col.numpy(), row.numpy(), block, self._norm, q, scale, self.threads)
        return from_numpy(q), from_numpy(scale)

    def scale_logits(self, acc: Tensor, col: Tensor, row: Tensor) -> Tensor:
        """See `reference.scale_logits`."""
        out = np.empty(acc.shape, f32)
        logits_kernel(acc.numpy(), col.numpy(), row.numpy(), out, self.threads)
        return from_numpy(out)
