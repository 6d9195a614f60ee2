"""The exact operations between matrix products, in plain torch: the definition every faster kernel must equal.

All of it is integer arithmetic, single float32 element-wise operations, maxima and gathers, so any device computes the
same values. Scalars never divide or are divided (torch may turn that into a product with the reciprocal); sums are of
integers only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from llmzip.engine import numerics as nm
from llmzip.engine.corrections import LARGEST
from llmzip.models.convert import VALUE_BASE

_ROW = -1


class Added(NamedTuple):
    """A product that is to be added to the residual stream.

    Attributes:
        acc: int32 [n, d].
        col, row: its scales, float32 [d] and [n].
        gain: of its norm, float32 [d]; None if it is not normed.
        bias: float32 [d], or None.
    """

    acc: Tensor
    col: Tensor
    row: Tensor
    gain: Tensor | None
    bias: Tensor | None


def _quantise(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Integers in [-ACT_MAX, ACT_MAX] (as float32), their row maxima m [..., 1] and the factor ACT_MAX / m."""
    m = x.abs().amax(_ROW, keepdim=True).clamp_min(nm.TINY)
    r = torch.full_like(m, nm.ACT_MAX) / m
    return torch.round(x * r), m, r


def _over(m: Tensor, divisor: int) -> Tensor:
    return m / torch.full_like(m, divisor)


def add(x: Tensor, added: Added, eps: float) -> None:
    """Adds a layer's output to the residual stream x [n, d] in place. If it has a gain, it is normed first."""
    row = added.row[:, None]
    y = added.acc.float() * added.col
    if added.bias is not None:
        y = y + added.bias * (torch.ones_like(row) / row)
    x += y * row if added.gain is None else (y * added.gain) * norm_factor(y, row, eps)


def norm_quantise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """RMS-normalises and quantises a rotated residual stream x [n, d]: int8 [n, d] and scales float32 [n].

    The norm needs no pass of its own: it cancels in the integers and appears in the scale, which follows from the integers' sum of squares.
    """
    q, _, r = _quantise(x)
    q = q.to(torch.int8)
    variance = _over(_squares(q), x.shape[_ROW]) + (r * r) * torch.full_like(r, eps)
    return q, _reciprocal_sqrt(variance).squeeze(_ROW)


def gain_quantise(x: Tensor, gain: Tensor | None, eps: float, block: int) -> tuple[Tensor, Tensor]:
    """RMS-normalises a residual stream x [n, d] that is not rotated, multiplies by gains [d], rotates and quantises it: as `norm_quantise`.

    Without a gain, it is not normed either.
    """
    q, m, _ = _quantise(hadamard(x if gain is None else x * gain, block))
    factor = m if gain is None else m * norm_factor(x, torch.ones_like(m), eps)
    return q.to(torch.int8), _over(factor, nm.ACT_MAX).squeeze(_ROW)


def unit_scale(q: Tensor) -> Tensor:
    """What brings the mean square of each row of q int8 [n, d] to 1: float32 [n]."""
    return _reciprocal_sqrt(_over(_squares(q).clamp_min(1.0), q.shape[_ROW])).squeeze(_ROW)


def _squares(q: Tensor) -> Tensor:
    return q.to(torch.int32).square().sum(_ROW, keepdim=True, dtype=torch.int64).float()


def norm_factor(y: Tensor, row: Tensor, eps: float) -> Tensor:
    """What brings y [..., d], of which `row` [..., 1] is a scale still to be applied, to a root mean square of 1: float32 [..., 1]."""
    r = torch.full_like(row, nm.NORM_MAX) / y.abs().amax(_ROW, keepdim=True).clamp_min(nm.TINY)
    root = (r * (torch.ones_like(row) / row)).clamp_max(nm.MOST_EPS_ROOT)
    variance = _over(_squares(torch.round(y * r)), y.shape[_ROW]) + (root * root) * torch.full_like(r, eps)
    return r * _reciprocal_sqrt(variance)


