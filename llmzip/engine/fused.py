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

import numba as nb
import numpy as np
import torch
from torch import Tensor

from llmzip.engine import numerics as nm
from llmzip.engine.cache import KEY_BLOCK
from llmzip.engine.kernels.attention import attend_kernel, store_kernel
from llmzip.engine.kernels.products import head_kernel, product, shared_product
from llmzip.engine.kernels.rows import (
    f32,
    i8,
    i32,
    jit,
    norm_kernel,
    norm_rows,
    parallel,
    quantise_kernel,
    quantise_rows,
    swiglu_kernel,
    swiglu_rows,
)
from llmzip.engine.kernels.simd import VECTOR, size
from llmzip.engine.kernels.tiles import MOST_INPUTS, OUTPUTS, QUAD, pack
from llmzip.models.convert import MATRICES
from llmzip.models.rotate import block_size

if TYPE_CHECKING:
    from llmzip.engine.cache import KVCache, Table
    from llmzip.engine.gemm import Gemm
    from llmzip.models.convert import IntegerModel

_SLICE = 32  # rows taken through a layer together
MANY_ROWS = 2 * _SLICE  # a thread, from which on threads share rows
_TRIED_ROWS = (512, 128, 48, 16)
_PAD = 16  # between rows of a product, so that they do not all compete for the same cache lines


@jit
def _columns(w):
    """Of an array for the products of packed weights w."""
    return w.shape[0] * OUTPUTS + _PAD


@jit
def _norm(x, acc, col, row, eps, q, scale, parts):
    if x.shape[0] < 2 * parts:
        norm_rows(x, acc, col, row, eps, q, scale, 0, x.shape[0])
    else:
        norm_kernel(x, acc, col, row, eps, q, scale, parts)


@jit
def _quantise(x, q, scale, parts):
    if x.shape[0] < 2 * parts:
        quantise_rows(x, q, scale, 0, x.shape[0])
    else:
        quantise_kernel(x, q, scale, parts)


@jit
def _swiglu(acc, col, row, block, factor, q, scale, parts):
    if q.shape[0] < 2 * parts:
        swiglu_rows(acc, col, row, block, factor, q, scale, 0, q.shape[0])
    else:
        swiglu_kernel(acc, col, row, block, factor, q, scale, parts)


@parallel
def _start(x, eps, q, row, w_qkv, qkv, parts):
    """The first layer's norm, queries, keys and values."""
    n = x.shape[0]
    nothing, no_scale = np.empty((0, 0), i32), np.empty(0, f32)
    for part in nb.prange(parts):
        first, last = part * n // parts, (part + 1) * n // parts
        norm_rows(x, nothing, no_scale, no_scale, eps, q, row, first, last)
        product(q[first:last], w_qkv, qkv[first:last])


