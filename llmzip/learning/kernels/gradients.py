"""Gradients through the operations between products, a row at a time, compiled by numba: see `reference`."""

from __future__ import annotations

from llmzip.engine import numerics as nm
from llmzip.engine.kernels.heads import BY_ALL
from llmzip.engine.kernels.rows import (
    ACT_MAX,
    ONE,
    SILU,
    ZERO,
    counts_nothing,
    exponent,
    exponential,
    f32,
    hadamard,
    i32,
    magnitude,
    norm_factor,
    quantise_row,
)
from llmzip.entropy.kernels.exponential import bits_from_float
from llmzip.learning import numerics as ln

_COLUMNS = ln.COLUMNS
_LARGEST_BITS, _MAGNITUDE = i32(f32(ln.LARGEST_GRADIENT).view(i32)), i32(0x7FFFFFFF)
_NEG_LN2 = f32(-ln.LN_2)
_CUBIC3, _LINEAR = f32(3 * nm.GELU_CUBIC), f32(nm.GELU_LINEAR)


@counts_nothing
def limited(x):
    """`reference._limited` of a float32. By its bits: the compiler takes it that no float is NaN, and may turn comparisons of floats around."""
    return x if bits_from_float(x) & _MAGNITUDE <= _LARGEST_BITS else ZERO


@counts_nothing
def sum_of_columns(total):
    """The sum of float32 [COLUMNS] in halves; overwrites it."""
    half = _COLUMNS // 2
    while half:
        for j in range(half):
            total[j] += total[j + half]
        half //= 2
    return total[0]