def _reciprocal_sqrt(v: Tensor) -> Tensor:
    """1 / sqrt(v) of float32 v > 0, a fixed sequence of single operations."""
    y = (nm.RSQRT_MAGIC - (v.view(torch.int32) >> 1)).view(torch.float32)
    half, three_halves = v * nm_f32(0.5, v), nm_f32(1.5, v)
    for _ in range(nm.RSQRT_STEPS):
        y = y * (three_halves - half * (y * y))
    return y


def heads(
    acc: Tensor, col: Tensor, row: Tensor, bias: Tensor | None, gain: Tensor | None, norm: str, n: int, eps: float
) -> tuple[Tensor, Tensor]:
    """Queries or keys before they turn: acc int32 [rows, n*d] -> float32 [rows, n, d], and the scale that each head still needs, [rows, n].

    Args:
        bias, gain: float32 [n*d], or None. `norm` is one of `models.config.HEAD_NORMS`.
    """
    row = row[:, None]
    y = acc.float() * col
    if bias is not None:
        y = y + bias * (torch.ones_like(row) / row)
    if gain is not None:
        over = y.view(len(y), 1 if norm == "all" else n, -1)
        row = norm_factor(over, row[:, None].expand(*over.shape[:2], 1), eps).squeeze(_ROW)
        y = y * gain
    return y.view(len(y), n, -1), row.expand(len(y), n)


def turn_heads(y: Tensor, row: Tensor, cs: Tensor, scale: float, spread: int) -> tuple[Tensor, Tensor]:
    """Rotates and quantises what `heads` gives: cs float32 [rows, 2, d/2]. Runs of `spread` values are then transformed, if not 0.

    Returns int8 [rows, n, d] and scales float32 [rows, n].
    """
    a, b = y.chunk(2, dim=_ROW)
    cos, sin = cs[:, None, 0], cs[:, None, 1]
    y = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=_ROW)
    return _scaled(hadamard(y, spread) if spread else y, row, scale)


def value_heads(acc: Tensor, col: Tensor, row: Tensor, bias: Tensor | None, n: int) -> tuple[Tensor, Tensor]:
    """Joins high and low parts, scales and quantises heads: acc int32 [rows, 2 * n*d] -> as `turn_heads`."""
    high, low = acc.chunk(2, dim=_ROW)
    row = row[:, None]
    y = (high.float() * float(VALUE_BASE) + low.float()) * col
    if bias is not None:
        y = y + bias * (torch.ones_like(row) / row)
    return _scaled(y.view(len(y), n, -1), row.expand(len(y), n), 1.0)


