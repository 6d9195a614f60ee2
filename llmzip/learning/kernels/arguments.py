"""What a step of learning is given, changes and works in, as named tuples, which numba takes; of arrays alone, as it does not take tuples in tuples everywhere."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmzip.engine.buffers import empty
from llmzip.engine.corrections import CorrectionArrays
from llmzip.engine.kernels.arguments import Constants, Floats, Table
from llmzip.engine.kernels.heads import BY_ALL
from llmzip.engine.kernels.meeting import WORDS
from llmzip.engine.kernels.packing import OUTPUTS, QUAD, shape
from llmzip.engine.kernels.products import PAD
from llmzip.engine.kernels.rows import f32


class Transposed(NamedTuple):
    """Packed weights of all layers, transposed: uint8 [layers, ...]. `qkv`: without the low parts of values."""

    qkv: NDArray[np.uint8]
    o: NDArray[np.uint8]
    gate_up: NDArray[np.uint8]
    down: NDArray[np.uint8]


class Learned(NamedTuple):
    """What steps change: squares and gradients of corrections float32 [layers, rank, outputs], rates of values, gate_up and down, and the step's number."""

    values_squares: Floats
    gate_up_squares: Floats
    down_squares: Floats
    values_g: Floats
    gate_up_g: Floats
    down_g: Floats
    rates: Floats
    steps: int


class Given(NamedTuple):
    """What a step begins with, for n rows.

    Attributes:
        rows: of the head for the tokens drawn for each row and, last, the symbol that came, int8 [n, draws + 1, width].
        scales: theirs, float32 [n, draws + 1]; all 0 where the symbol is no token.
        turns: float32 [ways, steps, 2, d / 2].
        ways: of each layer, int64 [layers].
        before: position of the first step.
    """

    rows: NDArray[np.int8]
    scales: Floats
    turns: Floats
    ways: Table
    before: int


class Room(NamedTuple):
    """What lies between the operations of a step, for n rows.

    Attributes:
        dx: gradient of the residual stream, float32 [n, width].
        d, d_ffn, d_heads, d_qk, d_values: gradients of products, float32 [n, their outputs].
        q, q_ffn, q_qkv: as int8, and their scales [n].
        acc, acc_ffn, acc_heads: products, int32.
        held: gradient of the stream that waits for a parallel layer, float32 [n, width].
        q_row: as in `Projected`.
        queries: as they met keys, int8 [n, heads, d], and their scales [n, heads].
        given: gradients of attention's outputs, int8 [n, heads * d], and their scales [n, heads].
        means: of each query, the mean of its outputs' gradients by attention's weights, float32 [n, heads].
        keys, values, turned_over, shares, slopes: see `attention.Met`.
        meeting, came: of the threads, as in `engine.kernels.layers.Work`.
    """

    dx: Floats
    d: Floats
    d_ffn: Floats
    d_heads: Floats
    d_qk: Floats
    d_values: Floats
    q: NDArray[np.int8]
    q_ffn: NDArray[np.int8]
    q_qkv: NDArray[np.int8]
    scale: Floats
    acc: NDArray[np.int32]
    acc_ffn: NDArray[np.int32]
    acc_heads: NDArray[np.int32]
    held: Floats
    q_row: Floats
    queries: NDArray[np.int8]
    query_scales: Floats
    given: NDArray[np.int8]
    given_scales: Floats
    means: Floats
    keys: NDArray[np.uint8]
    values: NDArray[np.uint8]
    turned_over: NDArray[np.uint8]
    shares: Floats
    slopes: Floats
    meeting: NDArray[np.int64]
    came: NDArray[np.bool_]


def room_for(corrections: CorrectionArrays, constants: Constants, kv: int, head_dim: int, keys: int, threads: int) -> Room:
    """`Room` for a segment, whose rows reach so many keys of a head at most."""
    n, width, wide = corrections.attention_x.shape[1], corrections.attention_x.shape[2], corrections.gate_up_acc.shape[2]
    heads, ffn, normed = constants.heads * head_dim, wide // 2 if constants.gated else wide, n if constants.head_norm == BY_ALL else 0

    def packed(outputs: int, inputs: int) -> NDArray[np.uint8]:
        return np.asarray(empty((kv, *shape(outputs, inputs)), np.uint8))

    def near() -> Floats:
        return np.asarray(empty((n, constants.heads, int(corrections.steps)), f32))

    def product(outputs: int) -> NDArray[np.int32]:
        return np.asarray(empty((n, -(-outputs // OUTPUTS) * OUTPUTS + PAD), np.int32))

    return Room(
        empty((n, width), f32), empty((n, width), f32), empty((n, wide), f32), empty((n, heads), f32), empty((n, heads + kv * head_dim), f32), empty((n, kv * head_dim), f32),
        empty((n, width), np.int8), empty((n, wide), np.int8), empty((n, heads + 2 * kv * head_dim), np.int8), np.empty(n, f32),
        product(width), product(ffn), product(heads), empty((n if constants.parallel else 0, width), f32), np.empty(normed, f32),
        empty((n, constants.heads, head_dim), np.int8), np.empty((n, constants.heads), f32), empty((n, heads), np.int8), np.empty((n, constants.heads), f32),
        np.empty((n, constants.heads), f32), packed(keys, head_dim), packed(keys, head_dim), packed(head_dim, -(-keys // QUAD) * QUAD), near(), near(),
        np.zeros(WORDS, np.int64), np.zeros(threads, np.bool_),
    )  # fmt: skip
