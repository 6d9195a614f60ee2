"""All layers of the transformer in one compiled call; `fused` says why.

Threads share the outputs of a product when rows are few, since reading weights is then what takes time. When rows are many, threads share
the rows, and take them a few at a time through all operations so that these stay in the fastest caches.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from llmzip.engine.kernels.arguments import Added, CacheArrays, Projected, Turns
from llmzip.engine.kernels.attention import BY_ALL, all_rows_kernel, attend_kernel, store_kernel
from llmzip.engine.kernels.packing import OUTPUTS, QUAD
from llmzip.engine.kernels.products import product, shared_product
from llmzip.engine.kernels.rows import (
    activate_kernel,
    activate_rows,
    f32,
    i8,
    i32,
    jit,
    norm_kernel,
    norm_rows,
    parallel,
    quantise_kernel,
    quantise_rows,
)
from llmzip.engine.kernels.simd import VECTOR

_SLICE = 32  # rows taken through a layer together
MANY_ROWS = 2 * _SLICE  # a thread, from which on threads share rows
PAD = 16  # between rows of a product, so that they do not all compete for the same cache lines


@jit
def columns(w):
    """Of an array for the products of packed weights w."""
    return w.shape[0] * OUTPUTS + PAD


@jit
def _norm(x, added, gain, late, constants, q, scale, parts):
    if x.shape[0] < 2 * parts:
        norm_rows(x, added, gain, late, constants, q, scale, 0, x.shape[0])
    else:
        norm_kernel(x, added, gain, late, constants, q, scale, parts)


@jit
def _quantise(x, q, scale, parts):
    if x.shape[0] < 2 * parts:
        quantise_rows(x, q, scale, 0, x.shape[0])
    else:
        quantise_kernel(x, q, scale, parts)


@jit
def _activate(acc, col, row, bias, constants, q, scale, parts):
    if q.shape[0] < 2 * parts:
        activate_rows(acc, col, row, bias, constants, q, scale, 0, q.shape[0])
    else:
        activate_kernel(acc, col, row, bias, constants, q, scale, parts)


@jit
def _gain_before(weights, i):
    """Gain of what layer i reads, or of what the head reads after the last."""
    return weights.read_attention[i] if i < weights.qkv.shape[0] else weights.read_head


@parallel
def _start(amx, x, weights, constants, q, row, qkv, parts):
    """The first layer's norm, queries, keys and values."""
    n, w_qkv, gain = x.shape[0], weights.qkv[0], weights.read_attention[0]
    none = np.empty(0, f32)
    nothing = Added(np.empty((0, 0), i32), none, none, none, none)
    for part in nb.prange(parts):
        first, last = part * n // parts, (part + 1) * n // parts
        norm_rows(x, nothing, gain, False, constants, q, row, first, last)
        product(amx, q[first:last], w_qkv, qkv[first:last])