def _scaled(y: Tensor, row: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    q, m, _ = _quantise(y)
    s = _over(m.squeeze(_ROW) * row, nm.ACT_MAX) * torch.full((), scale, dtype=torch.float32, device=y.device)
    return q.to(torch.int8), s


def attend(q: Tensor, qs: Tensor, k: Tensor, ks: Tensor, v: Tensor, vs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Integer softmax attention of one lane's queries that share a key head.

    q int8 [2, t, group, d] and qs [2, t, group]: queries for near keys and, pinned, for sinks. k int8 [keys, d], ks [keys],
    v int8 [keys, d], vs [keys]. mask int8 [t, keys]: 0 unseen, 1 near, 2 sink. Returns float32 [t, group * d], and of each query the largest
    score and the sum of weights before normalisation, float32 [t, group].
    """
    _, t, group, d = q.shape
    mask = mask[:, None]  # [t, 1, keys]

    def scores(which: int) -> Tensor:  # exact: sums stay below 2^24
        return q[which].float() @ k.float().T

    sink = mask == 2
    u = torch.where(sink, scores(1) * ks, scores(0) * ks)
    u = (u * torch.where(sink, qs[1, :, :, None], qs[0, :, :, None])).masked_fill(mask == 0, -torch.inf)
    top = u.amax(_ROW, keepdim=True)
    a = attention_weights(u - top).masked_fill(mask == 0, 0)
    total = a.sum(_ROW, keepdim=True, dtype=torch.int64).float()
    v_max = vs.expand(mask.shape).masked_fill(mask == 0, 0.0).amax(_ROW, keepdim=True)
    r = torch.full_like(total, nm.WEIGHT_SUM) / (total * v_max)
    w = torch.round((a.float() * vs) * r)
    # Weights sum to at most 2^15 + keys/2, times int8: exact in float64, and in float32 while below 2^24.
    o = (w.double() @ v.double()).float()
    return (o * _over(v_max, nm.WEIGHT_SUM)).reshape(t, group * d), top.squeeze(_ROW), total.squeeze(_ROW)


def attention_weights(z: Tensor) -> Tensor:
    """Weights before normalisation, int32, of scores less their largest, float32."""
    line = (z.clamp_min(nm.ATTEND_FLOOR) * 2.0**nm.MANTISSA).to(torch.int32) + ((127 + nm.ATTEND_BITS) << nm.MANTISSA)
    return line.view(torch.float32).to(torch.int32)


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """int8 [n, d] and scales float32 [n] of x float32 [n, d]."""
    q, m, _ = _quantise(x)
    return q.to(torch.int8), _over(m, nm.ACT_MAX).squeeze(_ROW)


def activate_rotate_quantise(
    acc: Tensor, col: Tensor, row: Tensor, bias: Tensor | None, activation: str, gated: bool, block: int
) -> tuple[Tensor, Tensor]:
    """activation(gate) * up, rotated in blocks and quantised: acc int32 [n, 2f] -> int8 [n, f], scales float32 [n].

    Without a gate, activation(up), of acc int32 [n, f]. bias: of each column, or None.
    """
    y = (acc.float() * col) * row[:, None]
    if bias is not None:
        y = y + bias
    g, u = y.chunk(2, dim=_ROW) if gated else (y, torch.ones_like(y))
    h = (g / (exponential(exponent(g, activation)) + nm_f32(1.0, g))) * u
    return quantise_rows(hadamard(h, block))


def exponential(t: Tensor) -> Tensor:
    """2^t, within EXP_CLAMP."""
    t = t.clamp(-nm.EXP_CLAMP, nm.EXP_CLAMP)
    whole = torch.floor(t)
    f = t - whole
    p = f * nm_f32(nm.EXP_C3, f) + nm_f32(nm.EXP_C2, f)
    p = p * f + nm_f32(nm.EXP_C1, f)
    p = p * f + nm_f32(1.0, f)
    return p * ((whole.to(torch.int32) + 127) << nm.MANTISSA).view(torch.float32)


def exponent(g: Tensor, activation: str) -> Tensor:
    """t, for which the activation of g is g / (1 + 2^t)."""
    if activation == "silu":
        return g * -nm_f32(nm.LOG2_E, g)
    return g * ((g * g) * nm_f32(nm.GELU_CUBIC, g) + nm_f32(nm.GELU_LINEAR, g))


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


def correct(acc: Tensor, z: Tensor, b: Tensor) -> None:
    """Adds a low-rank correction to the product acc int32 [n, outputs] in place: z int32 [n, rank], b float32 [rank, outputs].

    What is added is the sum of z[r] b[r] in the order of r, limited and rounded; see `corrections`.
    """
    factors = z.float()
    total = factors[:, :1] * b[0]
    for r in range(1, len(b)):
        total = total + factors[:, r : r + 1] * b[r]
    acc += torch.round(total.clamp(-LARGEST, LARGEST)).to(torch.int32)


def scale_logits(acc: Tensor, col: Tensor, row: Tensor) -> Tensor:
    """Logits in units of log2, float32 [n, vocab]."""
    return (acc.float() * col) * row[:, None]
