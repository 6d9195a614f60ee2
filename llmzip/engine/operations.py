"""What the transformer needs between matrix products, whoever computes it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from llmzip.engine.cache import KVCache
from llmzip.engine.kernels.arguments import Table
from llmzip.engine.reference import Added


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


class Operations(Protocol):
    """The operations of `reference`, on one kind of device. All implementations give the same bits."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def add_norm_quantise(self, x: Tensor, added: Added | None, gain: Tensor | None, late: bool = False) -> tuple[Tensor, Tensor]:
        """`reference.add`, then what the next product reads: by `norm_quantise`, or by `gain_quantise` if the stream is not rotated.

        gain: for `gain_quantise`, float32 [d], or None.
        late: whether the product is added only after the next one has read the stream.
        """
        ...

    def attend(
        self, acc: Tensor, scales: HeadScales, row: Tensor, turns: TurnTables, cache: KVCache, layer: int, slot: Table
    ) -> tuple[Tensor, Tensor]:
        """Rotate, store and attend: acc int32 [lanes*t, q+3kv] -> int8 [lanes*t, q] and scales [lanes*t].

        slot: where the first of the t new keys goes, by layer and head.
        """
        ...

    def activate_rotate_quantise(self, acc: Tensor, col: Tensor, row: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `reference.activate_rotate_quantise`."""
        ...

    def scale_logits(self, acc: Tensor, col: Tensor, row: Tensor) -> Tensor:
        """See `reference.scale_logits`."""
        ...
