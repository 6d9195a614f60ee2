"""Arrays that kernels take together, as named tuples, which numba takes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmzip.engine import numerics
from llmzip.models.config import ACTIVATIONS, HEAD_NORMS, ModelConfig
from llmzip.models.rotate import block_size

Floats = NDArray[np.float32]
Table = NDArray[np.int64]


class CacheArrays(NamedTuple):
    """The arrays of a `KVCache`, for one layer or, with a leading axis for tables, for all.

    Attributes:
        k, ks, v, vs: keys and values and their scales, flat, as in `KVCache`.
        base, slots, windows, sinks: tables of the cache, int64 [kv_heads] or [layers, kv_heads].
        slot: where the first of the new tokens goes, of the same shape.
    """

    k: NDArray[np.uint8]
    ks: Floats
    v: NDArray[np.int8]
    vs: Floats
    base: Table
    slots: Table
    windows: Table
    sinks: Table
    slot: Table

    def of_layer(self, i: int) -> CacheArrays:
        """Those of one layer, from those of all. Kernels have to spell this out."""
        return self._replace(base=self.base[i], slots=self.slots[i], windows=self.windows[i], sinks=self.sinks[i], slot=self.slot[i])


class Added(NamedTuple):
    """A product that is to be added to the residual stream.

    Attributes:
        acc: int32 [n, m], m >= d; of size 0 if there is none.
        col, row: its scales, float32 [d] and [n].
        gain: of its norm, float32 [d]; of size 0 if it is not normed.
        bias: float32 [d]; of size 0 if there is none.
    """

    acc: NDArray[np.int32]
    col: Floats
    row: Floats
    gain: Floats
    bias: Floats


class Projected(NamedTuple):
    """The product of a layer's `qkv`, and what brings it to scale. Vectors that a model lacks have size 0.

    Attributes:
        acc: int32 [n, q+3kv or more].
        row: float32 [n].
        col, bias: float32 [q+2kv].
        q_gain, k_gain: of the norms of queries and keys, float32 [q] and [kv].
        q_row, k_row: instead of `row` for queries and keys that are normed over all heads, float32 [n].
    """

    acc: NDArray[np.int32]
    row: Floats
    col: Floats
    bias: Floats
    q_gain: Floats
    k_gain: Floats
    q_row: Floats
    k_row: Floats


class Noted(NamedTuple):
    """Where attention notes the largest score and the sum of weights of each query head, float32 [rows, heads] of a trace; of size 0 if nowhere.

    `steps` and `at`: as in `corrections.CorrectionArrays`.
    """

    top: Floats
    total: Floats
    steps: int
    at: int


class Turns(NamedTuple):
    """Rotations float32 [t, 2, head_dim / 2] of the new positions, and as their queries see the sinks."""

    here: Floats
    pinned: Floats


class TurnTables(NamedTuple):
    """`Turns` in each way that the model has, [ways, t, 2, head_dim / 2], and the way of each layer, int64 [layers]."""

    here: Floats
    pinned: Floats
    ways: Table


class LayerWeights(NamedTuple):
    """Packed weights of all layers [layers, ...], their scales [layers, outputs], and vectors [layers, n], n = 0 if the model has none.

    Gains: `read_attention` and `read_ffn` of what these read, `o_gain` and `down_gain` of what they give. Biases: `bias` belongs to `qkv`, `o_bias` to `o`, and so on.
    """

    qkv: NDArray[np.uint8]
    qkv_scale: Floats
    o: NDArray[np.uint8]
    o_scale: Floats
    gate_up: NDArray[np.uint8]
    gate_up_scale: Floats
    down: NDArray[np.uint8]
    down_scale: Floats
    bias: Floats
    q_gain: Floats
    k_gain: Floats
    read_attention: Floats
    o_gain: Floats
    read_ffn: Floats
    down_gain: Floats
    o_bias: Floats
    gate_up_bias: Floats
    down_bias: Floats
    read_head: Floats  # [width], or of size 0


class Constants(NamedTuple):
    """Numbers of a model.

    Attributes:
        heads: query heads.
        score: what a score is multiplied by.
        eps: of the norms.
        block, factor: values that are rotated together in the feed-forward layer, and what that rotation is multiplied by.
        stream_block, stream_factor: likewise, of what is read from the residual stream; block 0 if the stream itself is rotated.
        head_block, head_factor: likewise, of queries and keys; block 0 if they are not.
        head_norm: index in `models.config.HEAD_NORMS`.
        activation: index in `models.config.ACTIVATIONS`.
        gated, parallel: as in `models.config.ModelConfig`.
    """

    heads: int
    score: Any
    eps: Any
    block: int
    factor: Any
    stream_block: int
    stream_factor: Any
    head_block: int
    head_factor: Any
    head_norm: int
    activation: int
    gated: bool
    parallel: bool


def constants(c: ModelConfig) -> Constants:
    """The numbers of a model of this shape."""

    def rotation(width: int, wanted: bool = True) -> tuple[int, Any]:
        block = block_size(width)
        return (block, np.float32(block**-0.5)) if wanted else (0, np.float32(0.0))

    return Constants(
        c.heads, np.float32(numerics.score_scale(c.head_dim)), np.float32(c.norm_eps), *rotation(c.ffn), *rotation(c.width, c.plain_stream),
        *rotation(c.head_dim, c.spread_heads), HEAD_NORMS.index(c.head_norm), ACTIVATIONS.index(c.activation), c.gated, c.parallel,
    )  # fmt: skip
