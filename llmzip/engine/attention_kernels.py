"""Attention kernels, compiled by numba: rotation, cache, integer softmax. Each equals `reference` bit for bit.

The rules are those of `kernels`. Work is split over threads by lane, head and token.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba as nb
import numpy as np

from llmzip.engine import numerics as nm
from llmzip.engine.cache import KEY_BLOCK
from llmzip.engine.kernels import ACT_MAX, LINE, ONE, ZERO, f32, i16, i32, jit, magnitude, parallel
from llmzip.engine.simd import VECTOR, float_from_bits, largest, mix, scores
from llmzip.models.convert import VALUE_BASE

_VALUE_BASE, _WEIGHT_SUM = f32(VALUE_BASE), f32(nm.WEIGHT_SUM)
_FLOOR, _BIAS = f32(nm.ATTEND_FLOOR), i32((127 + nm.ATTEND_BITS) << nm.MANTISSA)
_UNSEEN = f32(-3e38)


@jit
def _rotated(acc, col, cs, out):
    """One head, scaled and rotated: acc int32 [d], cs float32 [2, d/2] -> out float32 [d]."""
    half = acc.shape[0] // 2
    for j in range(half):
        a = f32(acc[j]) * col[j]
        b = f32(acc[half + j]) * col[half + j]
        out[j] = a * cs[0, j] - b * cs[1, j]
        out[half + j] = b * cs[0, j] + a * cs[1, j]


@jit
def _quantise_head(x, row, top, q):
    """Rounds x float32 [d] to q [d] in [-top, top]; returns the scale."""
    m = magnitude(x)
    r = top / m
    for j in range(x.shape[0]):
        q[j] = i32(np.rint(x[j] * r))
    return (m * row) / top


@jit
def _store(acc, col, row, cs, heads, k, ks, v, vs, slot):
    """Writes one token's keys and values into its lane's cache."""
    kv, d = k.shape[0], v.shape[2]
    y, z = np.empty(d, f32), np.empty(d, i32)
    first_k, first_v = heads * d, (heads + kv) * d
    for h in range(kv):
        at = first_k + h * d
        _rotated(acc[at : at + d], col[at : at + d], cs, y)
        ks[h, slot] = _quantise_head(y, row, ACT_MAX, z)
        for j in range(d):
            k[h, slot // KEY_BLOCK, j // 2, slot % KEY_BLOCK, j % 2] = z[j]
        at = first_v + h * d
        for j in range(d):
            y[j] = (f32(acc[at + j]) * _VALUE_BASE + f32(acc[at + kv * d + j])) * col[at + j]
        vs[h, slot] = _quantise_head(y, row, ACT_MAX, z)
        for j in range(d):
            v[h, slot // 2, j, slot % 2] = z[j]


@parallel
def store_kernel(acc, col, row, cs, heads, k, ks, v, vs, slot, parts):
    """Writes new keys and values of all lanes, acc int32 [lanes*t, q+3kv], into the cache from `slot` on."""
    t = cs.shape[0]
    n = acc.shape[0]
    for part in nb.prange(parts):
        for i in range(part * n // parts, (part + 1) * n // parts):
            lane, step = i // t, i % t
            _store(acc[i], col, row[i], cs[step], heads, k[lane], ks[lane], v[lane], vs[lane], slot + step)


@jit
def _exponentials(u, top, a):
    """Unnormalised integer weights a of scores u float32 [n]; their sum."""
    total = i32(0)
    for j in range(u.shape[0]):
        e = i32(float_from_bits(i32(i32(max(u[j] - top, _FLOOR) * LINE) + _BIAS)))
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


@jit
def _normalised(a, vs, r, w):
    """Attention weights w as int16 from unnormalised ones, all [n]."""
    for j in range(a.shape[0]):
        w[j] = i16(i32(np.rint((f32(a[j]) * vs[j]) * r)))


@jit
def _sum_into(sums, out, scale, first):
    """Adds a mix of values to out (or starts it) and applies the scale at the end; both parts are integers < 2^24."""
    for g in range(sums.shape[0]):
        d = sums.shape[1]
        for j in range(d):
            s = f32(sums[g, j])
            if not first:
                s += out[g * d + j]
            out[g * d + j] = s * scale


@jit
def _rotate_group(acc, col, row, cs, top, score, y, q, scales):
    """Quantised queries of one token's group: acc int32 [group*d] -> q int16 [group, d], scales [group]."""
    group, d = q.shape
    for g in range(group):
        at = g * d
        _rotated(acc[at : at + d], col[at : at + d], cs, y)
        scales[g] = _quantise_head(y, row, top, q[g]) * score


