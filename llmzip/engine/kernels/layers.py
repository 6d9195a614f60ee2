"""All layers of the transformer in one compiled call; `compiled` says why.

Threads share the outputs of a product when rows are few, since reading weights is then what takes time. When rows are many, threads share
the rows, and take them a few at a time through all operations so that these stay in the fastest caches. Threads meet where one needs
what another has made.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmzip.engine.buffers import empty
from llmzip.engine.kernels.amx import enabled
from llmzip.engine.kernels.arguments import Added, CacheArrays, Constants, Floats, LayerWeights, Noted, Projected, Turns
from llmzip.engine.kernels.corrections import correct, correct_share, corrected, note_rows, place_in
from llmzip.engine.kernels.heads import BY_ALL, norm_all_heads, store_rows
from llmzip.engine.kernels.meeting import WORDS, fail, gather, in_threads, meet
from llmzip.engine.kernels.packing import OUTPUTS, QUAD
from llmzip.engine.kernels.products import PAD, ask_for_share, product, product_share
from llmzip.engine.kernels.rows import activate_rows, by_address, f32, glue, jit, norm_rows, quantise_rows, room_i8, room_i32
from llmzip.engine.kernels.tracing import low_values, note_attention_reads, note_ffn_reads, note_gate_up, note_given, note_heads
from llmzip.system.jit import call, gathered

SLICE = 32  # rows taken through a layer together
_TILED_SLICE = 64  # by AMX, which is so fast that weights from the third cache should serve more of them
MANY_ROWS = 2 * SLICE  # a thread, from which on threads share rows


class Work(NamedTuple):
    """What lies between the operations of a layer, for n rows. Arrays from `acc` on are for few rows only, and otherwise have none.

    Attributes:
        qkv: int32 [n, columns of `qkv`].
        o: float32 [n, q].
        row: of what a product reads of the stream, float32 [n].
        q_row, k_row: as in `Projected`, float32 [n] if heads are normed together, otherwise [0].
        acc, wide: other products, int32 [n, their columns].
        q_o, row_o, q_f, row_f: what `o` and `down` read, int8 [n, their inputs] and float32 [n].
        meeting: of the threads.
        came: of each thread, whether it saw all of them come; bool [threads].
        z: sums of rows with the signs of corrections, int32 [n, OUTPUTS + PAD]; [0, ...] if nothing is corrected.
    """

    qkv: NDArray[np.int32]
    o: Floats
    row: Floats
    q_row: Floats
    k_row: Floats
    acc: NDArray[np.int32]
    wide: NDArray[np.int32]
    q_o: NDArray[np.int8]
    row_o: Floats
    q_f: NDArray[np.int8]
    row_f: Floats
    meeting: NDArray[np.int64]
    came: NDArray[np.bool_]
    z: NDArray[np.int32]


@glue
def columns(w):
    """Of an array for the products of packed weights w."""
    return w.shape[0] * OUTPUTS + PAD


def work_for(n: int, threads: int, weights: LayerWeights, constants: Constants, corrected: bool = False) -> Work:
    """`Work` for n rows and a number of threads."""
    few, normed = n if n < MANY_ROWS * threads else 0, n if constants.head_norm == BY_ALL else 0
    heads_width, ffn = weights.o.shape[2] * QUAD, weights.down.shape[2] * QUAD
    qkv, o, gate_up = (w.shape[1] * OUTPUTS + PAD for w in (weights.qkv, weights.o, weights.gate_up))
    return Work(
        qkv=empty((n, qkv), np.int32), o=empty((n, heads_width), f32), row=np.empty(n, f32), q_row=np.empty(normed, f32),
        k_row=np.empty(normed, f32), acc=empty((few, o), np.int32), wide=empty((few, gate_up), np.int32), q_o=empty((few, heads_width), np.int8),
        row_o=np.empty(few, f32), q_f=empty((few, ffn), np.int8), row_f=np.empty(few, f32), meeting=np.zeros(WORDS, np.int64),
        came=np.zeros(threads, np.bool_), z=empty((n if corrected else 0, OUTPUTS + PAD), np.int32),
    )  # fmt: skip


@glue
def no_product():
    """What is added to the stream before the first product."""
    none = np.empty(0, f32)
    return Added(np.empty((0, 0), np.int32), none, none, none, none)


@glue
def _gain_before(weights, i):
    """Gain of what layer i reads, or of what the head reads after the last."""
    return weights.read_attention[i] if i < weights.qkv.shape[0] else weights.read_head


@glue
def attention_arguments(weights, i, turns, constants, cache, corrections, work, share, shares):
    """The arguments of `attend` for layer i, from `qkv` on; its own are as for `few_rows`."""
    scaled = Projected(
        work.qkv, work.row, weights.qkv_scale[i], weights.bias[i], weights.q_gain[i], weights.k_gain[i], work.q_row, work.k_row
    )
    here = CacheArrays(cache.k, cache.ks, cache.v, cache.vs, cache.base[i], cache.slots[i], cache.windows[i], cache.sinks[i], cache.slot[i])
    way = Turns(turns.here[turns.ways[i]], turns.pinned[turns.ways[i]])
    layer = i if corrected(corrections) else 0
    noted = Noted(corrections.top[layer], corrections.total[layer], corrections.steps, corrections.at)
    return scaled, way, constants, here, noted, work.o, share, shares


@glue
def _attend(attention, arguments, meeting):
    """The attention of a layer, once all rows of `qkv` are there, until all of `o` are. attention: of `attend`, by `gathered`."""
    scaled, way, constants, here, _, _, share, shares = arguments
    n, several = scaled.acc.shape[0], way.here.shape[0] > 1
    first, last = share * n // shares, (share + 1) * n // shares
    if constants.head_norm == BY_ALL:
        norm_all_heads(scaled, constants.eps, first, last)
        if not several:
            meet(meeting, shares)
    if several:
        store_rows(scaled, way.here, constants, 2 * way.here.shape[2], here, first, last)
        meet(meeting, shares)
    if not call(attention[0], (attention[1], *arguments)):
        fail(meeting)
    meet(meeting, shares)


@by_address
def few_rows(attention, amx, x, weights, turns, constants, cache, corrections, q, scale, work, share, shares):
    """A thread's share of all layers and the last norm: x float32 [n, width], changed in place, to q int8 [n, width] and scale float32 [n].

    attention: `attend` without its first three arguments, by `gathered`; weights: `LayerWeights`; turns: `TurnTables`; constants: `Constants`; cache: `CacheArrays` of all layers; corrections:
    `CorrectionArrays`; work: `Work`; amx: `amx.WITH` or `amx.WITHOUT`. If fewer threads come than there are shares, nothing is done.
    """
    if not gather(work.meeting, shares):
        return
    work.came[share] = True
    n, layers, meeting, late = x.shape[0], weights.qkv.shape[0], work.meeting, np.bool_(False)  # no literal, see `jit`
    first, last = share * n // shares, (share + 1) * n // shares
    row, acc, wide = work.row, work.acc, work.wide
    added, zero, t = no_product(), np.int64(0), turns.here.shape[1]
    for i in range(layers):
        norm_rows(x, added, weights.read_attention[i], late, constants, q, row, first, last)
        if corrected(corrections):
            note_attention_reads(amx, corrections, i, x, q, row, work.z, first, last, zero, t)
        ask_for_share(weights.qkv[i], share, shares)
        meet(meeting, shares)
        product_share(amx, q, weights.qkv[i], work.qkv, share, shares)
        if corrected(corrections):
            correct_share(work.qkv, work.z, corrections.values[i], low_values(corrections), weights.qkv[i], share, shares)
        meet(meeting, shares)
        _attend(
            attention,
            attention_arguments(weights, i, turns, constants, cache, corrections, work, share, shares),
            work.meeting,
        )
        quantise_rows(work.o, work.q_o, work.row_o, first, last)
        if corrected(corrections):
            note_heads(corrections, i, work.qkv, work.q_o, work.row_o, first, last, zero, t)
        ask_for_share(weights.o[i], share, shares)
        meet(meeting, shares)
        product_share(amx, work.q_o, weights.o[i], acc, share, shares)
        meet(meeting, shares)
        added = Added(acc, weights.o_scale[i], work.row_o, weights.o_gain[i], weights.o_bias[i])
        if corrected(corrections):
            note_given(corrections, corrections.o_acc[i], acc, first, last, zero, t)
        norm_rows(x, added, weights.read_ffn[i], constants.parallel, constants, q, row, first, last)
        if corrected(corrections):
            note_ffn_reads(amx, corrections, i, constants.parallel, x, q, row, work.z, first, last, zero, t)
        ask_for_share(weights.gate_up[i], share, shares)
        meet(meeting, shares)
        product_share(amx, q, weights.gate_up[i], wide, share, shares)
        if corrected(corrections):
            correct_share(wide, work.z, corrections.gate_up[i], zero, weights.gate_up[i], share, shares)
        meet(meeting, shares)
        activate_rows(wide, weights.gate_up_scale[i], row, weights.gate_up_bias[i], constants, work.q_f, work.row_f, first, last)
        if corrected(corrections):
            note_gate_up(amx, corrections, i, wide, work.q_f, work.row_f, work.z, first, last, zero, t)
        ask_for_share(weights.down[i], share, shares)
        meet(meeting, shares)
        product_share(amx, work.q_f, weights.down[i], acc, share, shares)
        if corrected(corrections):
            correct_share(acc, work.z, corrections.down[i], zero, weights.down[i], share, shares)
        meet(meeting, shares)
        if corrected(corrections):
            note_given(corrections, corrections.down_acc[i], acc, first, last, zero, t)
        added = Added(acc, weights.down_scale[i], work.row_f, weights.down_gain[i], weights.down_bias[i])
    norm_rows(x, added, weights.read_head, late, constants, q, scale, first, last)
    if corrected(corrections):
        note_rows(place_in(corrections), x, corrections.head_x, first, last, zero, t)


@jit
def _first_product(amx, x, weights, i, corrections, q, row, qkv, z, first, t):
    """Queries, keys and values of layer i for some rows, from `first` on."""
    product(amx, q, weights.qkv[i], qkv)
    if corrected(corrections):
        zero = np.int64(0)
        note_attention_reads(amx, corrections, i, x, q, row, z, zero, x.shape[0], first, t)
        correct(qkv, z, corrections.values[i], low_values(corrections), zero, np.int64(corrections.values.shape[2]))


@glue
def _to_next(amx, x, weights, i, constants, corrections, q, work, scratch, first, last, t):
    """Of rows [first, last), which `scratch` has room for: from the attention of layer i to the next layer's norm and, if there is one, its queries, keys and values."""
    q_o, row_o, q_f, row_f, acc, wide = scratch
    zero, m, late = np.int64(0), last - first, np.bool_(False)  # no literals, see `jit`
    xs, qs, rows, z = x[first:last], q[first:last], work.row[first:last], work.z[first:last]
    quantise_rows(work.o[first:last], q_o, row_o, zero, m)
    product(amx, q_o[:m], weights.o[i], acc)
    if corrected(corrections):
        note_heads(corrections, i, work.qkv[first:last], q_o, row_o, zero, m, first, t)
        note_given(corrections, corrections.o_acc[i], acc, zero, m, first, t)
    added = Added(acc, weights.o_scale[i], row_o, weights.o_gain[i], weights.o_bias[i])
    norm_rows(xs, added, weights.read_ffn[i], constants.parallel, constants, qs, rows, zero, m)
    product(amx, qs, weights.gate_up[i], wide)
    if corrected(corrections):
        note_ffn_reads(amx, corrections, i, constants.parallel, xs, qs, rows, z, zero, m, first, t)
        correct(wide[:m], z, corrections.gate_up[i], zero, zero, np.int64(corrections.gate_up.shape[2]))
    activate_rows(wide, weights.gate_up_scale[i], rows, weights.gate_up_bias[i], constants, q_f, row_f, zero, m)
    product(amx, q_f[:m], weights.down[i], acc)
    if corrected(corrections):
        note_gate_up(amx, corrections, i, wide, q_f, row_f, z, zero, m, first, t)
        correct(acc[:m], z, corrections.down[i], zero, zero, np.int64(corrections.down.shape[2]))
        note_given(corrections, corrections.down_acc[i], acc, zero, m, first, t)
    added = Added(acc, weights.down_scale[i], row_f, weights.down_gain[i], weights.down_bias[i])
    norm_rows(xs, added, _gain_before(weights, i + 1), late, constants, qs, rows, zero, m)
    if i + 1 < weights.qkv.shape[0]:
        _first_product(amx, xs, weights, i + 1, corrections, qs, rows, work.qkv[first:last], z, first, t)
    elif corrected(corrections):
        note_rows(place_in(corrections), xs, corrections.head_x, zero, m, first, t)