@parallel
def _to_next(x, o, w_o, c_o, w_gate_up, c_gate_up, w_down, c_down, eps, factor, block, q, row, w_qkv, qkv, parts):
    """From a layer's attention to the next one's norm and, if w_qkv is not empty, queries, keys and values."""
    n, ffn = x.shape[0], w_down.shape[1] * QUAD
    for part in nb.prange(parts):
        q_o, q_f = np.empty((_SLICE, o.shape[1]), i8), np.empty((_SLICE, ffn), i8)
        row_o, row_f = np.empty(_SLICE, f32), np.empty(_SLICE, f32)
        acc, wide = np.empty((_SLICE, _columns(w_o)), i32), np.empty((_SLICE, _columns(w_gate_up)), i32)
        stop = (part + 1) * n // parts
        for first in range(part * n // parts, stop, _SLICE):
            last = min(first + _SLICE, stop)
            m = last - first
            xs, qs, rows = x[first:last], q[first:last], row[first:last]
            quantise_rows(o[first:last], q_o, row_o, 0, m)
            product(q_o[:m], w_o, acc)
            norm_rows(xs, acc, c_o, row_o, eps, qs, rows, 0, m)
            product(qs, w_gate_up, wide)
            swiglu_rows(wide, c_gate_up, rows, block, factor, q_f, row_f, 0, m)
            product(q_f[:m], w_down, acc)
            norm_rows(xs, acc, c_down, row_f, eps, qs, rows, 0, m)
            product(qs, w_qkv, qkv[first:last])


@jit
def run_layers(
    vectors, group, x, w_qkv, c_qkv, w_o, c_o, w_gate_up, c_gate_up, w_down, c_down, cs, pinned_cs, heads, eps, score,
    factor, block, k, ks, v, vs, base, slots, windows, slot, sinks, q, scale, parts,
):  # fmt: skip
    """The layers and the last norm: x float32 [n, width], changed in place, to q int8 [n, width] and scale float32 [n].

    w_*: packed weights [layers, ...]; c_*: their scales [layers, outputs]; the cache as in `attention_kernels`, for all
    layers.
    """
    n = x.shape[0]
    layers, ffn, heads_width = w_qkv.shape[0], w_down.shape[2] * QUAD, w_o.shape[2] * QUAD
    few = n if n < MANY_ROWS * parts else 0
    qkv, o, row = np.empty((n, _columns(w_qkv[0])), i32), np.empty((n, heads_width), f32), np.empty(n, f32)
    wide, acc = np.empty((few, _columns(w_gate_up[0])), i32), np.empty((few, _columns(w_o[0])), i32)
    q_o, row_o, q_f, row_f = np.empty((few, heads_width), i8), np.empty(few, f32), np.empty((few, ffn), i8), np.empty(few, f32)
    nothing = np.empty((0, 0), i32)
    if not few:
        _start(x, eps, q, row, w_qkv[0], qkv, parts)
    for i in range(layers):
        if few:
            _norm(x, acc if i else nothing, c_down[i - 1], row_f, eps, q, row, parts)
            shared_product(q, w_qkv[i], qkv, parts)
        if cs.shape[0] > 1:
            store_kernel(qkv, c_qkv[i], row, cs, heads, vectors.ndim * VECTOR, k, ks, v, vs, base[i], slots[i], slot[i], parts)
        attend_kernel(
            vectors, group, qkv, c_qkv[i], row, cs, pinned_cs, heads, score,
            k, ks, v, vs, base[i], slots[i], windows[i], slot[i], sinks, o, parts,
        )  # fmt: skip
        if few:
            _quantise(o, q_o, row_o, parts)
            shared_product(q_o, w_o[i], acc, parts)
            _norm(x, acc, c_o[i], row_o, eps, q, row, parts)
            shared_product(q, w_gate_up[i], wide, parts)
            _swiglu(wide, c_gate_up[i], row, block, factor, q_f, row_f, parts)
            shared_product(q_f, w_down[i], acc, parts)
        else:
            w_next = w_qkv[i + 1] if i + 1 < layers else w_qkv[0, :0]
            _to_next(x, o, w_o[i], c_o[i], w_gate_up[i], c_gate_up[i], w_down[i], c_down[i], eps, factor, block, q, row, w_next, qkv, parts)
    if few:
        _norm(x, acc, c_down[layers - 1], row_f, eps, q, scale, parts)
    else:
        scale[:] = row


class FusedLayers:
    """The stacked weights of a model, of a shape that `fits`."""

    def __init__(self, model: IntegerModel, threads: int) -> None:
        c = self.config = model.config
        self.threads = threads
        self._weights: list[Any] = []
        for part in MATRICES:
            n, k = model.tensors[f"0.{part}"].shape
            w = np.empty((c.layers, -(-n // OUTPUTS), k // QUAD, OUTPUTS, QUAD), np.uint8)
            for i in range(c.layers):
                w[i] = pack(model.tensors[f"{i}.{part}"])
            self._weights += [w, np.stack([model.tensors[f"{i}.{part}.scale"] for i in range(c.layers)])]
        self._head, self._head_scale = pack(model.tensors["head"]), model.tensors["head.scale"]
        self._sizes = size(c.head_dim // VECTOR), size(c.heads // c.kv_heads)
        self._factor = f32(block_size(c.ffn) ** -0.5)

    @staticmethod
    def fits(model: IntegerModel) -> bool:
        """Whether the kernels can run a model of this shape."""
        c = model.config
        return c.head_dim % KEY_BLOCK == 0 and max(c.width, c.ffn, c.query_width) <= MOST_INPUTS

    def run(self, x: Tensor, cs: Tensor, pinned_cs: Tensor, cache: KVCache, slot: Table) -> tuple[Tensor, Tensor]:
        """The normed and quantised output of the last layer for x float32 [n, width], which is changed."""
        c = self.config
        q, scale = torch.empty(x.shape, dtype=torch.int8), torch.empty(x.shape[0], dtype=torch.float32)
        run_layers(
            *self._sizes, x.numpy(), *self._weights, cs.numpy(), pinned_cs.numpy(), c.heads, f32(c.norm_eps),
            f32(nm.score_scale(c.head_dim)), self._factor, block_size(c.ffn),
            cache.k.numpy(), cache.ks.numpy(), cache.v.numpy(), cache.vs.numpy(),
            cache.base, cache.slots, cache.windows, slot, cache.sinks, q.numpy(), scale.numpy(), self.threads,
        )  # fmt: skip
        return q, scale

    def logits(self, q: Tensor, scale: Tensor) -> Tensor:
        """float32 [n, vocab], in units of log2."""
        out = torch.empty((q.shape[0], self.config.vocab), dtype=torch.float32)
        head_kernel(q.numpy(), scale.numpy(), self._head, self._head_scale, out.numpy(), self.threads)
        return out


def faster_up_to(gemm: Gemm, model: IntegerModel, threads: int) -> int:
    """The number of rows up to which compiled products are faster than `gemm`; sys.maxsize if that has no end."""
    w = torch.from_numpy(model.tensors["0.gate_up"])
    ours, theirs, most = pack(w.numpy()), gemm.prepare(w), sys.maxsize
    for rows in _TRIED_ROWS:
        q, out = torch.ones((rows, w.shape[1]), dtype=torch.int8), np.empty((rows, ours.shape[0] * OUTPUTS + _PAD), i32)
        seconds = _seconds(partial(shared_product, q.numpy(), ours, out, threads)), _seconds(partial(gemm.multiply, q, theirs))
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
