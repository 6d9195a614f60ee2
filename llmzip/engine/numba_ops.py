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
from llmzip.engine.cache import KVCache
from llmzip.engine.simd import make_dot
from llmzip.models.config import LlamaConfig
from llmzip.models.rotate import block_size

numba_config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

_NO_NAN = {"nnan", "nsz"}
_jit = nb.njit(cache=True, nogil=True, fastmath=_NO_NAN)
_parallel = nb.njit(cache=True, nogil=True, parallel=True, fastmath=_NO_NAN)

f32, i32, i16, i8 = np.float32, np.int32, np.int16, np.int8
_ZERO, _ONE = f32(0.0), f32(1.0)
_TINY, _ACT_MAX, _WEIGHT_SUM = f32(nm.TINY), f32(nm.ACT_MAX), f32(nm.WEIGHT_SUM)
_FLOOR, _LINE = f32(nm.ATTEND_FLOOR), f32(2.0**nm.MANTISSA)
_ATTEND_BIAS = i32((127 + nm.ATTEND_BITS) << nm.MANTISSA)
_CLAMP, _NEG_LOG2E = f32(nm.EXP_CLAMP), f32(-nm.LOG2_E)
_C1, _C2, _C3 = f32(nm.EXP_C1), f32(nm.EXP_C2), f32(nm.EXP_C3)
_MANTISSA, _MAGIC = i32(nm.MANTISSA), i32(nm.RSQRT_MAGIC)
_HALF, _THREE_HALVES = f32(0.5), f32(1.5)
_STRIP = 64  # values of one dot product over keys


_dot_strip = make_dot(_STRIP)


@_jit
def _quantise(x, q):
    """Rounds float32 x [d] to integers q [d] in [-127, 127]; returns (row maximum, 127 / maximum)."""
    m = _TINY
    for j in range(x.shape[0]):
        m = max(m, abs(x[j]))
    r = _ACT_MAX / m
    for j in range(x.shape[0]):
        q[j] = i8(i32(np.rint(x[j] * r)))
    return m, r


@_jit
def _reciprocal_sqrt(v):
    """1 / sqrt(v), as in `reference`."""
    bits = np.empty(1, f32)
    bits[0] = v
    as_int = bits.view(i32)
    as_int[0] = _MAGIC - (as_int[0] >> 1)
    y = bits[0]
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
    m = _TINY
    for j in range(x.shape[0]):
        m = max(m, abs(x[j]))
    r = top / m
    for j in range(x.shape[0]):
        q[j] = i32(np.rint(x[j] * r))
    return (m * row) / top


@_jit
def _store(acc, col, row, cs, heads, k, ks, v, vs, slot):
    """Writes one token's keys and values into its lane's cache."""
    kv, d = k.shape[0], k.shape[2]
    y, z = np.empty(d, f32), np.empty(d, i32)
    first_k, first_v = heads * d, (heads + kv) * d
    for h in range(kv):
        at = first_k + h * d
        _rotated(acc[at : at + d], col[at : at + d], cs, y)
        ks[h, slot] = _quantise_head(y, row, _ACT_MAX, z)
        for j in range(d):
            k[h, slot, j] = z[j]
        at = first_v + h * d
        for j in range(d):
            y[j] = f32(acc[at + j]) * col[at + j]
        vs[h, slot] = _quantise_head(y, row, _ACT_MAX, z)
        for j in range(d):
            v[h, j, slot] = z[j]


