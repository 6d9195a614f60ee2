"""Keys and values computed so far, as int8, in buffers of constant size that slide."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from llmzip.engine import buffers
from llmzip.engine.kernels.arguments import CacheArrays, Table
from llmzip.engine.kernels.packing import OFFSET, QUAD
from llmzip.engine.rope import Rotations
from llmzip.models.config import ModelConfig
from llmzip.parameters import AttentionSpan

KEY_BLOCK = 16  # keys that lie together in `k`; buffers slide by whole blocks
_ALIGN = 64  # slots come in multiples of this
_SLACK = 96  # least number of steps between two slides


class KVCache:
    """Keys and values of all lanes, which advance in lockstep.

    Local-attention heads have a smaller window, and so smaller buffers. All heads' buffers lie one after another in flat
    arrays, a head's lanes in a row: lane i of layer l, head h begins at slot base[l, h] + i * slots[l, h]. Slot of
    position p in it: p until the buffer is full, then p - offset[l, h]. The first block keeps the sinks for ever; sliding moves
    the last window - 1 positions, and as many before them as are to be kept, to where the second block starts. The layouts let one vector instruction multiply and
    add several int8s: four dimensions of keys, four slots of values.

    Attributes:
        k: rotated keys plus OFFSET, uint8 [all slots / KEY_BLOCK, head_dim / 4, KEY_BLOCK, 4], flattened.
        v: values, int8 [all slots / 4, head_dim, 4], flattened.
        ks, vs: their scales, float32 [all slots].
        windows, sinks, slots, base, offset: int64 [layers, kv_heads], see above.
        ways: in which of the model's ways each layer rotates, int64 [layers].
        position: of the next token.
    """

    def __init__(self, config: ModelConfig, lanes: int, span: AttentionSpan, steps: int, chunk: int, kept: int = 0) -> None:
        self._kept = kept
        self.lanes, self.position, self.head_dim = lanes, 0, config.head_dim
        kinds, self.ways = ways(config)
        self._rotations = [Rotations(*way) for way in kinds]
        self._pinned = [Rotations(*way, last=span.window + span.sinks - 1) for way in kinds]
        self.windows, self.sinks, self.slots, self.base = _layout(config, lanes, span, steps, chunk, kept)
        self.offset: Table = np.zeros_like(self.windows)
        total = int(lanes * self.slots.sum())
        self.k, self.v = self._zeros(total * self.head_dim, np.uint8), self._zeros(total * self.head_dim, np.int8)
        self.ks, self.vs = (self._zeros(total, np.float32) for _ in range(2))

    def _zeros(self, n: int, dtype: DTypeLike) -> Any:
        return buffers.zeros(n, dtype)

    def _copy(self, values: Any) -> Any:
        return values.copy()

    @staticmethod
    def bytes_needed(config: ModelConfig, lanes: int, span: AttentionSpan, steps: int, chunk: int, kept: int = 0) -> int:
        """Memory of a cache, in bytes."""
        slots = _layout(config, lanes, span, steps, chunk, kept)[2]
        return int(lanes * slots.sum()) * 2 * (config.head_dim + 4)

    def arrays(self, slot: Table) -> CacheArrays:
        """All layers' arrays for kernels; `slot` is what `make_room` gave."""
        return CacheArrays(self.k, self.ks, self.v, self.vs, self.base, self.slots, self.windows, self.sinks, slot)

    def rotations(self, steps: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Rotations of the next tokens in each way, and as their queries see the sinks: float32 [ways, steps, 2, head_dim / 2].

        Sinks stay where they are, but are seen from no further than window + sinks - 1.
        """
        here, pinned = (np.stack([r.at(self.position, steps) for r in way]) for way in (self._rotations, self._pinned))
        return here, pinned

    def make_room(self, steps: int) -> Table:
        """Slots of the next token, int64 [layers, kv_heads], after sliding where the next `steps` tokens would not fit."""
        slot: Table = self.position - self.offset
        for layer, head in np.argwhere(slot + steps > self.slots):
            at = int(slot[layer, head])
            first = (at - (int(self.windows[layer, head]) - 1 + self._kept)) // KEY_BLOCK * KEY_BLOCK
            shift = first - KEY_BLOCK
            for buffer, unit in ((self.k, KEY_BLOCK), (self.v, QUAD), (self.ks, 1), (self.vs, 1)):
                view = self._of(buffer, layer, head).reshape(self.lanes, int(self.slots[layer, head]) // unit, -1)
                view[:, KEY_BLOCK // unit : -(-(at - shift) // unit)] = self._copy(view[:, first // unit : -(-at // unit)])
            self.offset[layer, head] += shift
        return self.position - self.offset

    def rewind(self, steps: int) -> None:
        """Forget the last `steps` tokens of all lanes. They must have been fed in the last call, and not all of that call's."""
        self.position -= steps

    def fill_for_timing(self, position: int) -> None:
        """Fill the cache as if `position` tokens had been fed: for timing what comes then.

        The cache must have room for `_ALIGN` tokens more, and `position` must not exceed its window.
        """
        self.position = position
        self.offset = np.maximum(position + _ALIGN - self.slots, 0) // KEY_BLOCK * KEY_BLOCK
        for buffer, value in ((self.k, OFFSET), (self.v, 1), (self.ks, 1.0), (self.vs, 1.0)):
            buffer[:] = value  # so that the system provides the memory

    def copy_first_lane(self) -> None:
        """Copy the first lane, the only one fed so far, to all others. No buffer may have slid yet."""
        filled = -(-self.position // KEY_BLOCK) * KEY_BLOCK
        for layer, head in np.ndindex(self.slots.shape):
            for buffer in (self.k, self.v, self.ks, self.vs):
                view = self._of(buffer, layer, head)
                end = filled * (len(buffer) // len(self.ks))
                view[1:, :end] = view[:1, :end]

    def _of(self, buffer: Any, layer: int, head: int) -> Any:
        """One head's part of a buffer, [lanes, its slots' bytes or scales]."""
        size = len(buffer) // len(self.ks)
        first, slots = int(self.base[layer, head]), int(self.slots[layer, head])
        return buffer[first * size : (first + self.lanes * slots) * size].reshape(self.lanes, slots * size)


def ways(config: ModelConfig) -> tuple[list[tuple[float, int, tuple[float, ...]]], Table]:
    """The ways in which a model rotates, as arguments of `rope.rotation`, and which of them each layer has, int64 [layers]."""
    c = config

    def way(layer: int) -> tuple[float, int, tuple[float, ...]]:
        if layer in c.unrotated_layers:
            return c.rope_base, c.head_dim, (0.0,) * (c.head_dim // 2)
        if c.window_rope_base and c.window_of(layer):
            return c.window_rope_base, c.head_dim, ()
        return c.rope_base, c.head_dim, c.rope_divisors

    of_layers = [way(i) for i in range(c.layers)]
    kinds = list(dict.fromkeys(of_layers))
    return kinds, np.array([kinds.index(w) for w in of_layers], np.int64)


def _layout(config: ModelConfig, lanes: int, span: AttentionSpan, steps: int, chunk: int, kept: int) -> tuple[Table, Table, Table, Table]:
    """Each head's window, sinks, slots a lane, and first slot.

    A layer that was trained with a window no larger than the span's keeps that, and needs no sinks. All others have the span's.
    """
    shape = (config.layers, config.kv_heads)
    windows, sinks = np.full(shape, span.window, dtype=np.int64), np.full(shape, span.sinks, dtype=np.int64)
    if span.local:
        windows.reshape(-1)[list(config.local_heads)] = min(span.window, config.local_window)
    for layer in range(config.layers):
        if 0 < config.window_of(layer) <= span.window:
            windows[layer], sinks[layer] = np.minimum(windows[layer], config.window_of(layer)), 0
    slots = np.minimum(2 * KEY_BLOCK + windows + kept + max(chunk, _SLACK), max(steps, chunk))
    slots = -(-slots // _ALIGN) * _ALIGN
    base = lanes * (np.cumsum(slots) - slots.reshape(-1)).reshape(shape)
    return windows, sinks, slots, base
