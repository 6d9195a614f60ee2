"""What the transformer needs between matrix products, on any device, by the reference functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from llmzip.engine import numerics as nm
from llmzip.engine import reference
from llmzip.engine.kernels.arguments import Table
from llmzip.engine.reference import Added
from llmzip.engine.tensor_cache import TensorCache
from llmzip.models.config import ModelConfig
from llmzip.models.rotate import block_size


class HeadScales(NamedTuple):
    """What brings the product of a layer's `qkv` to scale.

    Attributes:
        col: float32 [q+2kv].
        bias: float32 [q+2kv], or None.
        q_gain, k_gain: of the norms of queries and keys, float32 [q] and [kv], or None.
    """

    col: Tensor
    bias: Tensor | None
    q_gain: Tensor | None
    k_gain: Tensor | None


class TurnTables(NamedTuple):
    """Rotations of t new positions, in each of the ways that the model has: float32 [ways, t, 2, head_dim/2].

    Attributes:
        here: at the queries' positions.
        pinned: as the sinks see them.
    """

    here: Tensor
    pinned: Tensor


class TorchOps:
    """Glue between the transformer and `reference`."""

    scale_logits = staticmethod(reference.scale_logits)

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    def add_norm_quantise(
        self, x: Tensor, added: Added | None, gain: Tensor | None, late: bool = False, note: Callable[[Tensor], None] = lambda x: None
    ) -> tuple[Tensor, Tensor]:
        """`reference.add`, then what the next product reads: by `norm_quantise`, or by `gain_quantise` if the stream is not rotated.

        gain: for `gain_quantise`, float32 [d], or None.
        late: whether the product is added only after the next one has read the stream.
        note: is given the stream as it is read.
        """
        c = self.config
        if added is not None and not late:
            reference.add(x, added, c.norm_eps)
        note(x)
        read = (
            reference.gain_quantise(x, gain, c.norm_eps, block_size(c.width)) if c.plain_stream else reference.norm_quantise(x, c.norm_eps)
        )
        if added is not None and late:
            reference.add(x, added, c.norm_eps)
        return read

    def activate_rotate_quantise(self, acc: Tensor, col: Tensor, row: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `reference.activate_rotate_quantise`."""
        c = self.config
        return reference.activate_rotate_quantise(acc, col, row, bias, c.activation, c.gated, block_size(c.ffn))

    def attend(
        self, acc: Tensor, scales: HeadScales, row: Tensor, turns: TurnTables, cache: TensorCache, layer: int, slot: Table
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rotate, store and attend: acc int32 [lanes*t, q+3kv] -> int8 [lanes*t, q], scales [lanes*t], and of each query head the largest score and the sum of its weights, [lanes*t, heads].

        slot: where the first of the t new keys goes, by layer and head.
        """
        c = self.config
        way = int(cache.ways[layer])
        here, pinned = turns.here[way], turns.pinned[way]
        t = here.shape[0]
        lanes = acc.shape[0] // t
        group, spread = c.heads // c.kv_heads, block_size(c.head_dim) if c.spread_heads else 0
        q_at, k_at, v_at = (
            slice(0, c.query_width),
            slice(c.query_width, c.query_width + c.kv_width),
            slice(c.query_width + c.kv_width, None),
        )

        def bias(at: slice) -> Tensor | None:
            return None if scales.bias is None else scales.bias[at]

        y, y_row = reference.heads(acc[:, q_at], scales.col[q_at], row, bias(q_at), scales.q_gain, c.head_norm, c.heads, c.norm_eps)
        queries = [reference.turn_heads(y, y_row, r.repeat(lanes, 1, 1), nm.score_scale(c.head_dim), spread) for r in (here, pinned)]
        q = torch.stack([a for a, _ in queries]).view(2, lanes, t, c.kv_heads, group, c.head_dim)
        qs = torch.stack([b for _, b in queries]).view(2, lanes, t, c.kv_heads, group)
        y, y_row = reference.heads(acc[:, k_at], scales.col[k_at], row, bias(k_at), scales.k_gain, c.head_norm, c.kv_heads, c.norm_eps)
        k, ks = reference.turn_heads(y, y_row, here.repeat(lanes, 1, 1), 1.0, spread)
        v, vs = reference.value_heads(acc[:, v_at], scales.col[v_at], row, bias(v_at), c.kv_heads)
        k, v = (x.view(lanes, t, c.kv_heads, -1) for x in (k, v))
        ks, vs = (x.view(lanes, t, c.kv_heads) for x in (ks, vs))
        out = torch.empty((lanes, t, c.kv_heads, group * c.head_dim), dtype=torch.float32, device=acc.device)
        top, total = (torch.empty((lanes, t, c.kv_heads, group), dtype=torch.float32, device=acc.device) for _ in range(2))
        for h in range(c.kv_heads):
            first = int(slot[layer, h])
            end = first + t
            cache.put(layer, h, first, k[:, :, h], ks[:, :, h], v[:, :, h], vs[:, :, h])
            at = torch.arange(first, end, device=acc.device)[:, None]
            there = torch.arange(end, device=acc.device)
            near = (there <= at) & (there > at - int(cache.windows[layer, h]))
            mask = torch.where((there < int(cache.sinks[layer, h])) & (there <= at), 2, near.to(torch.int8))
            keys, values = cache.keys(layer, h, lanes, end), cache.values(layer, h, lanes, end)
            for lane in range(lanes):
                k_lane, ks_lane, v_lane, vs_lane = (x[lane] for x in (*keys, *values))
                out[lane, :, h], top[lane, :, h], total[lane, :, h] = reference.attend(
                    q[:, lane, :, h], qs[:, lane, :, h], k_lane, ks_lane, v_lane, vs_lane, mask
                )
        return *reference.quantise_rows(out.view(lanes * t, -1)), top.view(lanes * t, -1), total.view(lanes * t, -1)
