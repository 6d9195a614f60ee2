"""The exact operations between matrix products, in plain torch: the definition every faster kernel must equal.

All of it is integer arithmetic, single float32 element-wise operations, maxima and gathers, so any device computes the
same values. Scalars never divide or are divided (torch may turn that into a product with the reciprocal); sums are of
integers only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmzip.engine import numerics as nm
from llmzip.models.convert import VALUE_BASE

_ROW = -1


def _quantise(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Integers in [-ACT_MAX, ACT_MAX] (as float32), their row maxima m [..., 1] and the factor ACT_MAX / m."""
    m = x.abs().amax(_ROW, keepdim=True).clamp_min(nm.TINY)
    r = torch.full_like(m, nm.ACT_MAX) / m
    return torch.round(x * r), m, r


def _over(m: Tensor, divisor: int) -> Tensor:
    return m / torch.full_like(m, divisor)


def add_norm_quantise(x: Tensor, acc: Tensor | None, col: Tensor | None, row: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Adds a layer's output to the residual stream x [n, d] in place, then RMS-normalises and quantises it.

    `acc` int32 [n, d], `col` float32 [d] and `row` float32 [n] are the product and its scales, or None. Returns int8
    [n, d] and scales float32 [n]. The norm needs no pass of its own: it cancels in the integers and appears in the
    scale, which follows from the integers' sum of squares.
    """
    if acc is not None and col is not None and row is not None:
        x += (acc.float() * col) * row[:, None]
    q, _, r = _quantise(x)
    q = q.to(torch.int8)
    squares = q.to(torch.int32).square().sum(_ROW, keepdim=True, dtype=torch.int64).float()
    variance = _over(squares, x.shape[_ROW]) + (r * r) * torch.full_like(r, eps)
    return q, _reciprocal_sqrt(variance).squeeze(_ROW)


def _reciprocal_sqrt(v: Tensor) -> Tensor:
    """1 / sqrt(v) of float32 v > 0, a fixed sequence of single operations."""
    y = (nm.RSQRT_MAGIC - (v.view(torch.int32) >> 1)).view(torch.float32)
    half, three_halves = v * nm_f32(0.5, v), nm_f32(1.5, v)
    for _ in range(nm.RSQRT_STEPS):
        y = y * (three_halves - half * (y * y))
    return y


def rotate_queries(acc: Tensor, col: Tensor, row: Tensor, cs: Tensor, heads: int, scale: float) -> tuple[Tensor, Tensor]:
    """Scales, rotates and quantises heads: acc int32 [n, heads*d], cs float32 [n, 2, d/2].

    Returns int8 [n, heads, d] and scales float32 [n, heads].
    """
    n = acc.shape[0]
    y = (acc.float() * col).view(n, heads, -1)
    a, b = y.chunk(2, dim=_ROW)
    cos, sin = cs[:, None, 0], cs[:, None, 1]
    y = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=_ROW)
    return _scaled(y, row, scale)


def value_heads(acc: Tensor, col: Tensor, row: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Joins high and low parts, scales and quantises heads: acc int32 [n, 2 * heads*d] -> as `rotate_queries`."""
    high, low = acc.chunk(2, dim=_ROW)
    y = (high.float() * float(VALUE_BASE) + low.float()) * col
    return _scaled(y.view(acc.shape[0], heads, -1), row, 1.0)


def _scaled(y: Tensor, row: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    q, m, _ = _quantise(y)
    s = _over(m.squeeze(_ROW) * row[:, None], nm.ACT_MAX) * torch.full((), scale, dtype=torch.float32, device=y.device)
    return q.to(torch.int8), s


def attend(q: Tensor, qs: Tensor, k: Tensor, ks: Tensor, v: Tensor, vs: Tensor, mask: Tensor) -> Tensor:
    """Integer softmax attention of one lane's queries that share a key head.

    q int8 [2, t, group, d] and qs [2, t, group]: queries for near keys and, pinned, for sinks. k int8 [keys, d], ks [keys],
    v int8 [keys, d], vs [keys]. mask int8 [t, keys]: 0 unseen, 1 near, 2 sink. Returns float32 [t, group * d].
    """
    _, t, group, d = q.shape
    mask = mask[:, None]  # [t, 1, keys]

    def scores(which: int) -> Tensor:  # exact: sums stay below 2^24
        return q[which].float() @ k.float().T

    sink = mask == 2
    u = torch.where(sink, scores(1) * ks, scores(0) * ks)
    u = (u * torch.where(sink, qs[1, :, :, None], qs[0, :, :, None])).masked_fill(mask == 0, -torch.inf)
    z = (u - u.amax(_ROW, keepdim=True)).clamp_min(nm.ATTEND_FLOOR)
    line = (z * 2.0**nm.MANTISSA).to(torch.int32) + ((127 + nm.ATTEND_BITS) << nm.MANTISSA)
    a = line.view(torch.float32).to(torch.int32).masked_fill(mask == 0, 0)
    total = a.sum(_ROW, keepdim=True, dtype=torch.int64).float()
    v_max = vs.expand(mask.shape).masked_fill(mask == 0, 0.0).amax(_ROW, keepdim=True)
    r = torch.full_like(total, nm.WEIGHT_SUM) / (total * v_max)
    w = torch.round((a.float() * vs) * r)
    # Weights sum to at most 2^15 + keys/2, times int8: exact in float64, and in float32 while below 2^24.
    o = (w.double() @ v.double()).float()
    return (o * _over(v_max, nm.WEIGHT_SUM)).reshape(t, group * d)


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """int8 [n, d] and scales float32 [n] of x float32 [n, d]."""
    q, m, _ = _quantise(x)
    return q.to(torch.int8), _over(m, nm.ACT_MAX).squeeze(_ROW)


def swiglu_rotate_quantise(acc: Tensor, col: Tensor, row: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """silu(gate) * up, rotated in blocks and quantised: acc int32 [n, 2f] -> int8 [n, f], scales float32 [n]."""
    y = (acc.float() * col) * row[:, None]
    g, u = y.chunk(2, dim=_ROW)
    t = (g * -nm_f32(nm.LOG2_E, g)).clamp(-nm.EXP_CLAMP, nm.EXP_CLAMP)
    whole = torch.floor(t)
    f = t - whole
    p = f * nm_f32(nm.EXP_C3, f) + nm_f32(nm.EXP_C2, f)
    p = p * f + nm_f32(nm.EXP_C1, f)
    p = p * f + nm_f32(1.0, f)
    power = ((whole.to(torch.int32) + 127) << nm.MANTISSA).view(torch.float32)
    h = (g / (p * power + nm_f32(1.0, f))) * u
    return quantise_rows(hadamard(h, block))


def nm_f32(value: float, like: Tensor) -> Tensor:
    """A float32 scalar tensor, so that no operation sees a Python double."""
    return torch.full((), value, dtype=torch.float32, device=like.device)


def hadamard(x: Tensor, block: int) -> Tensor:
    """Orthonormal Walsh-Hadamard transform in blocks on the last axis; the butterflies of `models.rotate`."""
    y = x.reshape(-1, block)
    stride = 1
    while stride < block:
        a, b = y.view(-1, block // (2 * stride), 2, stride).unbind(2)
        y = torch.stack([a + b, a - b], dim=2).view(-1, block)
        stride *= 2
    return (y * nm_f32(block**-0.5, y)).view(x.shape)


def scale_logits(acc: Tensor, col: Tensor, row: Tensor) -> Tensor:
    """Logits in units of log2, float32 [n, vocab]."""
    return (acc.float() * col) * row[:, None]
