"""What the transformer needs between matrix products, whoever computes it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from llmzip.engine.cache import KVCache
from llmzip.engine.kernels.arguments import Table


class Operations(Protocol):
    """The operations of `reference`, on one kind of device. All implementations give the same bits."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def add_norm_quantise(self, x: Tensor, acc: Tensor | None, col: Tensor | None, row: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
        """See `reference.add_norm_quantise`."""
        ...

    def attend(
        self, acc: Tensor, col: Tensor, row: Tensor, cs: Tensor, pinned: Tensor, cache: KVCache, layer: int, slot: Table
    ) -> tuple[Tensor, Tensor]:
        """Rotate, store and attend: acc int32 [lanes*t, q+3kv] -> int8 [lanes*t, q] and scales [lanes*t].

        cs and pinned: float32 [t, 2, head_dim/2], rotations at the queries' positions and as the sinks see them.
        slot: where the first of the t new keys goes, by layer and head.
        """
        ...

    def swiglu_rotate_quantise(self, acc: Tensor, col: Tensor, row: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """See `reference.swiglu_rotate_quantise`."""
        ...

    def scale_logits(self, acc: Tensor, col: Tensor, row: Tensor) -> Tensor:
        """See `reference.scale_logits`."""
        ...
