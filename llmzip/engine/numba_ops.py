"""The engine's operations on CPU, by compiled kernels; every one equals `reference` bit for bit."""

from __future__ import annotations

import numpy as np
from torch import Tensor, from_numpy

from llmzip.engine.cache import KVCache
from llmzip.engine.kernels import arguments
from llmzip.engine.kernels.arguments import Floats, Projected, Table, Turns, constants
from llmzip.engine.kernels.attention import attend_kernel
from llmzip.engine.kernels.heads import all_rows_kernel, store_kernel
from llmzip.engine.kernels.rows import activate_kernel, f32, i8, i32, logits_kernel, norm_kernel, quantise_kernel
from llmzip.engine.kernels.simd import VECTOR, size
from llmzip.engine.operations import HeadScales, TurnTables
from llmzip.engine.reference import Added
from llmzip.models.config import ModelConfig

_NOTHING = np.zeros(0, f32)
_NOT_ADDED = arguments.Added(np.zeros((0, 0), i32), *(_NOTHING,) * 4)


class NumbaOps:
    """The operations between products on CPU. Results are the same for any number of threads."""

    name = "numba"

    def __init__(self, config: ModelConfig, threads: int) -> None:
        self.config, self.threads = config, threads
        self._sizes = size(config.head_dim // VECTOR), size(config.heads // config.kv_heads)
        self._constants = constants(config)

    def add_norm_quantise(self, x: Tensor, added: Added | None, gain: Tensor | None, late: bool = False) -> tuple[Tensor, Tensor]:
        """See `operations.Operations.add_norm_quantise`."""
        q, scale = np.empty(x.shape, i8), np.empty(x.shape[0], f32)
        product = _NOT_ADDED
        if added is not None:
            product = arguments.Added(added.acc.numpy(), added.col.numpy(), added.row.numpy(), _vector(added.gain), _vector(added.bias))
        norm_kernel(x.numpy(), product, _vector(gain), late, self._constants, q, scale, self.threads)
        return from_numpy(q), from_numpy(scale)

    def attend(
        self, acc: Tensor, scales: HeadScales, row: Tensor, turns: TurnTables, cache: KVCache, layer: int, slot: Table
    ) -> tuple[Tensor, Tensor]:
        """See `operations.Operations.attend`."""
        c, way = self.config, int(cache.ways[layer])
        out = np.empty((acc.shape[0], c.query_width), f32)
        all_rows = np.empty((2, acc.shape[0] if c.head_norm == "all" else 0), f32)
        vectors = [_vector(v) for v in scales]
        qkv, here = Projected(acc.numpy(), row.numpy(), *vectors, *all_rows), Turns(turns.here[way].numpy(), turns.pinned[way].numpy())
        if c.head_norm == "all":
            all_rows_kernel(qkv, self._constants.eps, self.threads)
        arrays = cache.arrays(slot).of_layer(layer)
        if here.here.shape[0] > 1:
            store_kernel(qkv, here.here, self._constants, c.head_dim, arrays, self.threads)
        attend_kernel(*self._sizes, qkv, here, self._constants, arrays, out, self.threads)
        q, scale = np.empty(out.shape, i8), np.empty(out.shape[0], f32)
        quantise_kernel(out, q, scale, self.threads)
        return from_numpy(q), from_numpy(scale)

    def activate_rotate_quantise(self, acc: Tensor, col: Tensor, row: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `reference.activate_rotate_quantise`."""
        n = acc.shape[0]
        q, scale = np.empty((n, self.config.ffn), i8), np.empty(n, f32)
        activate_kernel(acc.numpy(), col.numpy(), row.numpy(), _vector(bias), self._constants, q, scale, self.threads)
        return from_numpy(q), from_numpy(scale)

    def scale_logits(self, acc: Tensor, col: Tensor, row: Tensor) -> Tensor:
        """See `reference.scale_logits`."""
        out = np.empty(acc.shape, f32)
        logits_kernel(acc.numpy(), col.numpy(), row.numpy(), out, self.threads)
        return from_numpy(out)


def _vector(values: Tensor | None) -> Floats:
    """As kernels take it."""
    return _NOTHING if values is None else np.asarray(values.numpy())