@cache
def attend_kernel(head_dim: int, group: int) -> Any:
    """The attention kernel for these sizes. It closes over nothing but integers, so that numba can cache it."""

    @parallel
    def kernel(acc, col, row, cs, pinned_cs, heads, top, score, k, ks, v, vs, window, sinks, slot, out, parts):
        t = cs.shape[0]
        kv, slots = ks.shape[1], ks.shape[2]
        lanes = acc.shape[0] // t
        n = lanes * kv
        k_block = KEY_BLOCK * head_dim
        for part in nb.prange(parts):
            u, a, w = np.empty((group, slots), f32), np.empty(slots, i32), np.empty((group, slots), i16)
            y, q, qs = np.empty(head_dim, f32), np.empty((group, head_dim), i16), np.empty(group, f32)
            sums, far = np.empty((group, head_dim), i32), np.empty((group, KEY_BLOCK), f32)
            pu, pw = u.ctypes.data, w.ctypes.data
            for i in range(part * n * t // parts, (part + 1) * n * t // parts):
                lane, h, step = i // (kv * t), i // t % kv, i % t
                line = lane * t + step
                at = h * group * head_dim
                end = at + group * head_dim
                pk, pks, scale_v = k[lane, h].ctypes.data, ks[lane, h].ctypes.data, vs[lane, h]
                hi = slot + step + 1
                few = min(sinks, hi)
                lo = max(few, hi - window)
                first, last = lo // KEY_BLOCK, (hi + KEY_BLOCK - 1) // KEY_BLOCK
                start, stop = first * KEY_BLOCK, last * KEY_BLOCK
                _rotate_group(acc[line, at:end], col[at:end], row[line], cs[step], top, score, y, q, qs)
                for b in range(first, last):
                    scores(
                        head_dim,
                        group,
                        q.ctypes.data,
                        qs.ctypes.data,
                        pk + b * k_block,
                        pks + 4 * KEY_BLOCK * b,
                        pu + 4 * KEY_BLOCK * b,
                        4 * slots,
                    )
                if few:
                    _rotate_group(acc[line, at:end], col[at:end], row[line], pinned_cs[step], top, score, y, q, qs)
                    scores(head_dim, group, q.ctypes.data, qs.ctypes.data, pk, pks, far.ctypes.data, 4 * KEY_BLOCK)
                v_top = _largest_scale(scale_v, lo, hi, _largest_scale(scale_v, 0, few, ZERO))
                for g in range(group):
                    # Whole blocks are worked on: what is not seen scores so low that its weight is 0.
                    u[g, start:lo] = _UNSEEN
                    u[g, hi:stop] = _UNSEEN
                    m = _UNSEEN
                    if few:
                        u[g, :few] = far[g, :few]
                        if start:
                            u[g, few:KEY_BLOCK] = _UNSEEN
                        m = largest(pu + 4 * slots * g, 1)
                    m = max(m, largest(pu + 4 * (slots * g + start), last - first))
                    total = _exponentials(u[g, start:stop], m, a[start:stop])
                    if few and start:
                        total = i32(total + _exponentials(u[g, :KEY_BLOCK], m, a[:KEY_BLOCK]))
                    r = _WEIGHT_SUM / (f32(total) * v_top)
                    _normalised(a[start:stop], scale_v[start:stop], r, w[g, start:stop])
                    if few and start:
                        _normalised(a[:KEY_BLOCK], scale_v[:KEY_BLOCK], r, w[g, :KEY_BLOCK])
                pv, o, o_scale = v[lane, h].ctypes.data, out[line, at:end], v_top / _WEIGHT_SUM
                if few and start:
                    mix(head_dim, group, pw, 2 * slots, pv, KEY_BLOCK // 2, sums.ctypes.data)
                    _sum_into(sums, o, ONE, True)
                mix(head_dim, group, pw + 2 * start, 2 * slots, pv + start * head_dim, (stop - start) // 2, sums.ctypes.data)
                _sum_into(sums, o, o_scale, not (few and start))

    return kernel
