"""Keys and values already computed: int8, in constant memory, one buffer that slides."""

from __future__ import annotations

import torch
from torch import Tensor

from llmzip.models.config import LlamaConfig

KEY_BLOCK = 16  # keys that lie together in `k`; the buffer slides by whole blocks
_ALIGN = 64  # slots come in multiples of this
_SLACK = 256  # steps between two slides, at least


class KVCache:
    """Keys and values of all lanes, which advance in lockstep.

    Slot of position p: p until the buffer is full, then p - offset. The first block keeps the sinks for ever; sliding
    moves the last window - 1 positions to where the second block starts. The layouts let one vector instruction
    multiply and add pairs of int8: pairs of dimensions for keys, pairs of slots for values.

    Attributes:
        k: rotated keys, int8 [layers, lanes, kv_heads, slots / KEY_BLOCK, head_dim / 2, KEY_BLOCK, 2].
        v: values, int8 [layers, lanes, kv_heads, slots / 2, head_dim, 2].
        ks, vs: their scales, float32 [layers, lanes, kv_heads, slots].
        position: of the next token.
    """

    def __init__(self, config: LlamaConfig, lanes: int, window: int, sinks: int, steps: int, chunk: int, device: torch.device) -> None:
        slots = min(2 * KEY_BLOCK + window + max(chunk, _SLACK), max(steps, chunk))
        self.slots = -(-slots // _ALIGN) * _ALIGN
        self.window, self.sinks, self.position, self.offset = window, sinks, 0, 0
        lead, d = (config.layers, lanes, config.kv_heads), config.head_dim
        self.k = torch.zeros((*lead, self.slots // KEY_BLOCK, d // 2, KEY_BLOCK, 2), dtype=torch.int8, device=device)
        self.v = torch.zeros((*lead, self.slots // 2, d, 2), dtype=torch.int8, device=device)
        self.ks = torch.zeros((*lead, self.slots), dtype=torch.float32, device=device)
        self.vs = torch.zeros((*lead, self.slots), dtype=torch.float32, device=device)

    def make_room(self, steps: int) -> int:
        """Slot of the next token, after sliding if the next `steps` tokens would not fit."""
        slot = self.position - self.offset
        if slot + steps > self.slots:
            first = (slot - (self.window - 1)) // KEY_BLOCK * KEY_BLOCK
            shift = first - KEY_BLOCK
            for layer in range(self.k.shape[0]):  # one at a time: the copies in between stay small
                for buffer, unit in ((self.k, KEY_BLOCK), (self.v, 2), (self.ks, 1), (self.vs, 1)):
                    old, new = slice(first // unit, -(-slot // unit)), slice(KEY_BLOCK // unit, -(-(slot - shift) // unit))
                    buffer[layer, :, :, new] = buffer[layer, :, :, old].clone()
            self.offset += shift
        return self.position - self.offset

    def keys(self, layer: int, lanes: int, end: int) -> Tensor:
        """Keys in slots [0, end): int8 [lanes, kv_heads, end, head_dim], a copy."""
        k = self.k[layer, :lanes].transpose(3, 4)  # [lanes, kv, blocks, KEY_BLOCK, d/2, 2]
        return k.reshape(*k.shape[:2], self.slots, -1)[:, :, :end]

    def values(self, layer: int, lanes: int, end: int) -> Tensor:
        """Values in slots [0, end): int8 [lanes, kv_heads, end, head_dim], a copy."""
        v = self.v[layer, :lanes].transpose(3, 4)  # [lanes, kv, slots/2, 2, d]
        return v.reshape(*v.shape[:2], self.slots, -1)[:, :, :end]

    def put(self, layer: int, lanes: int, slot: int, k: Tensor, ks: Tensor, v: Tensor, vs: Tensor) -> None:
        """Stores new keys and values [lanes, kv_heads, t, head_dim] and scales [lanes, kv_heads, t] from `slot` on."""
        at = torch.arange(slot, slot + k.shape[2], device=k.device)
        halves = k.to(torch.int8).view(*k.shape[:3], -1, 2)  # [lanes, kv, t, d/2, 2]
        # Advanced indices around a slice put their dimension first.
        self.k[layer, :lanes, :, at // KEY_BLOCK, :, at % KEY_BLOCK] = halves.permute(2, 0, 1, 3, 4)
        self.v[layer, :lanes, :, at // 2, :, at % 2] = v.to(torch.int8).permute(2, 0, 1, 3)
        self.ks[layer, :lanes, :, at] = ks
        self.vs[layer, :lanes, :, at] = vs
