"""A whole step of learning in one compiled call, as `engine.kernels.layers` is for the model. It equals `reference` bit for bit.

Threads share the rows of all but the products and the corrections' gradients, whose outputs they share. They meet where one needs what another has made.
"""

from __future__ import annotations

import numpy as np

from llmzip.engine.kernels.arguments import CacheArrays, Projected
from llmzip.engine.kernels.heads import BY_ALL, norm_all_queries, turned_row
from llmzip.engine.kernels.meeting import fail, gather, in_threads, meet
from llmzip.engine.kernels.products import product_share
from llmzip.engine.kernels.rows import by_address, f32, glue, hadamard, jit, norm_rows
from llmzip.learning.kernels.attention import Asked, Met, keys_back, pack_lane
from llmzip.learning.kernels.corrections import collect_share, update_layers
from llmzip.learning.kernels.gradients import (
    add_limited,
    gate_back,
    given_back,
    head_back,
    ordered_dot,
    quantise_limited,
    read_back,
    scaled_row,
    turned_back,
    unscale,
)
from llmzip.learning.numerics import COLUMNS
from llmzip.models.convert import VALUE_BASE
from llmzip.system.jit import call, gathered

_VALUE_BASE = f32(VALUE_BASE)


@jit
def _begin(given, trace, weights, constants, dx, room_q, scale, none, first, last):
    """Gradient of the stream that the head read, for rows [first, last)."""
    total = np.empty(COLUMNS, f32)
    if not constants.stream_block:
        norm_rows(trace.head_x, none, weights.read_head, np.bool_(False), constants, room_q, scale, first, last)
    for i in range(first, last):
        head_back(given.rows[i], given.scales[i], dx[i])
        read_back(dx[i], trace.head_x[i], scale[i], weights.read_head, constants, total)


@jit
def _down_rows(trace, weights, constants, layer, room, first, last):
    """Gradients of what `down` gave, and as int8 rows."""
    y, total = np.empty(room.dx.shape[1], f32), np.empty(COLUMNS, f32)
    acc, row, col = trace.down_acc[layer], trace.down_row[layer], weights.down_scale[layer]
    gain, bias = weights.down_gain[layer], weights.down_bias[layer]
    for i in range(first, last):
        given_back(room.dx[i], acc[i], col, bias, row[i], gain, constants.eps, y, room.d[i], total)
        room.scale[i] = scaled_row(room.d[i], col, y, room.q[i])


