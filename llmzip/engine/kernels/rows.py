"""Kernels on rows, compiled by numba: norm, SwiGLU, quantisation. Each equals `reference` bit for bit.

Float32 operations keep their order and are never contracted: `fastmath` only says that there are no NaNs and that the
sign of zero does not matter, which maxima need to be vectorised. Work is split over threads by rows, never inside a sum
of floats. What lets the compiler vectorise a loop: indices that cannot be negative (from 0, over slices), and division
as IEEE has it (numba's other error model looks for zeros).
"""

from __future__ import annotations

import numpy as np

from llmzip.engine import numerics as nm
from llmzip.engine.kernels.simd import VECTOR, hadamard64, largest_magnitude
from llmzip.entropy.kernels.exponential import bits_from_float, float_from_bits
from llmzip.models.config import ACTIVATIONS
from llmzip.system.jit import compiled

# Loops fill arrays here: for `a[:] = b`, numba compiles the text of an error as well, which takes seconds.
# For an argument that is a literal, like 0 or False, a function is compiled once more; np.int64(0) is no literal.
jit = compiled(error_model="numpy", fastmath={"nnan", "nsz"})
# For what makes no arrays: its callers own all of them, so no references to them are counted. Counting took an eighth of attention's time.
counts_nothing = compiled(error_model="numpy", fastmath={"nnan", "nsz"}, _nrt=False)
# Part of its callers: no code of its own to compile, and no references to count.
glue = compiled(error_model="numpy", inline="always", fastmath={"nnan", "nsz"})
# Called by its address alone: no code that takes arguments from Python, which would be long for many arrays.
by_address = compiled(error_model="numpy", no_cpython_wrapper=True, fastmath={"nnan", "nsz"})
parallel = compiled(error_model="numpy", parallel=True, fastmath={"nnan", "nsz"})

f32, i32, i16, i8 = np.float32, np.int32, np.int16, np.int8
ZERO, ONE, ACT_MAX = f32(0.0), f32(1.0), f32(nm.ACT_MAX)
LINE, MANTISSA = f32(2.0**nm.MANTISSA), i32(nm.MANTISSA)
TINY, _MAGIC, _HALF, _THREE_HALVES = f32(nm.TINY), i32(nm.RSQRT_MAGIC), f32(0.5), f32(1.5)
_CLAMP, _NEG_LOG2E = f32(nm.EXP_CLAMP), f32(-nm.LOG2_E)
_CUBIC, _LINEAR = f32(nm.GELU_CUBIC), f32(nm.GELU_LINEAR)
NORM_MAX, _MOST_EPS_ROOT = f32(nm.NORM_MAX), f32(nm.MOST_EPS_ROOT)
_CACHE_LINE = 64  # bytes
_SUMMED = 1024  # squares of NORM_MAX that fit an int32
SILU = ACTIVATIONS.index("silu")
_C1, _C2, _C3 = f32(nm.EXP_C1), f32(nm.EXP_C2), f32(nm.EXP_C3)


@jit
def _room(n):
    """n bytes that begin at a cache line: vectors that lie across two lines are slower to load, and whole tiles twice as slow."""
    room = np.empty(n + _CACHE_LINE, i8)
    first = -room.ctypes.data % _CACHE_LINE
    return room[first : first + n]


@glue
def room_f32(n, m):
    """float32 [n, m], which begins at a cache line."""
    return _room(4 * n * m).view(f32).reshape((n, m))


@glue
def room_i32(n, m):
    """int32 [n, m], which begins at a cache line."""
    return _room(4 * n * m).view(i32).reshape((n, m))


@glue
def room_i8(n, m):
    """int8 [n, m], which begins at a cache line."""
    return _room(n * m).reshape((n, m))


@counts_nothing
def magnitude(x):
    """Row maximum of float32 x [d], at least TINY."""
    whole = x.shape[0] // VECTOR
    m = max(TINY, largest_magnitude(x.ctypes.data, whole))
    for j in range(whole * VECTOR, x.shape[0]):
        m = max(m, abs(x[j]))
    return m


@counts_nothing
def quantise_row(x, q):
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


@counts_nothing
def hadamard(x, block, norm):
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


@counts_nothing
def norm_factor(y, inverse, eps):
    """`reference.norm_factor` of one row y float32 [d]; `inverse`: of the scale that is still to be applied to it."""
    d = y.shape[0]
    r = NORM_MAX / magnitude(y)
    total = np.int64(0)
    for start in range(0, d, _SUMMED):
        part = y[start : min(start + _SUMMED, d)]
        some = i32(0)
        for j in range(part.shape[0]):
            v = i32(np.rint(part[j] * r))
            some = i32(some + v * v)
        total += some
    root = min(r * inverse, _MOST_EPS_ROOT)
    return r * _reciprocal_sqrt(f32(total) / f32(d) + (root * root) * eps)


