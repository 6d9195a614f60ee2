"""Low-rank corrections of a model's matrices, which are learned while coding, and the trace of what the model computed with them.

To what a corrected matrix gives for a row, integers, is added rint(sum over r of B[r] z[r]), a sum in the order of r. Here z[r] is the sum of the
matrix's int8 inputs with fixed random signs, an integer, and B, float32 [rank, outputs], is learned. So a correction has the form of LoRA (Hu and
others, "Low-rank adaptation of large language models", 2021), whose first matrix stays as it is drawn. All that follows is as without corrections.

Learning needs what the rows since its last step went through. The engine notes that in a `Trace` on its way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmzip.engine import buffers
from llmzip.engine.cache import KVCache
from llmzip.engine.kernels import packing
from llmzip.models.config import ModelConfig
from llmzip.parameters import CorrectionParameters

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]

LARGEST = 2.0**23  # magnitude of what is added to an integer
_WEYL, _FIRST, _SECOND = 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35  # the finaliser of MurmurHash3 (Appleby, public domain)


class Trace(NamedTuple):
    """What the rows of a segment went through: arrays [layers, rows, ...], rows by lane and by step within it.

    Arrays that a kind of model does not need have rows of size 0.

    Attributes:
        attention_x, ffn_x, head_x: the residual stream as attention, feed-forward and the head read it, float32 [.., width]; head_x without layers.
        attention_row, o_row, ffn_row, down_row: scales of the int8 rows that products read, float32 [layers, rows].
        attention_z, ffn_z, down_z: sums with signs, int32 [.., rank].
        queries_keys: products of queries and keys, int32 [.., q+kv].
        o_q: rows that `o` reads, int8 [.., q].
        o_acc, gate_up_acc, down_acc: products, int32; those of `o` and `down` only where their norm needs them.
        top, total: largest score of each query head, and the sum of its weights, float32 [.., heads].
    """

    attention_x: Floats
    ffn_x: Floats
    head_x: Floats
    attention_row: Floats
    o_row: Floats
    ffn_row: Floats
    down_row: Floats
    attention_z: Integers
    ffn_z: Integers
    down_z: Integers
    queries_keys: Integers
    o_q: NDArray[np.int8]
    o_acc: Integers
    gate_up_acc: Integers
    down_acc: Integers
    top: Floats
    total: Floats


class CorrectionArrays(NamedTuple):
    """What kernels take of corrections and their trace; without any, all arrays have size 0. Numba does not take tuples in tuples everywhere.

    Attributes:
        signs, ffn_signs: packed.
        values, gate_up, down: float32 [layers, rank, outputs].
        steps: of a segment.
        at: how many of them are traced.

    The others are those of `Trace`.
    """

    signs: NDArray[np.uint8]
    ffn_signs: NDArray[np.uint8]
    values: Floats
    gate_up: Floats
    down: Floats
    attention_x: Floats
    ffn_x: Floats
    head_x: Floats
    attention_row: Floats
    o_row: Floats
    ffn_row: Floats
    down_row: Floats
    attention_z: Integers
    ffn_z: Integers
    down_z: Integers
    queries_keys: Integers
    o_q: NDArray[np.int8]
    o_acc: Integers
    gate_up_acc: Integers
    down_acc: Integers
    top: Floats
    total: Floats
    steps: int
    at: int


class Corrections:
    """Those of one block.

    Args:
        config: of the model.
        parameters: rank, segment and matrices.
        cache: of the block, which the same tokens are fed to.
        lanes: of the block.

    Attributes:
        signs, ffn_signs: int8 [rank, inputs], of what reads the residual stream, and of `down`.
        values, gate_up, down: what is learned, float32 [layers, rank, outputs].
        lanes, steps: of a segment.
        trace: of the rows since the last step of learning.
        turns: rotations of the segment's steps, float32 [ways, steps, 2, head_dim / 2].
        cache: of the block.
        ways: in which of them each layer rotates, int64 [layers].
        windows, sinks: of the cache, int64 [layers, kv_heads].
        at: how many of its steps are traced.
        first: position of its first step.
    """

    LEARNED = ("values", "gate_up", "down")

    def __init__(self, config: ModelConfig, parameters: CorrectionParameters, cache: KVCache, lanes: int) -> None:
        c, rank = config, parameters.rank
        self.lanes, self.steps, self.at, self.first = lanes, parameters.segment_steps(lanes), 0, 0
        self.signs, self.ffn_signs = signs(rank, c.width), signs(rank, c.ffn)
        self._packed = packing.pack(self.signs), packing.pack(self.ffn_signs)
        self.values, self.gate_up, self.down = (np.zeros((c.layers, rank, n), np.float32) for n in outputs(c))
        self.trace = _trace_of(c, rank, lanes * self.steps)
        self.cache, self.ways, self.windows, self.sinks = cache, cache.ways, cache.windows, cache.sinks
        self.turns = np.zeros((int(self.ways.max()) + 1, self.steps, 2, c.head_dim // 2), np.float32)

    @staticmethod
    def memory(config: ModelConfig, parameters: CorrectionParameters, lanes: int) -> int:
        """About how many bytes they take."""
        rows = lanes * parameters.segment_steps(lanes)
        of_trace = sum(x.itemsize * int(np.prod(x.shape[2:], dtype=np.int64)) for x in _trace_of(config, parameters.rank, 1))
        return config.layers * (rows * of_trace + 8 * parameters.rank * sum(outputs(config)))

    def begin(self, position: int, turns: Floats) -> int:
        """Note that the next steps are fed, at these positions and with these rotations [ways, t, ...]; return how many steps are traced before them."""
        t, at = turns.shape[1], self.at
        if not at:
            self.first = position
        self.turns[:, at : at + t] = turns
        self.at = at + t
        return at

    @property
    def left(self) -> int:
        """Steps that the trace still has room for."""
        return self.steps - self.at

    def rewind(self, steps: int) -> None:
        """Forget the last `steps` steps."""
        self.at -= steps

    def rows(self, at: int, lanes: int, t: int) -> NDArray[np.int64]:
        """Rows of the trace that t steps from `at` on of the first lanes belong to, in lane-major order."""
        return (np.arange(lanes)[:, None] * self.steps + at + np.arange(t)).reshape(-1)

    def arrays(self, at: int) -> CorrectionArrays:
        """What kernels take."""
        return CorrectionArrays._make((*self._packed, self.values, self.gate_up, self.down, *self.trace, self.steps, at))


def outputs(c: ModelConfig) -> tuple[int, int, int]:
    """Outputs of the corrected matrices: values, gate and up, down."""
    return c.kv_width, len(c.ffn_parts) * c.ffn, c.width


def _trace_of(c: ModelConfig, rank: int, rows: int) -> Trace:
    return _trace(
        c.layers, rows, c.width, c.width if c.post_norm else 0, c.query_width, c.query_width + c.kv_width, c.heads, len(c.ffn_parts) * c.ffn, rank
    )  # fmt: skip


def _trace(layers: int, rows: int, width: int, given: int, q: int, queries_keys: int, heads: int, gate_up: int, rank: int) -> Trace:
    """Of rows of so many numbers. given: those of products that are noted because of their norm."""

    def zeros(dtype: type, *shape: int) -> NDArray[Any]:
        return np.asarray(buffers.zeros((layers, rows, *shape), dtype))

    floats, integers = np.float32, np.int32
    return Trace(
        attention_x=zeros(floats, width),
        ffn_x=zeros(floats, width),
        head_x=np.asarray(buffers.zeros((rows, width), np.float32)),
        attention_row=zeros(floats),
        o_row=zeros(floats),
        ffn_row=zeros(floats),
        down_row=zeros(floats),
        attention_z=zeros(integers, rank),
        ffn_z=zeros(integers, rank),
        down_z=zeros(integers, rank),
        queries_keys=zeros(integers, queries_keys),
        o_q=zeros(np.int8, q),
        o_acc=zeros(integers, given),
        gate_up_acc=zeros(integers, gate_up),
        down_acc=zeros(integers, given),
        top=zeros(floats, heads),
        total=zeros(floats, heads),
    )


def no_corrections() -> CorrectionArrays:
    """What kernels take where nothing is corrected: a trace of one layer, which they look at, without rows."""
    packed, learned = np.zeros((0, 0, packing.OUTPUTS, packing.QUAD), np.uint8), np.zeros((0, 0, 0), np.float32)
    return CorrectionArrays._make((packed, packed, *(learned,) * 3, *_trace(1, *(0,) * 8), 0, 0))


def signs(rank: int, inputs: int) -> NDArray[np.int8]:
    """Random signs int8 [rank, inputs], the same everywhere: for input k of row r, +1 where a hash of r 2^20 + k + 1 is even, and -1 elsewhere."""
    mask = np.uint64(0xFFFFFFFF)
    h: Any = (np.arange(rank, dtype=np.uint64)[:, None] << np.uint64(20)) + np.arange(inputs, dtype=np.uint64) + np.uint64(1)
    h = (h * np.uint64(_WEYL)) & mask
    for factor, shift in ((_FIRST, 16), (_SECOND, 13)):
        h = ((h ^ (h >> np.uint64(shift))) * np.uint64(factor)) & mask
    h ^= h >> np.uint64(16)
    drawn: NDArray[np.int8] = (1 - 2 * (h & np.uint64(1)).astype(np.int64)).astype(np.int8)
    return drawn
