"""Arrays that kernels take together, as named tuples, which numba takes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Table = NDArray[np.int64]


class CacheArrays(NamedTuple):
    """The arrays of a `KVCache`, for one layer or, with a leading axis for tables, for all.

    Attributes:
        k, ks, v, vs: keys and values and their scales, flat, as in `KVCache`.
        base, slots, windows: tables of the cache, int64 [kv_heads] or [layers, kv_heads].
        slot: where the first of the new tokens goes, of the same shape.
    """

    k: NDArray[np.uint8]
    ks: Floats
    v: NDArray[np.int8]
    vs: Floats
    base: Table
    slots: Table
    windows: Table
    slot: Table

    def of_layer(self, i: int) -> CacheArrays:
        """Those of one layer, from those of all. Kernels have to spell this out."""
        return self._replace(base=self.base[i], slots=self.slots[i], windows=self.windows[i], slot=self.slot[i])


class Scaled(NamedTuple):
    """A product and what brings it to scale: acc int32 [n, m], col float32 [m], row float32 [n]."""

    acc: NDArray[np.int32]
    col: Floats
    row: Floats


class Turns(NamedTuple):
    """Rotations float32 [t, 2, head_dim / 2] of the new positions, and as their queries see the sinks."""

    here: Floats
    pinned: Floats


class LayerWeights(NamedTuple):
    """Packed weights of all layers [layers, ...], and their scales [layers, outputs]."""

    qkv: NDArray[np.uint8]
    qkv_scale: Floats
    o: NDArray[np.uint8]
    o_scale: Floats
    gate_up: NDArray[np.uint8]
    gate_up_scale: Floats
    down: NDArray[np.uint8]
    down_scale: Floats


class Constants(NamedTuple):
    """Numbers of a model.

    Attributes:
        heads: query heads.
        score: what a score is multiplied by.
        sinks: positions that every query sees.
        eps: of the norm.
        block: values that are rotated together in the feed-forward layer.
        factor: what that rotation is multiplied by.
    """

    heads: int
    score: Any
    sinks: int
    eps: Any
    block: int
    factor: Any
