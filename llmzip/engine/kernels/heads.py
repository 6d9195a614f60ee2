"""Heads between their products, compiled by numba: norm, rotation, quantisation, cache. Each equals `reference` bit for bit."""

from __future__ import annotations

import numpy as np

from llmzip.engine.cache import KEY_BLOCK
from llmzip.engine.kernels.heads_simd import quantise, scale_head, turn
from llmzip.engine.kernels.packing import OFFSETS, QUAD
from llmzip.engine.kernels.quads import parts, prepare
from llmzip.engine.kernels.rows import ACT_MAX, ONE, TINY, counts_nothing, f32, hadamard, i8, jit, magnitude, norm_factor
from llmzip.engine.kernels.simd import VECTOR, largest_magnitude
from llmzip.models.config import HEAD_NORMS
from llmzip.models.convert import VALUE_BASE

_VALUE_BASE = f32(VALUE_BASE)
_BY_HEAD, BY_ALL = HEAD_NORMS.index("head"), HEAD_NORMS.index("all")


@counts_nothing
def _head(acc, col, bias, gain, row, all_row, constants, y):
    """One head before it turns: y float32 [d]; returns the scale that it still needs. See `reference.heads`.

    Addresses of acc int32 [d] and col float32 [d]; bias and gain: float32 [d], or of size 0.
    """
    d, norm = y.shape[0], constants.head_norm
    scale_head(acc, col, y.ctypes.data, d // VECTOR)
    if bias.shape[0]:
        inverse = ONE / row
        for j in range(d):
            y[j] += bias[j] * inverse
    if norm == _BY_HEAD:
        row = norm_factor(y, ONE / row, constants.eps)
    elif norm == BY_ALL:
        row = all_row
    if gain.shape[0]:
        for j in range(d):
            y[j] *= gain[j]
    return row


@counts_nothing
def _turn(y, cs, constants, turned, q, d):
    """Rotates and quantises a head, transformed before in runs of `head_block` if that is not 0. Returns (its largest magnitude, sum of q int8 [d]).

    Addresses of y float32 [d], cs float32 [2, d/2] and q. turned float32 [d] is overwritten.
    """
    to = turned.ctypes.data
    m = turn(y, cs, to, d // VECTOR)
    if constants.head_block:
        hadamard(turned, constants.head_block, constants.head_factor)
        m = largest_magnitude(to, d // VECTOR)
    m = max(m, TINY)
    return m, quantise(to, ACT_MAX / m, q, d // VECTOR)


@counts_nothing
def _quantise(x, q):
    """Rounds x float32 [d] to q int8 [d]; returns its largest magnitude."""
    m = magnitude(x)
    quantise(x.ctypes.data, ACT_MAX / m, q.ctypes.data, x.shape[0] // VECTOR)
    return m


@counts_nothing
def _all_heads(qkv, i, first, y, eps):
    """The scale of row i that columns from `first` on need, if they are normed together; y [columns] is overwritten."""
    acc, col, bias = qkv.acc[i, first:], qkv.col[first:], qkv.bias[first:]
    inverse = ONE / qkv.row[i]
    for j in range(y.shape[0]):
        y[j] = f32(acc[j]) * col[j]
    if bias.shape[0]:
        for j in range(y.shape[0]):
            y[j] += bias[j] * inverse
    return norm_factor(y, inverse, eps)


@jit
def norm_all_queries(qkv, eps, first, last):
    """As `norm_all_heads`, `q_row` alone."""
    queries, q_row = np.empty(qkv.q_gain.shape[0], f32), qkv.q_row
    for i in range(first, last):
        q_row[i] = _all_heads(qkv, i, np.int64(0), queries, eps)


@jit
def norm_all_heads(qkv, eps, first, last):
    """Fill `q_row` and `k_row` for rows [first, last) of a model that norms all heads together."""
    queries, keys = np.empty(qkv.q_gain.shape[0], f32), np.empty(qkv.k_gain.shape[0], f32)
    q_row, k_row = qkv.q_row, qkv.k_row
    for i in range(first, last):
        q_row[i] = _all_heads(qkv, i, np.int64(0), queries, eps)
        k_row[i] = _all_heads(qkv, i, queries.shape[0], keys, eps)


@jit
def store_head(qkv, i, cs, constants, kv, h, d, k, ks, v, vs, slot):
    """Writes the key and value of row i and head h of kv into its lane's part of the cache, at `slot` there. cs: address of float32 [2, d/2]."""
    y, turned, z = np.empty(d, f32), np.empty(d, f32), np.empty(d, i8)
    row = qkv.row[i]
    at = (constants.heads + h) * d
    all_row = qkv.k_row[i] if constants.head_norm == BY_ALL else row
    acc, col, bias, gain = qkv.acc[i, at:].ctypes.data, qkv.col[at:].ctypes.data, qkv.bias[at : at + d], qkv.k_gain[h * d : (h + 1) * d]
    rest = _head(acc, col, bias, gain, row, all_row, constants, y)
    m, _ = _turn(y.ctypes.data, cs, constants, turned, z.ctypes.data, d)
    ks[slot] = (m * rest) / ACT_MAX
    words, block = z.view(np.uint32), k[slot // KEY_BLOCK * KEY_BLOCK * d : (slot // KEY_BLOCK + 1) * KEY_BLOCK * d].view(np.uint32)
    for j in range(d // QUAD):
        block[j * KEY_BLOCK + slot % KEY_BLOCK] = words[j] ^ OFFSETS
    at += kv * d
    high, low, scale = qkv.acc[i, at : at + d], qkv.acc[i, at + kv * d : at + kv * d + d], qkv.col[at : at + d]
    for j in range(d):
        y[j] = (f32(high[j]) * _VALUE_BASE + f32(low[j])) * scale[j]
    if qkv.bias.shape[0]:
        inverse, bias = ONE / row, qkv.bias[at : at + d]
        for j in range(d):
            y[j] += bias[j] * inverse
    vs[slot] = (_quantise(y, z) * row) / ACT_MAX
    quad = v[slot // QUAD * QUAD * d + slot % QUAD :]
    for j in range(d):
        quad[QUAD * j] = z[j]


@counts_nothing
def turned_row(qkv, i, cs, constants, y, turned, q, qs):
    """Queries of row i, turned and quantised: into q int8 [heads, d], with scales qs.

    cs: address of float32 [2, d/2]. y and turned float32 [d] are overwritten.
    """
    d, row = q.shape[1], qkv.row[i]
    for h in range(q.shape[0]):
        at = h * d
        acc, col, bias, gain = qkv.acc[i, at:].ctypes.data, qkv.col[at:].ctypes.data, qkv.bias[at : at + d], qkv.q_gain[at : at + d]
        rest = _head(acc, col, bias, gain, row, qkv.q_row[i] if constants.head_norm == BY_ALL else row, constants, y)
        m, _ = _turn(y.ctypes.data, cs, constants, turned, q[h].ctypes.data, d)
        qs[h] = ((m * rest) / ACT_MAX) * constants.score


@jit
def store_rows(qkv, cs, constants, d, cache, first, last):
    """Write new keys and values of rows [first, last) into the cache.

    qkv: `Projected`. cs: float32 [t, 2, d/2]. constants: `Constants`. cache: `CacheArrays` of this layer.
    """
    k, ks, v, vs, base, slots, slot = cache.k, cache.ks, cache.v, cache.vs, cache.base, cache.slots, cache.slot
    t, kv = cs.shape[0], base.shape[0]
    for i in range(first, last):
        lane, step = i // t, i % t
        for h in range(kv):
            at = base[h] + lane * slots[h]
            store_head(qkv, i, cs[step].ctypes.data, constants, kv, h, d, k[at * d :], ks[at:], v[at * d :], vs[at:], slot[h] + step)


@counts_nothing
def group_queries(qkv, i, column, constants, y, rest, first, last):
    """The queries of row i that share a key head, from `column` on, before they turn: into y[first:last], float32 [m, d], and rest [m], the scales that they still need."""
    d, row, bias, gain = y.shape[1], qkv.row[i], qkv.bias, qkv.q_gain
    acc, col = qkv.acc.ctypes.data + qkv.acc.strides[0] * i + 4 * column, qkv.col.ctypes.data + 4 * column
    if not bias.shape[0] and not gain.shape[0] and constants.head_norm != BY_ALL:
        scale_head(acc, col, y.ctypes.data + 4 * d * first, (last - first) * (d // VECTOR))
        for g in range(first, last):
            rest[g] = row
        return
    all_row = qkv.q_row[i] if constants.head_norm == BY_ALL else row
    for g in range(first, last):
        at = (g - first) * d
        end = column + at + d
        rest[g] = _head(acc + 4 * at, col + 4 * at, bias[column + at : end], gain[column + at : end], row, all_row, constants, y[g])


@counts_nothing
def turn_queries(y, rest, cs, group, constants, turned, q, ready, sums, scales):
    """Turned and quantised queries: y float32 [m, d] and rest [m], of `group` queries a step -> q int8 [m, d], ready and sums by `prepare`, scales [m].

    cs: address of float32 [steps, 2, d/2].
    """
    m, d = y.shape
    from_, to = y.ctypes.data, q.ctypes.data
    for i in range(m):
        largest, total = _turn(from_ + 4 * d * i, cs + 4 * d * (i // group), constants, turned, to + d * i, d)
        scales[i] = ((largest * rest[i]) / ACT_MAX) * constants.score
        sums[i] = total
    if parts() != 1:
        prepare(q, ready, sums)