@counts_nothing
def _add(x, acc, col, row, gain, bias, eps, y):
    """`reference.add` for one row; y [d] is overwritten."""
    d = x.shape[0]
    if not gain.shape[0] and not bias.shape[0]:
        for j in range(d):
            x[j] += (f32(acc[j]) * col[j]) * row
        return
    inverse = ONE / row
    for j in range(d):
        y[j] = f32(acc[j]) * col[j]
    for j in range(bias.shape[0]):
        y[j] += bias[j] * inverse
    if not gain.shape[0]:
        for j in range(d):
            x[j] += y[j] * row
        return
    factor = norm_factor(y, inverse, eps)
    for j in range(d):
        x[j] += (y[j] * gain[j]) * factor


@jit
def norm_rows(x, added, gain, late, constants, q, scale, first, last):
    """`Operations.add_norm_quantise` for rows [first, last). added: `Added`; gain [d], of size 0 if there is none; late as there; constants: `Constants`."""
    _norm_rows(x, added, gain, late, constants, q, scale, first, last, np.empty(x.shape[1], f32))


@counts_nothing
def _norm_rows(x, added, gain, late, constants, q, scale, first, last, y):
    eps = constants.eps
    acc, col, row, out_gain, bias = added.acc, added.col, added.row, added.gain, added.bias
    for i in range(first, last):
        xi = x[i]
        if acc.shape[0] and not late:
            _add(xi, acc[i], col, row[i], out_gain, bias, eps, y)
        scale[i] = _read(xi, gain, constants, y, q[i])
        if acc.shape[0] and late:
            _add(xi, acc[i], col, row[i], out_gain, bias, eps, y)


@counts_nothing
def _read(x, gain, constants, y, q):
    """What a product reads of a row x of the stream, into q int8 [d]; returns its scale. y [d] is overwritten."""
    if not constants.stream_block:
        _, r = quantise_row(x, q)
        return _reciprocal_sqrt(_squares(q) / f32(x.shape[0]) + (r * r) * constants.eps)
    _prepare(x, gain, constants, y)
    m, _ = quantise_row(y, q)
    if gain.shape[0]:
        m *= norm_factor(x, ONE, constants.eps)
    return m / ACT_MAX


@counts_nothing
def _prepare(x, gain, constants, y):
    """A row of the stream as it is quantised, into y [d]: with its gain, and rotated."""
    if gain.shape[0]:
        for j in range(x.shape[0]):
            y[j] = x[j] * gain[j]
    else:
        for j in range(x.shape[0]):
            y[j] = x[j]
    hadamard(y, constants.stream_block, constants.stream_factor)


@jit
def _squares(q):
    """Sum of squares of int8 q [d], as float32."""
    squares = i32(0)
    for j in range(q.shape[0]):
        squares = i32(squares + i32(q[j]) * i32(q[j]))
    return f32(squares)


@counts_nothing
def unit_rows(q, unit):
    """`reference.unit_scale` of q int8 [n, d] into unit float32 [n]."""
    for i in range(q.shape[0]):
        unit[i] = _reciprocal_sqrt(max(_squares(q[i]), ONE) / f32(q.shape[1]))


@counts_nothing
def quantise_rows(x, q, scale, first, last):
    """`reference.quantise_rows` for rows [first, last): x float32 [n, d] to q int8 [n, d] and scale float32 [n]."""
    for i in range(first, last):
        m, _ = quantise_row(x[i], q[i])
        scale[i] = m / ACT_MAX


@jit
def exponential(t):
    """`reference.exponential` of one number."""
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
    return p * power


@jit
def _gated(g, up, t):
    """g / (1 + 2^t), times up."""
    return (g / (exponential(t) + ONE)) * up


@jit
def exponent(g, silu):
    """`reference.exponent` of one number."""
    if silu:
        return g * _NEG_LOG2E
    return g * ((g * g) * _CUBIC + _LINEAR)


@jit
def activate_rows(acc, col, row, bias, constants, q, scale, first, last):
    """`reference.activate_rotate_quantise` for rows [first, last). bias has size 0 if there is none."""
    _activate_rows(acc, col, row, bias, constants, q, scale, first, last, np.empty(q.shape[1], f32))


@counts_nothing
def _activate_rows(acc, col, row, bias, constants, q, scale, first, last, h):
    f = q.shape[1]
    gated, biased, silu = constants.gated, bias.shape[0] > 0, constants.activation == SILU
    for i in range(first, last):
        a, r = acc[i], row[i]
        for j in range(f):
            g, up = (f32(a[j]) * col[j]) * r, ONE
            if gated:
                up = (f32(a[f + j]) * col[f + j]) * r
            if biased:
                g += bias[j]
                if gated:
                    up += bias[f + j]
            h[j] = _gated(g, up, exponent(g, silu))
        hadamard(h, constants.block, constants.factor)
        m, _ = quantise_row(h, q[i])
        scale[i] = m / ACT_MAX
