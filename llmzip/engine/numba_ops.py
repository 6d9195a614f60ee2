"""The engine's operations on CPU as fused kernels; every one equals `reference` bit for bit.

Float32 operations keep their order and are never contracted (`fastmath` allows only the reordering of maxima, which
needs to know that there are no NaNs). Work is split over threads by rows or heads, never inside a sum of floats.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numba import config as numba_config
from torch import Tensor, from_numpy

from llmzip.engine import numerics as nm
from llmzip.engine.cache import KEY_BLOCK, KVCache
from llmzip.engine.simd import (
    VECTOR,
    bits_from_float,
    float_from_bits,
    hadamard64,
    largest,
    largest_magnitude,
    mix,
    scores,
)
from llmzip.models.config import LlamaConfig
from llmzip.models.convert import VALUE_BASE
from llmzip.models.rotate import block_size

numba_config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

_NO_NAN = {"nnan", "nsz"}
_jit = nb.njit(cache=True, nogil=True, fastmath=_NO_NAN)
_parallel = nb.njit(cache=True, nogil=True, parallel=True, fastmath=_NO_NAN)

f32, i32, i16, i8 = np.float32, np.int32, np.int16, np.int8
_ZERO, _ONE, _VALUE_BASE = f32(0.0), f32(1.0), f32(VALUE_BASE)
_TINY, _ACT_MAX, _WEIGHT_SUM = f32(nm.TINY), f32(nm.ACT_MAX), f32(nm.WEIGHT_SUM)
_FLOOR, _LINE = f32(nm.ATTEND_FLOOR), f32(2.0**nm.MANTISSA)
_ATTEND_BIAS = i32((127 + nm.ATTEND_BITS) << nm.MANTISSA)
_CLAMP, _NEG_LOG2E = f32(nm.EXP_CLAMP), f32(-nm.LOG2_E)
_C1, _C2, _C3 = f32(nm.EXP_C1), f32(nm.EXP_C2), f32(nm.EXP_C3)
_MANTISSA, _MAGIC = i32(nm.MANTISSA), i32(nm.RSQRT_MAGIC)
_UNSEEN = f32(-3e38)
_HALF, _THREE_HALVES = f32(0.5), f32(1.5)


@_jit
def _magnitude(x):
    """Row maximum of float32 x [d], at least TINY."""
    whole = x.shape[0] // VECTOR
    m = max(_TINY, largest_magnitude(x.ctypes.data, whole))
    for j in range(whole * VECTOR, x.shape[0]):
        m = max(m, abs(x[j]))
    return m


@_jit
def _quantise(x, q):
    """Rounds float32 x [d] to integers q [d] in [-127, 127]; returns (row maximum, 127 / maximum)."""
    m = _magnitude(x)
    r = _ACT_MAX / m
    for j in range(x.shape[0]):
        q[j] = i8(i32(np.rint(x[j] * r)))
    return m, r


@_jit
def _reciprocal_sqrt(v):
    """1 / sqrt(v), as in `reference`."""
    y = float_from_bits(i32(_MAGIC - (bits_from_float(v) >> 1)))
    half = v * _HALF
    for _ in range(nm.RSQRT_STEPS):
        y = y * (_THREE_HALVES - half * (y * y))
    return y


@_parallel
def _norm_kernel(x, acc, col, row, eps, q, scale, parts):
    n, d = x.shape
    for part in nb.prange(parts):
        for i in range(part * n // parts, (part + 1) * n // parts):
            xi = x[i]
            if acc.shape[0]:
                for j in range(d):
                    xi[j] += (f32(acc[i, j]) * col[j]) * row[i]
            _, r = _quantise(xi, q[i])
            squares = i32(0)
            for j in range(d):
                squares = i32(squares + i32(q[i, j]) * i32(q[i, j]))
            scale[i] = _reciprocal_sqrt(f32(squares) / f32(d) + (r * r) * eps)


@_jit
def _rotated(acc, col, cs, out):
    """One head, scaled and rotated: acc int32 [d], cs float32 [2, d/2] -> out float32 [d]."""
    half = acc.shape[0] // 2
    for j in range(half):
        a = f32(acc[j]) * col[j]
        b = f32(acc[half + j]) * col[half + j]
        out[j] = a * cs[0, j] - b * cs[1, j]
        out[half + j] = b * cs[0, j] + a * cs[1, j]


@_jit
def _quantise_head(x, row, top, q):
    """Rounds x float32 [d] to q [d] in [-top, top]; returns the scale."""
    m = _magnitude(x)
    r = top / m
    for j in range(x.shape[0]):
        q[j] = i32(np.rint(x[j] * r))
    return (m * row) / top


@_jit
def _store(acc, col, row, cs, heads, k, ks, v, vs, slot):
    """Writes one token's keys and values into its lane's cache."""
    kv, d = k.shape[0], v.shape[2]
    y, z = np.empty(d, f32), np.empty(d, i32)
    first_k, first_v = heads * d, (heads + kv) * d
    for h in range(kv):
        at = first_k + h * d
        _rotated(acc[at : at + d], col[at : at + d], cs, y)
        ks[h, slot] = _quantise_head(y, row, _ACT_MAX, z)
        for j in range(d):
            k[h, slot // KEY_BLOCK, j // 2, slot % KEY_BLOCK, j % 2] = z[j]
        at = first_v + h * d
        for j in range(d):
            y[j] = (f32(acc[at + j]) * _VALUE_BASE + f32(acc[at + kv * d + j])) * col[at + j]
        vs[h, slot] = _quantise_head(y, row, _ACT_MAX, z)
        for j in range(d):
            v[h, slot // 2, j, slot % 2] = z[j]


@_parallel
def _store_kernel(acc, col, row, cs, heads, k, ks, v, vs, slot, parts):
    t = cs.shape[0]
    n = acc.shape[0]
    for part in nb.prange(parts):
        for i in range(part * n // parts, (part + 1) * n // parts):
            lane, step = i // t, i % t
            _store(acc[i], col, row[i], cs[step], heads, k[lane], ks[lane], v[lane], vs[lane], slot + step)


# Loops run from 0 over slices: only then does the compiler know that no index is negative, and vectorises.


@_jit
def _exponentials(u, top, a):
    """Unnormalised integer weights a of scores u float32 [n]; their sum."""
    total = i32(0)
    for j in range(u.shape[0]):
        e = i32(float_from_bits(i32(i32(max(u[j] - top, _FLOOR) * _LINE) + _ATTEND_BIAS)))
        a[j] = e
        total = i32(total + e)
    return total


@_jit
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


@_jit
def _normalised(a, vs, r, w):
    """Attention weights w as int16 from unnormalised ones, all [n]."""
    for j in range(a.shape[0]):
        w[j] = i16(i32(np.rint((f32(a[j]) * vs[j]) * r)))


@_jit
def _sum_into(sums, out, scale, first):
    """Adds a mix of values to out (or starts it) and applies the scale at the end; both parts are integers < 2^24."""
    for g in range(sums.shape[0]):
        d = sums.shape[1]
        for j in range(d):
            s = f32(sums[g, j])
            if not first:
                s += out[g * d + j]
            out[g * d + j] = s * scale


@_jit
def _rotate_group(acc, col, row, cs, top, score, y, q, scales):
    """Quantised queries of one token's group: acc int32 [group*d] -> q int16 [group, d], scales [group]."""
    group, d = q.shape
    for g in range(group):
        at = g * d
        _rotated(acc[at : at + d], col[at : at + d], cs, y)
        scales[g] = _quantise_head(y, row, top, q[g]) * score


