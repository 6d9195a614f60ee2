"""The operations of `TorchOps` by the compiled kernels, called one by one, so that each can be compared alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from llmzip.engine.cache import KVCache
from llmzip.engine.kernels import arguments
from llmzip.engine.kernels.amx import WITHOUT
from llmzip.engine.kernels.arguments import Floats, Noted, Projected, Table, Turns, constants
from llmzip.engine.kernels.attention import attend
from llmzip.engine.kernels.heads import norm_all_heads, store_rows
from llmzip.engine.kernels.rows import activate_rows, f32, i8, i32, norm_rows, quantise_rows
from llmzip.engine.kernels.simd import VECTOR, size
from llmzip.engine.reference import Added
from llmzip.engine.torch_ops import HeadScales, TurnTables
from llmzip.models.config import ModelConfig

_NOTHING = np.zeros(0, f32)
_NOT_ADDED = arguments.Added(np.zeros((0, 0), i32), *(_NOTHING,) * 4)


class NumbaOps:
    """The operations between products, each in so many shares as threads would do it, here one after another."""

    def __init__(self, config: ModelConfig, shares: int, tiles: NDArray[np.int8] = WITHOUT) -> None:
        self.config, self._shares = config, shares
        self._sizes = tiles, size(config.head_dim // VECTOR), size(config.heads // config.kv_heads)
        self._constants = constants(config)

    def _parts(self, rows: int) -> list[tuple[int, int]]:
        return [(share * rows // self._shares, (share + 1) * rows // self._shares) for share in range(self._shares)]

    def add_norm_quantise(self, x: Tensor, added: Added | None, gain: Tensor | None, late: bool = False) -> tuple[Tensor, Tensor]:
        """See `TorchOps.add_norm_quantise`."""
        q, scale = np.empty(x.shape, i8), np.empty(x.shape[0], f32)
        product = _NOT_ADDED
        if added is not None:
            product = arguments.Added(added.acc.numpy(), added.col.numpy(), added.row.numpy(), _vector(added.gain), _vector(added.bias))
        for part in self._parts(len(q)):
            norm_rows(x.numpy(), product, _vector(gain), late, self._constants, q, scale, *part)
        return from_numpy(q), from_numpy(scale)

    def attend(
        self, acc: Tensor, scales: HeadScales, row: Tensor, turns: TurnTables, cache: KVCache, layer: int, slot: Table
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `TorchOps.attend`; the cache has numpy's arrays."""
        c, way, steps = self.config, int(cache.ways[layer]), turns.here.shape[1]
        by_head = (acc.shape[0], c.heads)
        noted = Noted(np.zeros(by_head, f32), np.zeros(by_head, f32), steps, 0)
        out = np.empty((acc.shape[0], c.query_width), f32)
        all_rows = np.empty((2, acc.shape[0] if c.head_norm == "all" else 0), f32)
        vectors = [_vector(v) for v in scales]
        qkv, here = Projected(acc.numpy(), row.numpy(), *vectors, *all_rows), Turns(turns.here[way].numpy(), turns.pinned[way].numpy())
        arrays = cache.arrays(slot).of_layer(layer)
        for part in self._parts(len(out)):
            if c.head_norm == "all":
                norm_all_heads(qkv, self._constants.eps, *part)
            if here.here.shape[0] > 1:
                store_rows(qkv, here.here, self._constants, c.head_dim, arrays, *part)
        for share in range(self._shares):
            attend(*self._sizes, qkv, here, self._constants, arrays, noted, out, share, self._shares)
        q, scale = np.empty(out.shape, i8), np.empty(out.shape[0], f32)
        for part in self._parts(len(out)):
            quantise_rows(out, q, scale, *part)
        return from_numpy(q), from_numpy(scale), from_numpy(noted.top), from_numpy(noted.total)

    def activate_rotate_quantise(self, acc: Tensor, col: Tensor, row: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `reference.activate_rotate_quantise`."""
        n = acc.shape[0]
        q, scale = np.empty((n, self.config.ffn), i8), np.empty(n, f32)
        for part in self._parts(n):
            activate_rows(acc.numpy(), col.numpy(), row.numpy(), _vector(bias), self._constants, q, scale, *part)
        return from_numpy(q), from_numpy(scale)


def _vector(values: Tensor | None) -> Floats:
    """As kernels take it."""
    return _NOTHING if values is None else np.asarray(values.numpy())
