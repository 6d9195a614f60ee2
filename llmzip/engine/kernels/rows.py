"""Kernels on rows, compiled by numba: norm, SwiGLU, quantisation, logits. Each equals `reference` bit for bit.

Float32 operations keep their order and are never contracted: `fastmath` only says that there are no NaNs and that the
sign of zero does not matter, which maxima need to be vectorised. Work is split over threads by rows, never inside a sum
of floats. What lets the compiler vectorise a loop: indices that cannot be negative (from 0, over slices), and division
as IEEE has it (numba's other error model looks for zeros).
"""

from __future__ import annotations

import numba as nb
import numpy as np

from llmzip.engine import numerics as nm
from llmzip.engine.kernels.simd import VECTOR, hadamard64, largest_magnitude
from llmzip.entropy.kernels.exponential import bits_from_float, float_from_bits
from llmzip.system.jit import compiled

jit = compiled(error_model="numpy", fastmath={"nnan", "nsz"})
parallel = compiled(error_model="numpy", parallel=True, fastmath={"nnan", "nsz"})

f32, i32, i16, i8 = np.float32, np.int32, np.int16, np.int8
ZERO, ONE, ACT_MAX = f32(0.0), f32(1.0), f32(nm.ACT_MAX)
LINE, MANTISSA = f32(2.0**nm.MANTISSA), i32(nm.MANTISSA)
_TINY, _MAGIC, _HALF, _THREE_HALVES = f32(nm.TINY), i32(nm.RSQRT_MAGIC), f32(0.5), f32(1.5)
_CLAMP, _NEG_LOG2E = f32(nm.EXP_CLAMP), f32(-nm.LOG2_E)
_C1, _C2, _C3 = f32(nm.EXP_C1), f32(nm.EXP_C2), f32(nm.EXP_C3)


@jit
def magnitude(x):
    """Row maximum of float32 x [d], at least TINY."""
    whole = x.shape[0] // VECTOR
    m = max(_TINY, largest_magnitude(x.ctypes.data, whole))
    for j in range(whole * VECTOR, x.shape[0]):
        m = max(m, abs(x[j]))
    return m


@jit
def _quantise(x, q):
    """Rounds float32 x [d] to integers q [d] in [-127, 127]; returns (row maximum, 127 / maximum)."""
    m = magnitude(x)
    r = ACT_MAX / m
    for j in range(x.shape[0]):
        q[j] = i8(i32(np.rint(x[j] * r)))
    return m, r


@jit
def _reciprocal_sqrt(v):
    """1 / sqrt(v), as in `reference`."""
    y = float_from_bits(i32(_MAGIC - (bits_from_float(v) >> 1)))
    half = v * _HALF
    for _ in range(nm.RSQRT_STEPS):
        y = y * (_THREE_HALVES - half * (y * y))
    return y


@jit
def norm_rows(x, acc, col, row, eps, q, scale, first, last):
    """`reference.add_norm_quantise` for rows [first, last); an empty acc adds nothing."""
    d = x.shape[1]
    for i in range(first, last):
        xi = x[i]
        if acc.shape[0]:
            for j in range(d):
                xi[j] += (f32(acc[i, j]) * col[j]) * row[i]
        _, r = _quantise(xi, q[i])
        squares = i32(0)
        for j in range(d):
            squares = i32(squares + i32(q[i, j]) * i32(q[i, j]))
        scale[i] = _reciprocal_sqrt(f32(squares) / f32(d) + (r * r) * eps)


@parallel
def norm_kernel(x, acc, col, row, eps, q, scale, parts):
    """`norm_rows` for all rows."""
    n = x.shape[0]
    for part in nb.prange(parts):
        norm_rows(x, acc, col, row, eps, q, scale, part * n // parts, (part + 1) * n // parts)


@jit
def quantise_rows(x, q, scale, first, last):
    """`reference.quantise_rows` for rows [first, last): x float32 [n, d] to q int8 [n, d] and scale float32 [n]."""
    for i in range(first, last):
        m, _ = _quantise(x[i], q[i])
        scale[i] = m / ACT_MAX


@parallel
def quantise_kernel(x, q, scale, parts):
    """`quantise_rows` for all rows."""
    n = x.shape[0]
    for part in nb.prange(parts):
        quantise_rows(x, q, scale, part * n // parts, (part + 1) * n // parts)


@jit
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


@jit
def swiglu_rows(acc, col, row, block, norm, q, scale, first, last):
    """`reference.swiglu_rotate_quantise` for rows [first, last); `norm` is what the rotation divides by, inverted."""
    f = q.shape[1]
    h = np.empty(f, f32)
    for i in range(first, last):
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
            p = p * fraction + ONE
            power = float_from_bits(i32(i32(i32(whole) + i32(127)) << MANTISSA))
            h[j] = (g / (p * power + ONE)) * up
        _hadamard(h, block, norm)
        m, _ = _quantise(h, q[i])
        scale[i] = m / ACT_MAX


@parallel
def swiglu_kernel(acc, col, row, block, norm, q, scale, parts):
    """`swiglu_rows` for all rows."""
    n = q.shape[0]
    for part in nb.prange(parts):
        swiglu_rows(acc, col, row, block, norm, q, scale, part * n // parts, (part + 1) * n // parts)


@parallel
def logits_kernel(acc, col, row, out, parts):
    """`reference.scale_logits`."""
    n = acc.shape[0]
    for part in nb.prange(parts):
        for i in range(part * n // parts, (part + 1) * n // parts):
            for j in range(acc.shape[1]):
                out[i, j] = (f32(acc[i, j]) * col[j]) * row[i]
