"""All layers of the transformer in one compiled call, and the head: the fast path on CPU.

Calling into Python between operations costs more than the operations when tokens are few. So the layers' weights are
stacked and one function runs through them, with the kernels of `kernels`, `attention_kernels` and `products`. Threads
share the outputs of a product when rows are few, since reading weights is then what takes time; they share the rows, and
take them a few at a time through all operations so that these stay in the fastest caches, when rows are many.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmzip.engine.cache import KEY_BLOCK
from llmzip.engine.hidden import DeviceHidden, Hidden
from llmzip.engine.kernels import packing
from llmzip.engine.kernels.amx import WITH, WITHOUT
from llmzip.engine.kernels.arguments import LayerWeights, TurnTables, constants
from llmzip.engine.kernels.layers import PAD, run_layers
from llmzip.engine.kernels.packing import OUTPUTS, pack
from llmzip.engine.kernels.products import head_kernel, shared_product
from llmzip.engine.kernels.rows import i32, unit_rows
from llmzip.engine.kernels.simd import VECTOR, size
from llmzip.engine.kernels.tiles import MOST_INPUTS
from llmzip.engine.vectors import LayerVectors, layer_vectors
from llmzip.models.convert import MATRICES

if TYPE_CHECKING:
    from llmzip.engine import operations
    from llmzip.engine.cache import KVCache
    from llmzip.engine.gemm import Gemm
    from llmzip.engine.kernels.arguments import Table
    from llmzip.models.convert import IntegerModel

_TRIED_ROWS = (512, 128, 48, 16)


class FusedLayers:
    """The stacked weights of a model, of a shape that `fits`. amx: whether products are by AMX, which must be usable then."""

    def __init__(self, model: IntegerModel, threads: int, amx: bool = False) -> None:
        c = self.config = model.config
        self.threads, self.amx = threads, WITH if amx else WITHOUT
        weights: list[Any] = []
        for part in MATRICES:
            n, k = model.tensors[f"0.{part}"].shape
            w = np.empty((c.layers, *packing.shape(n, k)), np.uint8)
            for i in range(c.layers):
                w[i] = pack(model.tensors[f"{i}.{part}"])
            weights += [w, np.stack([model.tensors[f"{i}.{part}.scale"] for i in range(c.layers)])]
        self._weights = LayerWeights(*weights, **_vectors(model))
        self._head, self._head_scale = pack(model.tensors["head"]), model.tensors["head.scale"]
        self._sizes, self._constants = (size(c.head_dim // VECTOR), size(c.heads // c.kv_heads)), constants(c)

    @staticmethod
    def fits(model: IntegerModel) -> bool:
        """Whether the kernels can run a model of this shape."""
        c = model.config
        return c.head_dim % KEY_BLOCK == 0 and max(c.width, c.ffn, c.query_width) <= MOST_INPUTS

    def run(self, x: Tensor, turns: operations.TurnTables, cache: KVCache, slot: Table) -> DeviceHidden:
        """The normed and quantised output of the last layer for x float32 [n, width], which is changed."""
        q, scale = torch.empty(x.shape, dtype=torch.int8), torch.empty(x.shape[0], dtype=torch.float32)
        tables = TurnTables(turns.here.numpy(), turns.pinned.numpy(), cache.ways)
        run_layers(
            self.amx,
            *self._sizes,
            x.numpy(),
            self._weights,
            tables,
            self._constants,
            cache.arrays(slot),
            q.numpy(),
            scale.numpy(),
            self.threads,
        )
        unit = scale
        if self.config.plain_stream:
            unit = torch.empty_like(scale)
            unit_rows(q.numpy(), unit.numpy())
        return Hidden(q, scale, unit)

    def logits(self, q: Tensor, scale: Tensor, out: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits in units of log2, written into out float32 [n, vocab]."""
        head_kernel(self.amx, q.numpy(), scale.numpy(), self._head, self._head_scale, out, self.threads)
        return out


def _vectors(model: IntegerModel) -> dict[str, Any]:
    """Biases and gains as `LayerWeights` has them."""
    none = np.empty(0, np.float32)
    layers = [layer_vectors(model, i) for i in range(model.config.layers)]
    stacked = {
        name: np.stack([none if v is None else v for v in column]) for name, *column in zip(LayerVectors._fields, *layers, strict=True)
    }
    return stacked | {"read_head": model.tensors.get("head.norm", none)}


def faster_up_to(gemm: Gemm, model: IntegerModel, threads: int) -> int:
    """The number of rows up to which compiled products are faster than `gemm`; sys.maxsize if that has no end."""
    w = torch.from_numpy(model.tensors["0.gate_up"])
    ours, theirs, most = pack(w.numpy()), gemm.prepare(w), sys.maxsize
    for rows in _TRIED_ROWS:
        q, out = torch.ones((rows, w.shape[1]), dtype=torch.int8), np.empty((rows, ours.shape[0] * OUTPUTS + PAD), i32)
        seconds = _seconds(partial(shared_product, WITHOUT, q.numpy(), ours, out, threads)), _seconds(partial(gemm.multiply, q, theirs))
        if seconds[0] < seconds[1]:
            return most
        most = rows - 1
    return most


def _seconds(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best
