"""Attention kernels, compiled by numba: rotation, cache, integer softmax. Each equals `reference` bit for bit.

The rules are those of `kernels`. Work is split over threads by lane, head and token.
"""

from __future__ import annotations

import numpy as np

from llmzip.engine import numerics as nm
from llmzip.engine.cache import KEY_BLOCK
from llmzip.engine.kernels.attention_simd import mix, scores, weigh
from llmzip.engine.kernels.packing import OFFSET, QUAD
from llmzip.engine.kernels.quads import operand, parts, prepare
from llmzip.engine.kernels.rows import ACT_MAX, ONE, ZERO, f32, glue, hadamard, i8, i32, jit, magnitude, norm_factor
from llmzip.engine.kernels.simd import LINE, VECTOR, largest
from llmzip.entropy.exponential import offset
from llmzip.entropy.kernels.exponential import float_from_bits, power_pattern
from llmzip.models.config import HEAD_NORMS
from llmzip.models.convert import VALUE_BASE

_VALUE_BASE, _WEIGHT_SUM = f32(VALUE_BASE), f32(nm.WEIGHT_SUM)
_FLOOR, _OFFSET = f32(nm.ATTEND_FLOOR), offset(nm.ATTEND_BITS)
_UNSEEN = f32(-3e38)
_BY_HEAD, BY_ALL = HEAD_NORMS.index("head"), HEAD_NORMS.index("all")
STEPS = 32  # of one head, one after another: its keys and values stay in the cache of the processor


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


@jit
def norm_all_heads(qkv, eps, first, last):
    """Fill `q_row` and `k_row` for rows [first, last) of a model that norms all heads together."""
    queries, keys = np.empty(qkv.q_gain.shape[0], f32), np.empty(qkv.k_gain.shape[0], f32)
    q_row, k_row = qkv.q_row, qkv.k_row
    for i in range(first, last):
        q_row[i] = _all_heads(qkv, i, np.int64(0), queries, eps)
        k_row[i] = _all_heads(qkv, i, queries.shape[0], keys, eps)


@jit
def _store_head(qkv, i, cs, constants, kv, h, d, k, ks, v, vs, slot):
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
            _store_head(qkv, i, cs[step], constants, kv, h, d, k[at * d :], ks[at:], v[at * d :], vs[at:], slot[h] + step)


@jit
def _exponentials(u, top, a):
    """Unnormalised integer weights a of scores u float32 [n]; their sum."""
    total = i32(0)
    for j in range(u.shape[0]):
        e = i32(float_from_bits(power_pattern(max(u[j] - top, _FLOOR), _OFFSET)))
        a[j] = e
        total = i32(total + e)
    return total


