"""A step of learning, in torch, one operation after another: the definition that the compiled one must equal bit for bit.

The cost of the segment's symbols is followed back through the model, by its trace: from the head over all layers to each correction's B. What is
a product of weights in the model is one here, of int8 rows with the transposed weights, and so exact in any order. Everything else is single
float32 operations in a stated order. Rounding to integers counts as no change (straight-through, Bengio, Léonard and Courville 2013). Gradients
do not go through what an earlier segment computed, nor through scores of sinks and of keys further away than REACH.

B then moves against its gradient g by AdaGrad (Duchi, Hazan and Singer 2011) with means in place of sums: with v the mean of g^2 over the t steps
so far, and m the mean of v over the matrix, by rate * g / ((sqrt(v) + 0.1 sqrt(m)) * sqrt(1 + t / 15)).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmzip.engine import numerics as nm
from llmzip.engine import reference as ref
from llmzip.engine.corrections import Corrections
from llmzip.engine.reference import nm_f32
from llmzip.engine.tensor_cache import TensorCache
from llmzip.engine.vectors import LayerVectors, layer_vectors
from llmzip.learning import numerics as ln
from llmzip.models.config import ModelConfig
from llmzip.models.convert import VALUE_BASE, IntegerModel
from llmzip.models.rotate import block_size
from llmzip.parameters import DOWN, GATE_UP, VALUES, CorrectionParameters

_PARTS = (("values", VALUES), ("gate_up", GATE_UP), ("down", DOWN))


def ordered_sum(x: Tensor) -> Tensor:
    """Sums of the last axis, [..., d] -> [..., 1]: in 16 columns, row by row, whose sums are then added in halves of 8, 4, 2 and 1."""
    d = x.shape[-1]
    y = torch.nn.functional.pad(x, (0, -d % ln.COLUMNS)).reshape(*x.shape[:-1], -1, ln.COLUMNS)
    total = y[..., 0, :]
    for i in range(1, y.shape[-2]):
        total = total + y[..., i, :]
    half = ln.COLUMNS // 2
    while half:
        total = total[..., :half] + total[..., half : 2 * half]
        half //= 2
    return total


class ReferenceLearner:
    """Learns the corrections of a block.

    Args:
        model: whose matrices are corrected.
        corrections: of the block.
        parameters: of learning.

    Attributes:
        squares: sums of squares of each correction's gradients, by name, float32 [layers, rank, outputs].
        count: steps so far.
    """

    def __init__(self, model: IntegerModel, corrections: Corrections, parameters: CorrectionParameters) -> None:
        self._model, self.corrections, self.config, self._p = model, corrections, model.config, parameters
        self.squares = {name: np.zeros_like(getattr(corrections, name)) for name, _ in _PARTS}
        self.count = 0

    @torch.inference_mode()
    def step(self, drawn: NDArray[np.int32], symbols: NDArray[np.int32]) -> None:
        """Learn from a segment, and forget its trace.

        Args:
            drawn: tokens of each row by the model's own probabilities, int32 [rows, n], rows by lane and by step within it.
            symbols: that came, int32 [rows].
        """
        gradients = self.gradients(drawn, symbols)
        self.count += 1
        for name, bit in _PARTS:
            if self._p.matrices & bit:
                for i in range(self.config.layers):
                    rate = np.float32(self._p.rate / ln.RATE_UNIT * (VALUE_BASE if name == "values" else 1))
                    update(getattr(self.corrections, name)[i], self.squares[name][i], gradients[name][i], rate, self.count)
        self.corrections.at = 0

    def gradients(self, drawn: NDArray[np.int32], symbols: NDArray[np.int32]) -> dict[str, NDArray[np.float32]]:
        """Of each correction's B, by name, float32 [layers, rank, outputs]."""
        c, trace = self.config, self.corrections.trace
        found = {name: np.zeros_like(getattr(self.corrections, name)) for name, _ in _PARTS}
        dx = self._read(self._head(drawn, symbols), trace.head_x, self._vector(self._model.tensors.get("head.norm")))
        for i in reversed(range(c.layers)):
            v = layer_vectors(self._model, i)
            found["down"][i], found["gate_up"][i], back = self._feed_forward(dx, i, v)
            after = dx if c.parallel else _limited(dx + back)
            found["values"][i], dv = self._attention(after, i, v)
            if i:
                dx = _limited((dx + back if c.parallel else after) + self._read(dv, trace.attention_x[i], self._vector(v.read_attention)))
        return found

    def _head(self, drawn: NDArray[np.int32], symbols: NDArray[np.int32]) -> Tensor:
        """Gradient of what the head reads, float32 [rows, width], times the number of drawn tokens."""
        w, scale = self._model.tensors["head"], torch.from_numpy(self._model.tensors["head.scale"].copy())

        def rows(tokens: NDArray[np.int32]) -> Tensor:
            return torch.from_numpy(w[tokens]).float() * scale[torch.from_numpy(tokens.astype(np.int64))][:, None]

        vocab = self.config.vocab
        total = torch.zeros(len(drawn), self.config.width)
        for column in drawn.T:
            total = total + rows(column)
        came = rows(np.minimum(symbols, vocab - 1)) * nm_f32(drawn.shape[1], total)
        return (total - came).masked_fill(torch.from_numpy(symbols >= vocab)[:, None], 0.0)

    def _feed_forward(self, dx: Tensor, i: int, v: LayerVectors) -> tuple[Any, Any, Tensor]:
        """Gradients of `down`, of `gate_up` and of the stream that the layer read."""
        c, trace = self.config, self.corrections.trace
        row = torch.from_numpy(trace.down_row[i])[:, None]
        dy, col = self._given(dx, trace.down_acc[i], row, i, "down", v.down_gain, v.down_bias)
        down = _collect(dy, trace.down_z[i])
        dh = ref.hadamard(self._back(dy * col, f"{i}.down") * (torch.ones_like(row) / row), block_size(c.ffn))
        row, col = torch.from_numpy(trace.ffn_row[i])[:, None], self._scale(f"{i}.gate_up")
        d = self._gate(dh, (torch.from_numpy(trace.gate_up_acc[i]).float() * col) * row, self._vector(v.gate_up_bias))
        gate_up = _collect(d * row, trace.ffn_z[i])
        return down, gate_up, self._read(self._back(d * col, f"{i}.gate_up"), trace.ffn_x[i], self._vector(v.read_ffn))

    def _gate(self, dh: Tensor, y: Tensor, bias: Tensor | None) -> Tensor:
        """Gradient of gate and up, [rows, 2f], or of up alone, from that of their product."""
        if bias is not None:
            y = y + bias
        g, u = y.chunk(2, dim=-1) if self.config.gated else (y, torch.ones_like(y))
        one = torch.ones_like(g)
        s = one / (ref.exponential(ref.exponent(g, self.config.activation)) + one)  # of g s, the activation
        slope = one
        if self.config.activation != "silu":
            slope = ((g * g) * nm_f32(3 * nm.GELU_CUBIC, g) + nm_f32(nm.GELU_LINEAR, g)) * nm_f32(-ln.LN_2, g)
        dg = (dh * u) * (s * (one + (g * (one - s)) * slope))
        return torch.cat([dg, dh * (g * s)], dim=-1) if self.config.gated else dg

    def _attention(self, dx: Tensor, i: int, v: LayerVectors) -> tuple[Any, Tensor]:
        """Gradients of the values' correction and of what the layer's products read."""
        c, trace = self.config, self.corrections.trace
        row = torch.from_numpy(trace.o_row[i])[:, None]
        dy, col = self._given(dx, trace.o_acc[i], row, i, "o", v.o_gain, v.o_bias)
        d_out = _limited(self._back(dy * col, f"{i}.o") * (torch.ones_like(row) / row))
        out = torch.from_numpy(trace.o_q[i]).float() * row
        heads = _Heads(self.corrections, c, i, v, self._scale(f"{i}.qkv"))
        dq, dk, dv = heads.back(d_out, out)
        values = _collect(dv * heads.row, trace.attention_z[i])
        factor = torch.ones_like(heads.col)
        factor[-c.kv_width :] = VALUE_BASE
        return values, self._back(torch.cat([dq, dk, dv], dim=-1) * (heads.col * factor), f"{i}.qkv")

    def _given(
        self, dx: Tensor, acc: NDArray[np.int32], row: Tensor, i: int, part: str, gain: NDArray[Any] | None, bias: NDArray[Any] | None
    ) -> tuple[Tensor, Tensor]:
        """Gradient of y, a product by its columns' scales, from that of the stream it is added to; and these scales."""
        col = self._scale(f"{i}.{part}")
        if gain is None:
            return dx * row, col
        y = torch.from_numpy(acc).float() * col
        if bias is not None:
            y = y + torch.from_numpy(bias) * (torch.ones_like(row) / row)
        return normed_back(dx * torch.from_numpy(gain.copy()), y, ref.norm_factor(y, row, self.config.norm_eps)), col

    def _read(self, dy: Tensor, x: NDArray[np.float32], gain: Tensor | None) -> Tensor:
        """Gradient of the stream x from that of what was read of it."""
        c, stream = self.config, torch.from_numpy(x)
        if not c.plain_stream:
            _, row = ref.norm_quantise(stream, c.norm_eps)
            r = torch.full_like(row, nm.ACT_MAX) / stream.abs().amax(-1).clamp_min(nm.TINY)
            return normed_back(dy, stream, (r * row)[:, None])
        dy = ref.hadamard(dy, block_size(c.width))
        if gain is None:
            return dy
        return normed_back(dy * gain, stream, ref.norm_factor(stream, torch.ones(len(x), 1), c.norm_eps))

    def _back(self, e: Tensor, name: str) -> Tensor:
        """Gradients [rows, outputs] through a matrix, of values its high part alone: float32 [rows, inputs]."""
        w = self._model.tensors[name][: e.shape[-1]]
        q8, scale = ref.quantise_rows(_limited(e))
        return (q8.double() @ torch.from_numpy(w.astype(np.float64))).float() * scale[:, None]  # exact up to the last product

    def _scale(self, name: str) -> Tensor:
        return torch.from_numpy(self._model.tensors[f"{name}.scale"].copy())

    def _vector(self, values: NDArray[Any] | None) -> Tensor | None:
        return None if values is None else torch.from_numpy(values.copy())