@_parallel
def _store_kernel(acc, col, row, cs, heads, k, ks, v, vs, slot, parts):
    t = cs.shape[0]
    n = acc.shape[0]
    for part in nb.prange(parts):
        for i in range(part * n // parts, (part + 1) * n // parts):
            lane, step = i // t, i % t
            _store(acc[i], col, row[i], cs[step], heads, k[lane], ks[lane], v[lane], vs[lane], slot + step)


@_jit
def _weigh(u, lo, hi, sinks, scale, sink_scale, vs, w):
    """Scores u float32 (key scale included) to attention weights w int16; returns the output's scale.

    Keys seen are [0, sinks) and [lo, hi).
    """
    top, v_top = f32(-3e38), _ZERO
    for j in range(sinks):
        u[j] *= sink_scale
        top = max(top, u[j])
        v_top = max(v_top, vs[j])
    for j in range(lo, hi):
        s = u[j] * scale
        u[j] = s
        top = max(top, s)
    for j in range(lo, hi):
        v_top = max(v_top, vs[j])
    a = u.view(i32)
    total = i32(0)
    for j in range(sinks):
        a[j] = i32(max(u[j] - top, _FLOOR) * _LINE) + _ATTEND_BIAS
    for j in range(lo, hi):
        a[j] = i32(max(u[j] - top, _FLOOR) * _LINE) + _ATTEND_BIAS
    for j in range(sinks):
        a[j] = i32(u[j])
        total = i32(total + a[j])
    for j in range(lo, hi):
        a[j] = i32(u[j])
        total = i32(total + a[j])
    r = _WEIGHT_SUM / (f32(total) * v_top)
    for j in range(sinks):
        w[j] = i16(i32(np.rint((f32(a[j]) * vs[j]) * r)))
    for j in range(lo, hi):
        w[j] = i16(i32(np.rint((f32(a[j]) * vs[j]) * r)))
    return v_top / _WEIGHT_SUM


def _make_attend(head_dim: int) -> Any:
    dot_head = make_dot(head_dim)

    @_jit
    def attend_head(q, scale, pinned, pinned_scale, k, ks, v, vs, window, sinks, slot, u, w, out):
        """One query head of one token: q and pinned int16 [d] -> out float32 [d]. w is zero on entry and on return."""
        hi = slot + 1
        sinks = min(sinks, hi)
        lo = max(sinks, hi - window)
        d = q.shape[0]
        pq, pp, pk, pw, pv = q.ctypes.data, pinned.ctypes.data, k.ctypes.data, w.ctypes.data, v.ctypes.data
        for j in range(sinks):
            u[j] = f32(dot_head(pp, pk + j * d)) * ks[j]
        for j in range(lo, hi):
            u[j] = f32(dot_head(pq, pk + j * d)) * ks[j]
        o_scale = _weigh(u, lo, hi, sinks, scale, pinned_scale, vs, w)
        first = lo // _STRIP * _STRIP
        slots = v.shape[1]
        for j in range(d):
            s = i32(0)
            if first:
                s = _dot_strip(pw, pv + j * slots)
            for at in range(first, hi, _STRIP):
                s = i32(s + _dot_strip(pw + 2 * at, pv + j * slots + at))
            out[j] = f32(s) * o_scale
        w[:sinks] = 0
        w[lo:hi] = 0

    @_parallel
    def attend_kernel(acc, col, row, cs, pinned_cs, heads, top, score, k, ks, v, vs, window, sinks, slot, pin, out, parts):
        t = cs.shape[0]
        kv, slots = ks.shape[1], ks.shape[2]
        group = heads // kv
        lanes = acc.shape[0] // t
        n = lanes * heads
        for part in nb.prange(parts):
            u, w = np.empty(slots, f32), np.zeros(slots, i16)
            y, q, p = np.empty(head_dim, f32), np.empty(head_dim, i16), np.empty(head_dim, i16)
            for i in range(part * n // parts, (part + 1) * n // parts):
                lane, head = i // heads, i % heads
                h = head // group
                at = head * head_dim
                for step in range(t):
                    line = lane * t + step
                    _rotated(acc[line, at : at + head_dim], col[at : at + head_dim], cs[step], y)
                    scale = _quantise_head(y, row[line], top, q) * score
                    pinned_scale = scale
                    if pin:
                        _rotated(acc[line, at : at + head_dim], col[at : at + head_dim], pinned_cs[step], y)
                        pinned_scale = _quantise_head(y, row[line], top, p) * score
                    else:
                        p[:] = q
                    attend_head(
                        q, scale, p, pinned_scale, k[lane, h], ks[lane, h], v[lane, h], vs[lane, h],
                        window, sinks, slot + step, u, w, out[line, at : at + head_dim],
                    )  # fmt: skip

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
    """In-place butterflies on each run of `block` values of x float32 [d]."""
    for start in range(0, x.shape[0], block):
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
        power = np.empty(f, i32)
        powers = power.view(f32)
        for i in range(part * n // parts, (part + 1) * n // parts):
            for j in range(f):
                g = (f32(acc[i, j]) * col[j]) * row[i]
                t = min(max(g * _NEG_LOG2E, -_CLAMP), _CLAMP)
                whole = np.floor(t)
                fraction = t - whole
                p = fraction * _C3 + _C2
                p = p * fraction + _C1
                p = p * fraction + _ONE
                power[j] = (i32(whole) + i32(127)) << _MANTISSA
                h[j] = p
            for j in range(f):
                g = (f32(acc[i, j]) * col[j]) * row[i]
                up = (f32(acc[i, f + j]) * col[f + j]) * row[i]
                h[j] = (g / (h[j] * powers[j] + _ONE)) * up
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
        self._attend = _make_attend(config.head_dim)
        self._norm = f32(block_size(config.ffn) ** -0.5)
        nb.set_num_threads(min(threads, nb.config.NUMBA_NUM_THREADS))

    def add_norm_quantise(
        self, x: Tensor, acc: Tensor | None, col: Tensor | None, row: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor]:
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
        pin = cache.position + cs.shape[0] > cache.window + cache.sinks
        self._attend(
            a, co, r, rot, pinned.numpy(), c.heads, f32(nm.query_max(c.head_dim)), f32(nm.score_scale(c.head_dim)),
            k, ks, v, vs, cache.window, cache.sinks, slot, pin, out, self.threads,
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