def _make_attend(head_dim: int, group: int) -> Any:
    """The attention kernel for these sizes. It closes over nothing but integers, so that numba can cache it."""

    @_parallel
    def attend_kernel(acc, col, row, cs, pinned_cs, heads, top, score, k, ks, v, vs, window, sinks, slot, out, parts):
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
                v_top = _largest_scale(scale_v, lo, hi, _largest_scale(scale_v, 0, few, _ZERO))
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
                    _sum_into(sums, o, _ONE, True)
                mix(head_dim, group, pw + 2 * start, 2 * slots, pv + start * head_dim, (stop - start) // 2, sums.ctypes.data)
                _sum_into(sums, o, o_scale, not (few and start))

    return attend_kernel


@_parallel
def _quantise_kernel(x, q, scale, parts):
    n = x.shape[0]
    for part in nb.prange(parts):
        for i in range(part * n // parts, (part + 1) * n // parts):
            m, _ = _quantise(x[i], q[i])
            scale[i] = m / _ACT_MAX


@_jit
def _hadamard(x, block, norm):
    """Walsh-Hadamard transform of each run of `block` values of x [d], in place."""
    for start in range(0, x.shape[0], block):
        if block == 64:
            hadamard64(x[start:].ctypes.data)
            continue
        stride = 1
        while stride < block:
            for base in range(start, start + block, 2 * stride):
                for j in range(base, base + stride):
                    a, b = x[j], x[j + stride]
                    x[j] = a + b
                    x[j + stride] = a - b
            stride *= 2
    for j in range(x.shape[0]):
        x[j] *= norm


@_parallel
def _swiglu_kernel(acc, col, row, block, norm, q, scale, parts):
    n, f = q.shape
    for part in nb.prange(parts):
        h = np.empty(f, f32)
        for i in range(part * n // parts, (part + 1) * n // parts):
            r = row[i]
            for j in range(f):
                g = (f32(acc[i, j]) * col[j]) * r
                up = (f32(acc[i, f + j]) * col[f + j]) * r
                t = g * _NEG_LOG2E
                if t < -_CLAMP:
                    t = -_CLAMP
                if t > _CLAMP:
                    t = _CLAMP
                whole = np.floor(t)
                fraction = t - whole
                p = fraction * _C3 + _C2
                p = p * fraction + _C1
                p = p * fraction + _ONE
                power = float_from_bits(i32(i32(i32(whole) + i32(127)) << _MANTISSA))
                h[j] = (g / (p * power + _ONE)) * up
            _hadamard(h, block, norm)
            m, _ = _quantise(h, q[i])
            scale[i] = m / _ACT_MAX


@_parallel
def _logits_kernel(acc, col, row, out, parts):
    n = acc.shape[0]
    for part in nb.prange(parts):
        for i in range(part * n // parts, (part + 1) * n // parts):
            for j in range(acc.shape[1]):
                out[i, j] = (f32(acc[i, j]) * col[j]) * row[i]


_NO_ACC = np.zeros((0, 0), i32)
_NO_COL = np.zeros(0, f32)


class NumbaOps:
    """The operations between products on CPU. Results are the same for any number of threads."""

    name = "numba"

    def __init__(self, config: LlamaConfig, threads: int) -> None:
        self.config, self.threads = config, threads
        self._attend = _make_attend(config.head_dim, config.heads // config.kv_heads)
        self._norm = f32(block_size(config.ffn) ** -0.5)
        nb.set_num_threads(min(threads, nb.config.NUMBA_NUM_THREADS))

    def add_norm_quantise(self, x: Tensor, acc: Tensor | None, col: Tensor | None, row: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
        """See `reference.add_norm_quantise`."""
        q, scale = np.empty(x.shape, i8), np.empty(x.shape[0], f32)
        if acc is None or col is None or row is None:
            _norm_kernel(x.numpy(), _NO_ACC, _NO_COL, _NO_COL, f32(eps), q, scale, self.threads)
        else:
            _norm_kernel(x.numpy(), acc.numpy(), col.numpy(), row.numpy(), f32(eps), q, scale, self.threads)
        return from_numpy(q), from_numpy(scale)

    def attend(
        self, acc: Tensor, col: Tensor, row: Tensor, cs: Tensor, pinned: Tensor, cache: KVCache, layer: int, slot: int
    ) -> tuple[Tensor, Tensor]:
        """See `torch_ops.TorchOps.attend`."""
        c = self.config
        out = np.empty((acc.shape[0], c.query_width), f32)
        a, co, r, rot = acc.numpy(), col.numpy(), row.numpy(), cs.numpy()
        k, ks, v, vs = (x[layer].numpy() for x in (cache.k, cache.ks, cache.v, cache.vs))
        _store_kernel(a, co, r, rot, c.heads, k, ks, v, vs, slot, self.threads)
        self._attend(
            a, co, r, rot, pinned.numpy(), c.heads, f32(nm.query_max(c.head_dim)), f32(nm.score_scale(c.head_dim)),
            k, ks, v, vs, cache.window, cache.sinks, slot, out, self.threads,
        )  # fmt: skip
        q, scale = np.empty(out.shape, i8), np.empty(out.shape[0], f32)
        _quantise_kernel(out, q, scale, self.threads)
        return from_numpy(q), from_numpy(scale)

    def swiglu_rotate_quantise(self, acc: Tensor, col: Tensor, row: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """See `reference.swiglu_rotate_quantise`."""
        n = acc.shape[0]
        q, scale = np.empty((n, self.config.ffn), i8), np.empty(n, f32)
        _swiglu_kernel(acc.numpy(), col.numpy(), row.numpy(), block, self._norm, q, scale, self.threads)
        return from_numpy(q), from_numpy(scale)

    def scale_logits(self, acc: Tensor, col: Tensor, row: Tensor) -> Tensor:
        """See `reference.scale_logits`."""
        out = np.empty(acc.shape, f32)
        _logits_kernel(acc.numpy(), col.numpy(), row.numpy(), out, self.threads)
        return from_numpy(out)