@counts_nothing
def ordered_dot(a, b, total):
    """`ordered_sum` of the products of a and b, float32 [d]; total float32 [COLUMNS] is overwritten."""
    d = a.shape[0]
    for j in range(_COLUMNS):
        total[j] = ZERO
    for start in range(0, d - _COLUMNS + 1, _COLUMNS):
        x, y = a[start : start + _COLUMNS], b[start : start + _COLUMNS]
        for j in range(_COLUMNS):
            total[j] += x[j] * y[j]
    for j in range(d // _COLUMNS * _COLUMNS, d):
        total[j % _COLUMNS] += a[j] * b[j]
    return sum_of_columns(total)


@counts_nothing
def normed_back(d, y, factor, total):
    """`reference.normed_back` of one row, in place: d float32 [n]."""
    t = (ordered_dot(d, y, total) * (factor * factor)) / f32(d.shape[0])
    for j in range(d.shape[0]):
        d[j] = (d[j] - y[j] * t) * factor


@counts_nothing
def read_back(d, x, row, gain, constants, total):
    """Gradient of the stream x [width], in place of that of what was read of it. row: scale of the int8 row that was read."""
    if constants.stream_block:
        hadamard(d, constants.stream_block, constants.stream_factor)
        if not gain.shape[0]:
            return
        for j in range(d.shape[0]):
            d[j] *= gain[j]
        factor = norm_factor(x, ONE, constants.eps)
    else:
        factor = (ACT_MAX / magnitude(x)) * row
    normed_back(d, x, factor, total)


@counts_nothing
def given_back(dx, acc, col, bias, row, gain, eps, y, d, total):
    """Gradient d [width] of a product by its columns' scales, from that of the stream, dx. acc int32 [width], bias and gain may have size 0."""
    if not gain.shape[0]:
        for j in range(d.shape[0]):
            d[j] = dx[j] * row
        return
    inverse = ONE / row
    for j in range(d.shape[0]):
        y[j] = f32(acc[j]) * col[j]
    for j in range(bias.shape[0]):
        y[j] += bias[j] * inverse
    factor = norm_factor(y, inverse, eps)
    for j in range(d.shape[0]):
        d[j] = dx[j] * gain[j]
    normed_back(d, y, factor, total)


@counts_nothing
def quantise_limited(d, q):
    """Limits float32 d [n] in place, see `LARGEST_GRADIENT`, and rounds it to q int8 [n]; returns the scale of q."""
    for j in range(d.shape[0]):
        d[j] = limited(d[j])
    m, _ = quantise_row(d, q)
    return m / ACT_MAX


@counts_nothing
def scaled_row(d, col, e, q):
    """Quantises d * col, float32 [n], into q int8 [n]; returns its scale. e [n] is overwritten."""
    for j in range(d.shape[0]):
        e[j] = d[j] * col[j]
    return quantise_limited(e, q)


@counts_nothing
def gate_back(h, acc, col, row, bias, constants, d):
    """Gradient d float32 [2f], or [f], of gate and up from that of their product, h [f]."""
    f, gated, biased, silu = h.shape[0], constants.gated, bias.shape[0] > 0, constants.activation == SILU
    for j in range(f):
        g, up = (f32(acc[j]) * col[j]) * row, ONE
        if gated:
            up = (f32(acc[f + j]) * col[f + j]) * row
        if biased:
            g += bias[j]
            if gated:
                up += bias[f + j]
        s = ONE / (exponential(exponent(g, silu)) + ONE)
        slope = ONE
        if not silu:
            slope = ((g * g) * _CUBIC3 + _LINEAR) * _NEG_LN2
        d[j] = (h[j] * up) * (s * (ONE + (g * (ONE - s)) * slope))
        if gated:
            d[f + j] = h[j] * (g * s)


@counts_nothing
def turned_back(d, acc, col, bias, gain, row, cs, size, constants, y, total):
    """`reference._turned_back` of one row, in place: d float32 [n * size], acc int32 and the others of the same columns; cs float32 [2, size / 2]."""
    half, width = size // 2, d.shape[0]
    if constants.head_block:
        hadamard(d, constants.head_block, constants.head_factor)
    for at in range(0, width, size):
        a, b = d[at : at + half], d[at + half : at + size]
        for j in range(half):
            cos, sin, low, high = cs[0, j], cs[1, j], a[j], b[j]
            a[j] = low * cos + high * sin
            b[j] = high * cos - low * sin
    if not gain.shape[0]:
        return
    inverse = ONE / row
    for j in range(width):
        y[j] = f32(acc[j]) * col[j]
    for j in range(bias.shape[0]):
        y[j] += bias[j] * inverse
    for j in range(width):
        d[j] *= gain[j]
    together = width if constants.head_norm == BY_ALL else size
    for at in range(0, width, together):
        normed_back(d[at : at + together], y[at : at + together], norm_factor(y[at : at + together], inverse, constants.eps), total)
    for j in range(width):
        d[j] *= inverse


@counts_nothing
def add_limited(x, y):
    """x += y, float32 [n], limited."""
    for j in range(x.shape[0]):
        x[j] = limited(x[j] + y[j])


@counts_nothing
def unscale(acc, scale, inverse, d):
    """d = (float(acc) * scale) * inverse; acc int32 [n or more], d float32 [n]."""
    for j in range(d.shape[0]):
        d[j] = (f32(acc[j]) * scale) * inverse


@counts_nothing
def head_back(rows, scales, d):
    """Gradient d [width] of what the head reads. rows int8 [n + 1, width] and scales [n + 1] of n drawn tokens and, last, of the symbol that came."""
    n = rows.shape[0] - 1
    for j in range(d.shape[0]):
        d[j] = ZERO
    for k in range(n):
        row, scale = rows[k], scales[k]
        for j in range(d.shape[0]):
            d[j] += f32(row[j]) * scale
    came, scale, times = rows[n], scales[n], f32(n)
    for j in range(d.shape[0]):
        d[j] -= (f32(came[j]) * scale) * times


@counts_nothing
def zeros(x):
    """Fills float32 [n]."""
    for j in range(x.shape[0]):
        x[j] = ZERO
