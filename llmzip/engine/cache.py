"""Keys and values already computed: int8, in constant memory, one buffer that slides."""

from __future__ import annotations

import torch

from llmzip.models.config import LlamaConfig

_ALIGN = 64  # slots come in multiples of this, for vector loads
_SLACK = 256  # steps between two slides


class KVCache:
    """Keys and values of all lanes, which advance in lockstep.

    Slots [0, sinks) hold the first tokens of each stream for ever. The others hold consecutive positions; when they are
    full, the last window - 1 positions move to the front. Slot of position p >= sinks: p - offset.

    Attributes:
        k: int8 [layers, lanes, kv_heads, slots, head_dim], rotated.
        v: int8 [layers, lanes, kv_heads, head_dim, slots].
        ks, vs: their scales, float32 [layers, lanes, kv_heads, slots].
        position: of the next token.
    """

    def __init__(
        self, config: LlamaConfig, lanes: int, window: int, sinks: int, steps: int, chunk: int, device: torch.device
    ) -> None:
        slots = min(sinks + window - 1 + max(chunk, _SLACK), max(steps, chunk))
        self.slots = -(-slots // _ALIGN) * _ALIGN
        self.window, self.sinks, self.position, self.offset = window, sinks, 0, 0
        lead = (config.layers, lanes, config.kv_heads)
        self.k = torch.zeros((*lead, self.slots, config.head_dim), dtype=torch.int8, device=device)
        self.v = torch.zeros((*lead, config.head_dim, self.slots), dtype=torch.int8, device=device)
        self.ks = torch.zeros((*lead, self.slots), dtype=torch.float32, device=device)
        self.vs = torch.zeros((*lead, self.slots), dtype=torch.float32, device=device)

    def make_room(self, steps: int) -> int:
        """Slot of the next token, after sliding if the next `steps` tokens would not fit."""
        slot = self.position - self.offset
        if slot + steps > self.slots:
            keep = self.window - 1
            old, new = slice(slot - keep, slot), slice(self.sinks, self.sinks + keep)
            for layer in range(self.k.shape[0]):  # one at a time: the copy in between stays small
                self.k[layer, :, :, new] = self.k[layer, :, :, old].clone()
                self.v[layer, :, :, :, new] = self.v[layer, :, :, :, old].clone()
            self.ks[..., new] = self.ks[..., old].clone()
            self.vs[..., new] = self.vs[..., old].clone()
            self.offset += slot - keep - self.sinks
        return self.position - self.offset