@parallel
def _to_next(amx, x, o, weights, i, constants, q, row, qkv, parts):
    """From the attention of layer i to the next layer's norm and, if there is one, its queries, keys and values."""
    w_o, c_o, g_o, b_o = weights.o[i], weights.o_scale[i], weights.o_gain[i], weights.o_bias[i]
    w_gate_up, c_gate_up, g_ffn, b_gate_up = weights.gate_up[i], weights.gate_up_scale[i], weights.read_ffn[i], weights.gate_up_bias[i]
    w_down, c_down, g_down, b_down = weights.down[i], weights.down_scale[i], weights.down_gain[i], weights.down_bias[i]
    w_qkv = weights.qkv[i + 1] if i + 1 < weights.qkv.shape[0] else weights.qkv[0, :0]
    g_next = _gain_before(weights, i + 1)
    n, ffn = x.shape[0], w_down.shape[1] * QUAD
    for part in nb.prange(parts):
        q_o, q_f = np.empty((_SLICE, o.shape[1]), i8), np.empty((_SLICE, ffn), i8)
        row_o, row_f = np.empty(_SLICE, f32), np.empty(_SLICE, f32)
        acc, wide = np.empty((_SLICE, columns(w_o)), i32), np.empty((_SLICE, columns(w_gate_up)), i32)
        stop = (part + 1) * n // parts
        for first in range(part * n // parts, stop, _SLICE):
            last = min(first + _SLICE, stop)
            m = last - first
            xs, qs, rows = x[first:last], q[first:last], row[first:last]
            quantise_rows(o[first:last], q_o, row_o, 0, m)
            product(amx, q_o[:m], w_o, acc)
            norm_rows(xs, Added(acc, c_o, row_o, g_o, b_o), g_ffn, constants.parallel, constants, qs, rows, 0, m)
            product(amx, qs, w_gate_up, wide)
            activate_rows(wide, c_gate_up, rows, b_gate_up, constants, q_f, row_f, 0, m)
            product(amx, q_f[:m], w_down, acc)
            norm_rows(xs, Added(acc, c_down, row_f, g_down, b_down), g_next, False, constants, qs, rows, 0, m)
            product(amx, qs, w_qkv, qkv[first:last])


@jit
def run_layers(amx, vectors, group, x, weights, turns, constants, cache, q, scale, parts):
    """The layers and the last norm: x float32 [n, width], changed in place, to q int8 [n, width] and scale float32 [n].

    weights: `LayerWeights`; turns: `TurnTables`; constants: `Constants`; cache: `CacheArrays` of all layers; vectors and group as for
    `attend_kernel`.
    """
    n = x.shape[0]
    layers, ffn, heads_width = weights.qkv.shape[0], weights.down.shape[2] * QUAD, weights.o.shape[2] * QUAD
    few = n if n < MANY_ROWS * parts else 0
    qkv, o, row = np.empty((n, columns(weights.qkv[0])), i32), np.empty((n, heads_width), f32), np.empty(n, f32)
    wide, acc = np.empty((few, columns(weights.gate_up[0])), i32), np.empty((few, columns(weights.o[0])), i32)
    q_o, row_o, q_f, row_f = np.empty((few, heads_width), i8), np.empty(few, f32), np.empty((few, ffn), i8), np.empty(few, f32)
    nothing = np.empty((0, 0), i32)
    all_rows = n if constants.head_norm == BY_ALL else 0
    q_row, k_row = np.empty(all_rows, f32), np.empty(all_rows, f32)
    if not few:
        _start(amx, x, weights, constants, q, row, qkv, parts)
    for i in range(layers):
        if few:
            added = Added(acc if i else nothing, weights.down_scale[i - 1], row_f, weights.down_gain[i - 1], weights.down_bias[i - 1])
            _norm(x, added, weights.read_attention[i], False, constants, q, row, parts)
            shared_product(amx, q, weights.qkv[i], qkv, parts)
        scaled = Projected(qkv, row, weights.qkv_scale[i], weights.bias[i], weights.q_gain[i], weights.k_gain[i], q_row, k_row)
        if all_rows:
            all_rows_kernel(scaled, constants.eps, parts)
        here = CacheArrays(
            cache.k, cache.ks, cache.v, cache.vs, cache.base[i], cache.slots[i], cache.windows[i], cache.sinks[i], cache.slot[i]
        )
        way = Turns(turns.here[turns.ways[i]], turns.pinned[turns.ways[i]])
        if way.here.shape[0] > 1:
            store_kernel(scaled, way.here, constants, vectors.ndim * VECTOR, here, parts)
        attend_kernel(vectors, group, scaled, way, constants, here, o, parts)
        if few:
            _quantise(o, q_o, row_o, parts)
            shared_product(amx, q_o, weights.o[i], acc, parts)
            added = Added(acc, weights.o_scale[i], row_o, weights.o_gain[i], weights.o_bias[i])
            _norm(x, added, weights.read_ffn[i], constants.parallel, constants, q, row, parts)
            shared_product(amx, q, weights.gate_up[i], wide, parts)
            _activate(wide, weights.gate_up_scale[i], row, weights.gate_up_bias[i], constants, q_f, row_f, parts)
            shared_product(amx, q_f, weights.down[i], acc, parts)
        else:
            _to_next(amx, x, o, weights, i, constants, q, row, qkv, parts)
    if few:
        last = Added(acc, weights.down_scale[layers - 1], row_f, weights.down_gain[layers - 1], weights.down_bias[layers - 1])
        _norm(x, last, weights.read_head, False, constants, q, scale, parts)
    else:
        scale[:] = row
