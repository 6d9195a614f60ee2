"""Heads between their products, compiled by numba: norm, rotation, quantisation, cache. Each equals `reference` bit for bit."""

from __future__ import annotations

import numba as nb
import numpy as np

from llmzip.engine.cache import KEY_BLOCK
from llmzip.engine.kernels.packing import OFFSET, QUAD
from llmzip.engine.kernels.quads import prepare
from llmzip.engine.kernels.rows import ACT_MAX, ONE, f32, hadamard, i32, jit, magnitude, norm_factor, parallel
from llmzip.models.config import HEAD_NORMS
from llmzip.models.convert import VALUE_BASE

_VALUE_BASE = f32(VALUE_BASE)
_BY_HEAD, BY_ALL = HEAD_NORMS.index("head"), HEAD_NORMS.index("all")


@jit
def _head(acc, col, bias, gain, row, all_row, norm, eps, y):
    """One head before it turns: acc int32 [d] -> y float32 [d]; returns the scale that it still needs. See `reference.heads`."""
    d = acc.shape[0]
    for j in range(d):
        y[j] = f32(acc[j]) * col[j]
    if bias.shape[0]:
        inverse = ONE / row
        for j in range(d):
            y[j] += bias[j] * inverse
    if norm == _BY_HEAD:
        row = norm_factor(y, ONE / row, eps)
    elif norm == BY_ALL:
        row = all_row
    if gain.shape[0]:
        for j in range(d):
            y[j] *= gain[j]
    return row


@jit
def _turn(y, cs, block, factor, out):
    """Rotates a head: y float32 [d], cs float32 [2, d/2] -> out float32 [d], transformed in runs of `block` if that is not 0."""
    half = y.shape[0] // 2
    for j in range(half):
        a, b = y[j], y[half + j]
        out[j] = a * cs[0, j] - b * cs[1, j]
        out[half + j] = b * cs[0, j] + a * cs[1, j]
    if block:
        hadamard(out, block, factor)


@jit
def _quantise_head(x, row, q):
    """Rounds x float32 [d] to integers q [d]; returns the scale."""
    m = magnitude(x)
    r = ACT_MAX / m
    for j in range(x.shape[0]):
        q[j] = i32(np.rint(x[j] * r))
    return (m * row) / ACT_MAX


@jit
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


@parallel
def all_rows_kernel(qkv, eps, parts):
    """Fill `q_row` and `k_row` of a model that norms all heads together."""
    n, q, kv = qkv.acc.shape[0], qkv.q_gain.shape[0], qkv.k_gain.shape[0]
    q_row, k_row = qkv.q_row, qkv.k_row
    for part in nb.prange(parts):
        queries, keys = np.empty(q, f32), np.empty(kv, f32)
        for i in range(part * n // parts, (part + 1) * n // parts):
            q_row[i] = _all_heads(qkv, i, 0, queries, eps)
            k_row[i] = _all_heads(qkv, i, q, keys, eps)


@jit
def store_head(qkv, i, cs, constants, kv, h, d, k, ks, v, vs, slot):
    """Writes the key and value of row i and head h of kv into its lane's part of the cache, at `slot` there."""
    y, turned, z = np.empty(d, f32), np.empty(d, f32), np.empty(d, i32)
    acc, col, bias, gain, row = qkv.acc[i], qkv.col, qkv.bias, qkv.k_gain, qkv.row[i]
    at = (constants.heads + h) * d
    all_row = qkv.k_row[i] if constants.head_norm == BY_ALL else row
    rest = _head(
        acc[at : at + d],
        col[at : at + d],
        bias[at : at + d],
        gain[h * d : (h + 1) * d],
        row,
        all_row,
        constants.head_norm,
        constants.eps,
        y,
    )
    _turn(y, cs, constants.head_block, constants.head_factor, turned)
    ks[slot] = _quantise_head(turned, rest, z)
    block = k[slot // KEY_BLOCK * KEY_BLOCK * d :]
    for j in range(d):
        block[j // QUAD * (QUAD * KEY_BLOCK) + slot % KEY_BLOCK * QUAD + j % QUAD] = z[j] + OFFSET
    at += kv * d
    for j in range(d):
        y[j] = (f32(acc[at + j]) * _VALUE_BASE + f32(acc[at + kv * d + j])) * col[at + j]
    if bias.shape[0]:
        inverse = ONE / row
        for j in range(d):
            y[j] += bias[at + j] * inverse
    vs[slot] = _quantise_head(y, row, z)
    quad = v[slot // QUAD * QUAD * d :]
    for j in range(d):
        quad[QUAD * j + slot % QUAD] = z[j]


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
            store_head(qkv, i, cs[step], constants, kv, h, d, k[at * d :], ks[at:], v[at * d :], vs[at:], slot[h] + step)


@parallel
def store_kernel(qkv, cs, constants, d, cache, parts):
    """`store_rows` for all rows."""
    n = qkv.acc.shape[0]
    for part in nb.prange(parts):
        store_rows(qkv, cs, constants, d, cache, part * n // parts, (part + 1) * n // parts)


@jit
def group_queries(qkv, i, first, constants, y, rest):
    """The queries of row i that share a key head, from column `first` on, before they turn: y [group, d] and the scales that they still need, [group]."""
    group, d = y.shape
    acc, col, bias, gain, row = qkv.acc[i], qkv.col, qkv.bias, qkv.q_gain, qkv.row[i]
    all_row = qkv.q_row[i] if constants.head_norm == BY_ALL else row
    for g in range(group):
        at = first + g * d
        end = at + d
        rest[g] = _head(acc[at:end], col[at:end], bias[at:end], gain[at:end], row, all_row, constants.head_norm, constants.eps, y[g])


@jit
def turn_queries(y, rest, cs, constants, turned, q, ready, sums, scales):
    """Turned and quantised queries: y float32 [steps * group, d], rest [steps * group] and cs [steps, 2, d/2] -> q int8 [steps * group, d], ready and sums by `prepare`, scales [steps * group]."""
    group = y.shape[0] // cs.shape[0]
    for i in range(y.shape[0]):
        _turn(y[i], cs[i // group], constants.head_block, constants.head_factor, turned)
        scales[i] = _quantise_head(turned, rest[i], q[i]) * constants.score
    prepare(q, ready, sums)