class _Heads:
    """Attention of one layer, on the way back."""

    def __init__(self, corrections: Corrections, config: ModelConfig, layer: int, v: LayerVectors, col: Tensor) -> None:
        self._c, self._config, self._layer, self.col = corrections, config, layer, col
        self.row = torch.from_numpy(corrections.trace.attention_row[layer])[:, None]
        self._acc = torch.from_numpy(corrections.trace.queries_keys[layer])
        self._turns = torch.from_numpy(corrections.turns[corrections.ways[layer]]).repeat(corrections.lanes, 1, 1)
        self._bias, self._q_gain, self._k_gain = (None if x is None else torch.from_numpy(x.copy()) for x in (v.bias, v.q_gain, v.k_gain))
        self._spread = block_size(config.head_dim) if config.spread_heads else 0

    def back(self, d_out: Tensor, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of queries, keys and values [rows, their columns], from that of attention's outputs `out`, [rows, q]."""
        c, n, lanes = self._config, self._c.steps, self._c.lanes
        group, d = c.heads // c.kv_heads, c.head_dim
        q_at, k_at = slice(0, c.query_width), slice(c.query_width, c.query_width + c.kv_width)
        y, rest = self._before_turning(q_at, self._q_gain, c.heads)
        q, qs = ref.turn_heads(y, rest, self._turns, nm.score_scale(d), self._spread)
        by_lane = (lanes, n, c.kv_heads, group)
        q, qs, d_out, out = q.view(*by_lane, d), qs.view(by_lane), d_out.view(*by_lane, d), out.view(*by_lane, d)
        top, total = (torch.from_numpy(x[self._layer]).view(by_lane) for x in (self._c.trace.top, self._c.trace.total))
        dq, dk, dv = torch.zeros_like(d_out), torch.zeros(lanes, n, c.kv_heads, d), torch.zeros(lanes, n, c.kv_heads, d)
        for lane, h in np.ndindex(lanes, c.kv_heads):
            of = (lane, slice(None), h)
            dq[of], dk[of], dv[of] = self._lane_back(lane, h, q[of], qs[of], top[of], total[of], d_out[of], out[of])
        dq = self._turned_back(dq.view(-1, c.heads, d) * nm_f32(nm.score_scale(d), dq), q_at, self._q_gain)
        return dq, self._turned_back(dk.view(-1, c.kv_heads, d), k_at, self._k_gain), dv.view(-1, c.kv_width)

    def _lane_back(
        self, lane: int, h: int, q: Tensor, qs: Tensor, top: Tensor, total: Tensor, d_out: Tensor, out: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of one lane and key head: turned queries q int8 [n, group, d] and the others [n, group] or [n, group, d]; gradients of turned queries, turned keys and values."""
        corrections, cache, i, n = self._c, self._c.cache, self._layer, len(q)
        assert isinstance(cache, TensorCache)
        end = int(cache.position - cache.offset[i, h])
        window, sinks = int(cache.windows[i, h]), int(cache.sinks[i, h])
        first = max(0, end - n - min(window, ln.REACH) + 1)  # slots of the keys that gradients reach
        k, ks, v, vs = (x[lane, first:].cpu() for x in (*cache.keys(i, h, lane + 1, end), *cache.values(i, h, lane + 1, end)))
        place, step = torch.arange(first, end) + int(cache.offset[i, h]), torch.arange(n)[:, None] + corrections.first
        seen = ((place <= step) & (place > step - min(window, ln.REACH)) & (place >= sinks))[:, None]
        u = ((q.float() @ k.float().T) * ks) * qs[..., None]
        share = (ref.attention_weights(u - top[..., None]).float() / total[..., None]).masked_fill(~seen, 0.0)
        own = len(k) - n  # the first key of the segment
        d8, scale = ref.quantise_rows(d_out)
        dp = ((d8.float() @ v.float().T) * vs) * scale[..., None]  # exact up to the scales
        du = ((share * (dp - ordered_sum(d_out * out))) * nm_f32(ln.LN_2, share)).masked_fill(~seen, 0.0)
        g8, scale = ref.quantise_rows(_limited(du * ks))
        dq = (g8.double() @ k.double()).float() * scale[..., None]
        queries = q.float() * qs[..., None]
        dk, dv = torch.zeros(n, q.shape[-1]), torch.zeros(n, q.shape[-1])
        for t, g in np.ndindex(*qs.shape):
            dv += share[t, g, own:, None] * d_out[t, g]
            dk += du[t, g, own:, None] * queries[t, g]
        return dq, dk, dv

    def _before_turning(self, at: slice, gain: Tensor | None, heads: int) -> tuple[Tensor, Tensor]:
        c = self._config
        bias = None if self._bias is None else self._bias[at]
        return ref.heads(self._acc[:, at], self.col[at], self.row[:, 0], bias, gain, c.head_norm, heads, c.norm_eps)

    def _turned_back(self, d: Tensor, at: slice, gain: Tensor | None) -> Tensor:
        """Gradients of queries or keys as they come from `qkv`, [rows, n * d], from those after turning, [rows, n, d]."""
        c = self._config
        if self._spread:
            d = ref.hadamard(d, self._spread)
        a, b = d.chunk(2, dim=-1)
        cos, sin = self._turns[:, None, 0], self._turns[:, None, 1]
        d = torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1).reshape(len(d), -1)
        if gain is None:
            return d
        y = self._acc[:, at].float() * self.col[at]
        if self._bias is not None:
            y = y + self._bias[at] * (torch.ones_like(self.row) / self.row)
        over = (len(y), 1 if c.head_norm == "all" else -1, y.shape[-1] if c.head_norm == "all" else c.head_dim)
        y, row = y.view(over), self.row[:, None]
        factor = ref.norm_factor(y, row.expand(*y.shape[:2], 1), c.norm_eps)
        return normed_back((d * gain).view(over), y, factor).reshape(len(d), -1) * (torch.ones_like(self.row) / self.row)


def normed_back(dz: Tensor, y: Tensor, factor: Tensor) -> Tensor:
    """Gradient of y [n, d] from that of z = y * factor, where `factor` [n, 1] brings y's root mean square to 1."""
    t = (ordered_sum(dz * y) * (factor * factor)) / torch.full_like(factor, y.shape[-1])
    return (dz - y * t) * factor


def _limited(x: Tensor) -> Tensor:
    return x.where(x.abs() <= ln.LARGEST_GRADIENT, torch.zeros_like(x))


def _collect(dy: Tensor, z: NDArray[np.int32]) -> NDArray[np.float32]:
    """Gradient of B [rank, outputs]: the sum of z[r] dy over the rows, in their order."""
    factors, total = torch.from_numpy(z).float(), torch.zeros(z.shape[1], dy.shape[1])
    for f, d in zip(factors, dy, strict=True):
        total = total + f[:, None] * d
    return total.numpy()


def update(b: NDArray[np.float32], squares: NDArray[np.float32], g: NDArray[np.float32], rate: np.float32, t: int) -> None:
    """A step of one matrix's B [rank, outputs], and of the sum of squares of its gradients, both in place; t: steps, this one included."""
    g = _limited(torch.from_numpy(g)).numpy()
    g[np.abs(g) < np.float32(ln.SMALLEST_GRADIENT)] = 0
    squares += g * g
    v = squares / np.float32(t)
    m = ordered_sum(torch.from_numpy(v.reshape(-1))).numpy()[0] / np.float32(v.size)
    slow = np.sqrt(np.float32(1) + np.float32(t) / np.float32(ln.PACE))
    divisor = (np.sqrt(v) + np.float32(ln.MEAN_SHARE) * np.sqrt(m)) * slow
    b -= rate * (g / np.maximum(divisor, np.float32(ln.SMALLEST_GRADIENT)))