@by_address
def many_rows(attention, amx, x, weights, turns, constants, cache, corrections, q, scale, work, share, shares):
    """As `few_rows`, for many rows, a few of which a thread takes through all between two attentions."""
    if not gather(work.meeting, shares):
        return
    work.came[share] = True
    n, width, ffn = x.shape[0], weights.o.shape[2] * QUAD, weights.down.shape[2] * QUAD
    start, stop = share * n // shares, (share + 1) * n // shares
    piece = _TILED_SLICE if enabled(amx) else SLICE
    scratch = (
        room_i8(piece, width),
        np.empty(piece, f32),
        room_i8(piece, ffn),
        np.empty(piece, f32),
        room_i32(piece, columns(weights.o[0])),
        room_i32(piece, columns(weights.gate_up[0])),
    )
    norm_rows(x, no_product(), weights.read_attention[0], np.bool_(False), constants, q, work.row, start, stop)
    t = turns.here.shape[1]
    _first_product(
        amx,
        x[start:stop],
        weights,
        np.int64(0),
        corrections,
        q[start:stop],
        work.row[start:stop],
        work.qkv[start:stop],
        work.z[start:stop],
        start,
        t,
    )
    for i in range(weights.qkv.shape[0]):
        meet(work.meeting, shares)
        _attend(
            attention,
            attention_arguments(weights, i, turns, constants, cache, corrections, work, share, shares),
            work.meeting,
        )
        for first in range(start, stop, piece):
            _to_next(amx, x, weights, i, constants, corrections, q, work, scratch, first, min(first + piece, stop), t)
    for i in range(start, stop):
        scale[i] = work.row[i]


@jit
def run_shares(run, attention, amx, tiles, vectors, group, x, weights, turns, constants, cache, corrections, q, scale, work, threads):
    """Let `threads` threads call `run`, which is the address of `few_rows` or `many_rows`. If one fails, `has_failed` says so.

    attention: address of `attend`; tiles, vectors, group: its first arguments. Only these functions are compiled for each size of heads.
    """
    zero = np.int64(0)
    of_layer = attention_arguments(weights, zero, turns, constants, cache, corrections, work, zero, threads)
    sized = gathered(attention, (tiles, vectors, group), of_layer)
    code, where = gathered(run, (sized, amx, x, weights, turns, constants, cache, corrections, q, scale, work), (zero, threads))
    in_threads(code, where, work.meeting, threads)
