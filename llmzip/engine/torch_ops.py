"""The engine's operations on any device, by the reference functions."""

from __future__ import annotations

import torch
from torch import Tensor

from llmzip.engine import numerics as nm
from llmzip.engine import reference
from llmzip.engine.cache import KVCache
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
        self, acc: Tensor, col: Tensor, row: Tensor, cs: Tensor, pinned: Tensor, cache: KVCache, layer: int, slot: int
    ) -> tuple[Tensor, Tensor]:
        """Rotates, stores and attends: acc int32 [lanes*t, q+3kv] -> int8 [lanes*t, q] and scales [lanes*t].

        cs and pinned: float32 [t, 2, head_dim/2], rotations at the queries' positions and as the sinks see them.
        slot: where the first of the t new keys goes.
        """
        c = self.config
        t = cs.shape[0]
        lanes = acc.shape[0] // t
        end = slot + t
        q_end, k_end = c.query_width, c.query_width + c.kv_width
        top, scale = nm.query_max(c.head_dim), nm.score_scale(c.head_dim)
        queries = [
            reference.rotate_queries(acc[:, :q_end], col[:q_end], row, r.repeat(lanes, 1, 1), c.heads, top, scale) for r in (cs, pinned)
        ]
        q, qs = torch.stack([a for a, _ in queries]), torch.stack([b for _, b in queries])
        k, ks = reference.rotate_queries(acc[:, q_end:k_end], col[q_end:k_end], row, cs.repeat(lanes, 1, 1), c.kv_heads, nm.ACT_MAX, 1.0)
        v, vs = reference.value_heads(acc[:, k_end:], col[k_end:], row, c.kv_heads)

        def by_lane(x: Tensor) -> Tensor:  # [lanes*t, kv, ...] -> [lanes, kv, t, ...]
            return x.view(lanes, t, c.kv_heads, -1).transpose(1, 2)

        cache.put(layer, lanes, slot, by_lane(k).contiguous(), by_lane(ks).squeeze(-1), by_lane(v), by_lane(vs).squeeze(-1))

        here = torch.arange(slot, end, device=acc.device)[:, None]
        there = torch.arange(end, device=acc.device)
        near = (there <= here) & (there > here - cache.window)
        mask = torch.where((there < cache.sinks) & (there <= here), 2, near.to(torch.int8))
        keys, values = cache.keys(layer, lanes, end), cache.values(layer, lanes, end)
        o = [
            reference.attend(
                q.view(2, lanes, t, c.heads, -1)[:, i],
                qs.view(2, lanes, t, c.heads)[:, i],
                keys[i],
                cache.ks[layer, i, :, :end],
                values[i],
                cache.vs[layer, i, :, :end],
                mask,
            )
            for i in range(lanes)
        ]
        return reference.quantise_rows(torch.cat(o).view(lanes * t, -1))