@jit
def _gate_rows(trace, weights, constants, layer, room, first, last):
    """Gradients of what `gate_up` gave, and as int8 rows, from the product of `down`."""
    gated = room.d_ffn.shape[1]
    h, e = np.empty(gated // 2 if constants.gated else gated, f32), np.empty(gated, f32)
    col, bias, row = weights.gate_up_scale[layer], weights.gate_up_bias[layer], trace.ffn_row[layer]
    for i in range(first, last):
        unscale(room.acc_ffn[i], room.scale[i], f32(1) / trace.down_row[layer, i], h)
        hadamard(h, constants.block, constants.factor)
        gate_back(h, trace.gate_up_acc[layer, i], col, row[i], bias, constants, room.d_ffn[i])
        room.scale[i] = scaled_row(room.d_ffn[i], col, e, room.q_ffn[i])


@jit
def _o_rows(trace, weights, constants, layer, room, first, last):
    """Ends feed-forward; then gradients of what `o` gave, and as int8 rows."""
    y, back, total = np.empty(room.dx.shape[1], f32), np.empty(room.dx.shape[1], f32), np.empty(COLUMNS, f32)
    acc, row, col = trace.o_acc[layer], trace.o_row[layer], weights.o_scale[layer]
    for i in range(first, last):
        unscale(room.acc[i], room.scale[i], f32(1), back)
        read_back(back, trace.ffn_x[layer, i], trace.ffn_row[layer, i], weights.read_ffn[layer], constants, total)
        if constants.parallel:
            for j in range(back.shape[0]):
                room.held[i, j] = room.dx[i, j] + back[j]
        else:
            add_limited(room.dx[i], back)
        given_back(room.dx[i], acc[i], col, weights.o_bias[layer], row[i], weights.o_gain[layer], constants.eps, y, room.d[i], total)
        room.scale[i] = scaled_row(room.d[i], col, y, room.q[i])


@jit
def _head_rows(trace, given, weights, constants, layer, room, first, last):
    """Gradients of attention's outputs, from the product of `o`, also as int8; and queries."""
    d = room.queries.shape[2]
    y, turned, out, total = np.empty(d, f32), np.empty(d, f32), np.empty(d, f32), np.empty(COLUMNS, f32)
    qkv = Projected(
        trace.queries_keys[layer], trace.attention_row[layer], weights.qkv_scale[layer], weights.bias[layer], weights.q_gain[layer],
        weights.k_gain[layer], room.q_row, room.q_row,
    )  # fmt: skip
    if constants.head_norm == BY_ALL:
        norm_all_queries(qkv, constants.eps, first, last)
    turns = given.turns[given.ways[layer]]
    for i in range(first, last):
        row = trace.o_row[layer, i]
        unscale(room.acc_heads[i], room.scale[i], f32(1) / row, room.d_heads[i])
        turned_row(qkv, i, turns[i % trace.steps].ctypes.data, constants, y, turned, room.queries[i], room.query_scales[i])
        for h in range(constants.heads):
            of, q = room.d_heads[i, h * d : (h + 1) * d], trace.o_q[layer, i, h * d : (h + 1) * d]
            for j in range(d):
                out[j] = f32(q[j]) * row
            room.given_scales[i, h] = quantise_limited(of, room.given[i, h * d : (h + 1) * d])
            room.means[i, h] = ordered_dot(of, out, total)


@jit
def _qkv_rows(trace, given, weights, constants, layer, room, first, last):
    """Gradients of queries, keys and values as int8 rows."""
    d, kv = room.queries.shape[2], room.d_values.shape[1]
    width, queries = room.q_qkv.shape[1], room.d_qk.shape[1] - kv
    scale, bias, turns = weights.qkv_scale[layer], weights.bias[layer], given.turns[given.ways[layer]]
    col, e, all_of, y, total = (
        np.empty(width, f32),
        np.empty(width, f32),
        np.empty(width, f32),
        np.empty(queries, f32),
        np.empty(COLUMNS, f32),
    )
    for j in range(width):
        col[j] = scale[j] * (_VALUE_BASE if j >= queries + kv else f32(1))
    for i in range(first, last):
        acc, row, cs = trace.queries_keys[layer, i], trace.attention_row[layer, i], turns[i % trace.steps]
        for j in range(queries):
            all_of[j] = room.d_qk[i, j] * constants.score
        for j in range(kv):
            all_of[queries + j] = room.d_qk[i, queries + j]
            all_of[queries + kv + j] = room.d_values[i, j]
        turned_back(
            all_of[:queries], acc[:queries], scale[:queries], bias[:queries], weights.q_gain[layer], row, cs, d, constants, y, total
        )
        turned_back(
            all_of[queries : queries + kv], acc[queries:], scale[queries : queries + kv], bias[queries : queries + kv], weights.k_gain[layer],
            row, cs, d, constants, y, total,
        )  # fmt: skip
        room.scale[i] = scaled_row(all_of, col, e, room.q_qkv[i])


@jit
def _end_rows(trace, weights, constants, layer, room, first, last):
    """Ends attention: the gradient of the stream that the layer read."""
    back, total = np.empty(room.dx.shape[1], f32), np.empty(COLUMNS, f32)
    for i in range(first, last):
        if constants.parallel:
            for j in range(back.shape[0]):
                room.dx[i, j] = room.held[i, j]
        unscale(room.acc[i], room.scale[i], f32(1), back)
        read_back(back, trace.attention_x[layer, i], trace.attention_row[layer, i], weights.read_attention[layer], constants, total)
        add_limited(room.dx[i], back)


@glue
def queries_arguments(amx, corrections, cache, given, layer, lane, room, share, shares):
    """The arguments of `queries_back` for a layer and a lane; its own are as for `learn_share`."""
    here = CacheArrays(
        cache.k, cache.ks, cache.v, cache.vs, cache.base[layer], cache.slots[layer], cache.windows[layer], cache.sinks[layer], cache.slot[layer]
    )  # fmt: skip
    asked = Asked(room.queries, room.query_scales, room.given, room.given_scales, room.means)
    met = Met(room.keys, room.values, room.turned_over, room.shares, room.slopes)
    steps, before, top, total = np.int64(corrections.steps), np.int64(given.before), corrections.top[layer], corrections.total[layer]
    return amx, here, lane, steps, before, asked, met, top, total, room.d_qk, share, shares


@glue
def _layer_back(queries_back, amx, corrections, cache, given, weights, transposed, learned, constants, layer, room, none, share, shares):
    trace, meeting, n = corrections, room.meeting, room.dx.shape[0]
    first, last = share * n // shares, (share + 1) * n // shares
    _down_rows(trace, weights, constants, layer, room, first, last)
    meet(meeting, shares)
    product_share(amx, room.q, transposed.down[layer], room.acc_ffn, share, shares)
    collect_share(room.d, none, trace.down_z[layer], learned.down_g[layer], share, shares)
    meet(meeting, shares)
    _gate_rows(trace, weights, constants, layer, room, first, last)
    meet(meeting, shares)
    product_share(amx, room.q_ffn, transposed.gate_up[layer], room.acc, share, shares)
    collect_share(room.d_ffn, trace.ffn_row[layer], trace.ffn_z[layer], learned.gate_up_g[layer], share, shares)
    meet(meeting, shares)
    _o_rows(trace, weights, constants, layer, room, first, last)
    meet(meeting, shares)
    product_share(amx, room.q, transposed.o[layer], room.acc_heads, share, shares)
    meet(meeting, shares)
    _head_rows(corrections, given, weights, constants, layer, room, first, last)
    meet(meeting, shares)
    steps = np.int64(corrections.steps)
    for lane in range(n // steps):
        arguments = queries_arguments(amx, corrections, cache, given, layer, lane, room, share, shares)
        pack_lane(arguments[1], lane, steps, np.int64(room.queries.shape[2]), arguments[6], share, shares)
        meet(meeting, shares)
        if not call(queries_back, arguments):
            fail(meeting)
        meet(meeting, shares)
    width = room.d_qk.shape[1] - room.d_values.shape[1]
    keys_back(room, steps, room.d_heads, room.d_qk[:, width:], room.d_values, share, shares)
    meet(meeting, shares)
    collect_share(room.d_values, trace.attention_row[layer], trace.attention_z[layer], learned.values_g[layer], share, shares)
    if layer:
        _qkv_rows(trace, given, weights, constants, layer, room, first, last)
        meet(meeting, shares)
        product_share(amx, room.q_qkv, transposed.qkv[layer], room.acc, share, shares)
        meet(meeting, shares)
        _end_rows(trace, weights, constants, layer, room, first, last)


@by_address
def learn_share(queries_back, amx, corrections, cache, given, weights, transposed, learned, constants, room, no_product, share, shares):
    """A thread's share of a step of learning. If fewer threads come than there are shares, nothing is done.

    queries_back: its address; corrections: `CorrectionArrays`; cache: `CacheArrays` of all layers, whose `slot` is where the segment ends; given: `Given`; weights: `LayerWeights`, of which the packed ones are not read; transposed: `Transposed`; learned: `Learned`;
    constants: `Constants`; room: `Room`; no_product: an `Added` of size 0; amx: `amx.WITH` or `amx.WITHOUT`.
    """
    if gather(room.meeting, shares):
        room.came[share] = True
        n, none, layers = room.dx.shape[0], np.empty(0, f32), corrections.values.shape[0]
        first, last = share * n // shares, (share + 1) * n // shares
        _begin(given, corrections, weights, constants, room.dx, room.q, room.scale, no_product, first, last)
        for back in range(layers):
            _layer_back(
                queries_back,
                amx,
                corrections,
                cache,
                given,
                weights,
                transposed,
                learned,
                constants,
                np.int64(layers - 1 - back),
                room,
                none,
                share,
                shares,
            )
        meet(room.meeting, shares)
        count = np.int64(learned.steps)
        values, gate_up, down = corrections.values, corrections.gate_up, corrections.down
        update_layers(_flat(values), _flat(learned.values_squares), _flat(learned.values_g), learned.rates[0], count, share, shares)
        update_layers(_flat(gate_up), _flat(learned.gate_up_squares), _flat(learned.gate_up_g), learned.rates[1], count, share, shares)
        update_layers(_flat(down), _flat(learned.down_squares), _flat(learned.down_g), learned.rates[2], count, share, shares)


@glue
def _flat(x):
    return x.reshape((x.shape[0], x.shape[1] * x.shape[2]))


@jit
def learn_shares(learn, queries_back, amx, corrections, cache, given, weights, transposed, learned, constants, room, no_product, threads):
    """Let `threads` threads call `learn`, which is the address of `learn_share`, and that of `queries_back`. If one fails, `has_failed` says so."""
    first = queries_back, amx, corrections, cache, given, weights, transposed, learned, constants, room, no_product
    code, where = gathered(learn, first, (np.int64(0), threads))
    in_threads(code, where, room.meeting, threads)