@jit
def _largest_scale(vs, lo, hi, top):
    """Maximum of vs[lo:hi] and `top`."""
    inner, outer = (lo + VECTOR - 1) // VECTOR * VECTOR, hi // VECTOR * VECTOR
    if inner < outer:
        top = max(top, largest(vs[inner:].ctypes.data, (outer - inner) // VECTOR))
    else:
        inner = outer = hi
    for j in range(lo, inner):
        top = max(top, vs[j])
    for j in range(outer, hi):
        top = max(top, vs[j])
    return top


@glue
def _scores(vectors, group, q, sums, qs, k, ks, u, stride, low, high, ahead, lines):
    """`scores` of blocks of keys [low, high): addresses as there, those of k, ks, u and ahead at the first block."""
    block = KEY_BLOCK * VECTOR * vectors.ndim
    b = low
    while b + 2 <= high:
        here = ahead + block * b
        scores(2, vectors, group, q, sums, qs, k + block * b, ks + 4 * KEY_BLOCK * b, u + 4 * KEY_BLOCK * b, stride, here, lines)
        b += 2
    if b < high:
        here = ahead + block * b
        scores(1, vectors, group, q, sums, qs, k + block * b, ks + 4 * KEY_BLOCK * b, u + 4 * KEY_BLOCK * b, stride, here, lines)


@glue
def _mix(vectors, group, w, most, v, blocks, large, sums, scale, out, ahead, lines):
    """Weighted sums of values into out float32 [group * d]; blocks int64 [n] of keys, and whether their weights need a second plane, `large`."""
    at = sums.ctypes.data
    mix(0, vectors, group, w, 2 * most, most, v, blocks.ctypes.data, blocks.shape[0], at, ahead, lines)
    n = 0
    for j in range(blocks.shape[0]):
        if large[blocks[j]]:
            blocks[n] = blocks[j]
            n += 1
    if n:
        mix(1, vectors, group, w, 2 * most, most, v, blocks.ctypes.data, n, at, ahead, 0)
    for j in range(out.shape[0]):
        out[j] = f32(sums[j]) * scale


@glue
def _group(qkv, i, first, constants, y, rest):
    """The queries of row i that share a key head, from column `first` on, before they turn: y [group, d] and the scales that they still need, [group]."""
    group, d = y.shape
    acc, col, bias, gain, row = qkv.acc[i], qkv.col, qkv.bias, qkv.q_gain, qkv.row[i]
    all_row = qkv.q_row[i] if constants.head_norm == BY_ALL else row
    for g in range(group):
        at = first + g * d
        end = at + d
        rest[g] = _head(acc[at:end], col[at:end], bias[at:end], gain[at:end], row, all_row, constants.head_norm, constants.eps, y[g])


@glue
def _turn_group(y, rest, cs, constants, turned, q, ready, sums, scales):
    """Turned and quantised queries of a group: y [group, d] -> q int8 [group, d], ready and sums by `prepare`, scales [group]."""
    for g in range(y.shape[0]):
        _turn(y[g], cs, constants.head_block, constants.head_factor, turned)
        scales[g] = _quantise_head(turned, rest[g], q[g]) * constants.score
    prepare(q, ready, sums)


@jit
def attend(vectors, group, qkv, turns, constants, cache, out, share, shares):
    """A thread's share of `reference.attend` for all queries of one layer.

    vectors and group: head_dim / VECTOR and queries a key head, made by `simd.size`. qkv: `Projected`; turns: `Turns`; constants:
    `Constants`; cache: `CacheArrays` of this layer; out float32 [lanes*t, q]. With one step only, its keys and values are stored here, by
    whoever needs them; with more, `store_rows` must have done it.

    Threads share the units of work: lanes x runs of STEPS steps x key heads.
    """
    cs, pinned_cs = turns.here, turns.pinned
    k, ks, v, vs = cache.k, cache.ks, cache.v, cache.vs
    base, slots, windows, sinks, slot = cache.base, cache.slots, cache.windows, cache.sinks, cache.slot
    t, kv = cs.shape[0], base.shape[0]
    runs = (t + STEPS - 1) // STEPS
    queries, head_dim = group.ndim, vectors.ndim * VECTOR
    most = slots.max()
    units = qkv.acc.shape[0] // t * runs * kv
    alone = t == 1
    lines = head_dim * KEY_BLOCK // LINE if alone else 0  # of a block of keys or values: with more steps, they are in a cache
    u, a, w = np.empty((queries, most), f32), np.empty(most, i32), np.empty((queries, 2 * most), i8)
    y, rest, turned = np.empty((queries, head_dim), f32), np.empty(queries, f32), np.empty(head_dim, f32)
    q = np.empty((queries, head_dim), i8)
    ready, qsum, qs = operand(q), np.empty(queries, i32), np.empty(queries, f32)
    sums, far = np.empty(queries * head_dim, i32), np.empty((queries, KEY_BLOCK), f32)
    mixed, large = np.empty(most // KEY_BLOCK, np.int64), np.empty(most // KEY_BLOCK, np.bool_)
    pu, pa, pw, pq, psum, pqs = u.ctypes.data, a.ctypes.data, w.ctypes.data, ready.ctypes.data, qsum.ctypes.data, qs.ctypes.data
    plarge = large.ctypes.data
    for i in range(share * units // shares, (share + 1) * units // shares):
        lane, run, h = i // (runs * kv), i // kv % runs, i % kv
        begin = base[h] + lane * slots[h]
        keys, scale_k, scale_v = k[begin * head_dim :], ks[begin:], vs[begin : begin + slots[h]]
        values = v[begin * head_dim :]
        pk, pks, pv, pvs = keys.ctypes.data, scale_k.ctypes.data, values.ctypes.data, scale_v.ctypes.data
        h_next = (h + 1) % kv
        lane_next = lane + (h_next == 0)
        low_next = max(np.int64(0), slot[h_next] - windows[h_next]) // KEY_BLOCK * KEY_BLOCK
        pk_next = k.ctypes.data + (base[h_next] + lane_next * slots[h_next] + low_next) * head_dim
        at = h * queries * head_dim
        end = at + queries * head_dim
        for step in range(run * STEPS, min((run + 1) * STEPS, t)):
            line = lane * t + step
            if alone:
                _store_head(qkv, line, cs[step], constants, kv, h, head_dim, keys, scale_k, values, scale_v, slot[h])
            hi = slot[h] + step + 1
            few = min(sinks[h], hi)
            lo = max(few, hi - windows[h])
            low, high = lo // KEY_BLOCK, (hi + KEY_BLOCK - 1) // KEY_BLOCK
            start, stop = low * KEY_BLOCK, high * KEY_BLOCK
            apart = few and start  # the sinks are in a block of their own
            _group(qkv, line, at, constants, y, rest)
            _turn_group(y, rest, cs[step], constants, turned, q, ready, qsum, qs)
            _scores(vectors, group, pq, psum, pqs, pk, pks, pu, 4 * most, low, high, pv, lines)
            if few:
                _turn_group(y, rest, pinned_cs[step], constants, turned, q, ready, qsum, qs)
                scores(1, vectors, group, pq, psum, pqs, pk, pks, far.ctypes.data, 4 * KEY_BLOCK, pv, 0)
            large[:high] = False
            v_top = _largest_scale(scale_v, lo, hi, _largest_scale(scale_v, np.int64(0), few, ZERO))
            for g in range(queries):
                # Whole blocks are worked on: what is not seen scores so low that its weight is 0.
                u[g, start:lo] = _UNSEEN
                u[g, hi:stop] = _UNSEEN
                m = _UNSEEN
                if few:
                    u[g, :few] = far[g, :few]
                    if start:
                        u[g, few:KEY_BLOCK] = _UNSEEN
                    m = largest(pu + 4 * most * g, 1)
                m = max(m, largest(pu + 4 * (most * g + start), high - low))
                total = _exponentials(u[g, start:stop], m, a[start:stop])
                if apart:
                    total = i32(total + _exponentials(u[g, :KEY_BLOCK], m, a[:KEY_BLOCK]))
                r = _WEIGHT_SUM / (f32(total) * v_top)
                to = pw + 2 * most * g
                if apart:
                    weigh(pa, pvs, 1, r, to, most, plarge)
                weigh(pa + 4 * start, pvs + 4 * start, high - low, r, to + parts() * start, most, plarge + low)
            if apart:
                mixed[0] = 0
            n = 1 if apart else 0
            for b in range(low, high):
                mixed[n] = b
                n += 1
            _mix(vectors, group, pw, most, pv, mixed[:n], large, sums, v_top / _WEIGHT_SUM, out[line, at:end], pk_next, lines)
