"""The engine's operations on any device, by the reference functions."""

from __future__ import annotations

import torch
from torch import Tensor

from llmzip.engine import numerics as nm
from llmzip.engine import reference
from llmzip.engine.cache import KVCache
from llmzip.engine.kernels.arguments import Table
from llmzip.models.config import LlamaConfig


class TorchOps:
    """Glue between the transformer and `reference`."""

    name = "torch"
    add_norm_quantise = staticmethod(reference.add_norm_quantise)
    swiglu_rotate_quantise = staticmethod(reference.swiglu_rotate_quantise)
    scale_logits = staticmethod(reference.scale_logits)

    def __init__(self, config: LlamaConfig) -> None:
        self.config = config

    def attend(
        self, acc: Tensor, col: Tensor, row: Tensor, cs: Tensor, pinned: Tensor, cache: KVCache, layer: int, slot: Table
    ) -> tuple[Tensor, Tensor]:
        """See `operations.Operations.attend`."""
        c = self.config
        t = cs.shape[0]
        lanes = acc.shape[0] // t
        group = c.heads // c.kv_heads
        q_end, k_end = c.query_width, c.query_width + c.kv_width
        scale = nm.score_scale(c.head_dim)
        queries = [reference.rotate_queries(acc[:, :q_end], col[:q_end], row, r.repeat(lanes, 1, 1), c.heads, scale) for r in (cs, pinned)]
        q = torch.stack([a for a, _ in queries]).view(2, lanes, t, c.kv_heads, group, c.head_dim)
        qs = torch.stack([b for _, b in queries]).view(2, lanes, t, c.kv_heads, group)
        k, ks = reference.rotate_queries(acc[:, q_end:k_end], col[q_end:k_end], row, cs.repeat(lanes, 1, 1), c.kv_heads, 1.0)
        v, vs = reference.value_heads(acc[:, k_end:], col[k_end:], row, c.kv_heads)
        k, v = (x.view(lanes, t, c.kv_heads, -1) for x in (k, v))
        ks, vs = (x.view(lanes, t, c.kv_heads) for x in (ks, vs))
        out = torch.empty((lanes, t, c.kv_heads, group * c.head_dim), dtype=torch.float32, device=acc.device)
        for h in range(c.kv_heads):
            first = int(slot[layer, h])
            end = first + t
            cache.put(layer, h, first, k[:, :, h], ks[:, :, h], v[:, :, h], vs[:, :, h])
            here = torch.arange(first, end, device=acc.device)[:, None]
            there = torch.arange(end, device=acc.device)
            near = (there <= here) & (there > here - int(cache.windows[layer, h]))
            mask = torch.where((there < cache.sinks) & (there <= here), 2, near.to(torch.int8))
            keys, values = cache.keys(layer, h, lanes, end), cache.values(layer, h, lanes, end)
            for lane in range(lanes):
                k_lane, ks_lane, v_lane, vs_lane = (x[lane] for x in (*keys, *values))
                out[lane, :, h] = reference.attend(q[:, lane, :, h], qs[:, lane, :, h], k_lane, ks_lane, v_lane, vs_lane, mask)
        return reference.quantise_rows(out.view(lanes * t, -1))
