"""The cache of keys and values in torch's tensors, on any device, as the reference operations use it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from llmzip.engine.cache import KEY_BLOCK, KVCache
from llmzip.engine.kernels.packing import OFFSET, QUAD
from llmzip.models.config import ModelConfig
from llmzip.parameters import AttentionSpan


class TensorCache(KVCache):
    """A `KVCache` on a device."""

    def __init__(
        self, config: ModelConfig, lanes: int, span: AttentionSpan, steps: int, chunk: int, kept: int, device: torch.device
    ) -> None:  # fmt: skip
        self._device = device
        super().__init__(config, lanes, span, steps, chunk, kept)

    def _zeros(self, n: int, dtype: DTypeLike) -> Any:
        return torch.zeros(n, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, device=self._device)

    def _copy(self, values: Any) -> Any:
        return values.clone()

    def keys(self, layer: int, head: int, lanes: int, end: int) -> tuple[Tensor, Tensor]:
        """Keys in slots [0, end) and scales: int8 [lanes, end, head_dim], a copy, and float32 [lanes, end]."""
        k = self._of(self.k, layer, head)[:lanes].view(lanes, -1, self.head_dim // QUAD, KEY_BLOCK, QUAD).transpose(2, 3)
        signed = (k.reshape(lanes, -1, self.head_dim)[:, :end].to(torch.int16) - OFFSET).to(torch.int8)
        return signed, self._of(self.ks, layer, head)[:lanes, :end]

    def values(self, layer: int, head: int, lanes: int, end: int) -> tuple[Tensor, Tensor]:
        """Values in slots [0, end) and scales: int8 [lanes, end, head_dim], a copy, and float32 [lanes, end]."""
        v = self._of(self.v, layer, head)[:lanes].view(lanes, -1, self.head_dim, QUAD).transpose(2, 3)
        return v.reshape(lanes, -1, self.head_dim)[:, :end], self._of(self.vs, layer, head)[:lanes, :end]

    def put(self, layer: int, head: int, slot: int, k: Tensor, ks: Tensor, v: Tensor, vs: Tensor) -> None:
        """Stores new keys and values [lanes, t, head_dim] and scales [lanes, t] from `slot` on."""
        lanes, t, d = k.shape
        at = torch.arange(slot, slot + t, device=k.device)
        keys = self._of(self.k, layer, head)[:lanes].view(lanes, -1, d // QUAD, KEY_BLOCK, QUAD)
        # Advanced indices around a slice put their dimension first.
        keys[:, at // KEY_BLOCK, :, at % KEY_BLOCK] = (
            (k.to(torch.int16) + OFFSET).to(torch.uint8).view(lanes, t, d // QUAD, QUAD).transpose(0, 1)
        )
        values = self._of(self.v, layer, head)[:lanes].view(lanes, -1, d, QUAD)
        values[:, at // QUAD, :, at % QUAD] = v.to(torch.int8).transpose(0, 1)
        self._of(self.ks, layer, head)[:lanes, slot : slot + t] = ks
        self._of(self.vs, layer, head)[:lanes, slot : slot + t] = vs
