"""Integer softmax attention, compiled by numba. It equals `reference.attend` bit for bit.

The rules are those of `kernels`. Work is split over threads by lane, head and token.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from llmzip.engine import numerics as nm
from llmzip.engine.cache import KEY_BLOCK
from llmzip.engine.kernels.amx import WITHOUT
from llmzip.engine.kernels.attention_mix import mix_values
from llmzip.engine.kernels.attention_simd import PAIR, UNSEEN, exponentials, scores
from llmzip.engine.kernels.attention_steps import at_most, number, several, tiled
from llmzip.engine.kernels.attention_tiles import SLOTS, tile_scores
from llmzip.engine.kernels.attention_tiles import begin as tiles_begin
from llmzip.engine.kernels.attention_tiles import end as tiles_end
from llmzip.engine.kernels.heads import group_queries, store_head, turn_queries
from llmzip.engine.kernels.heads_simd import scale_mixed
from llmzip.engine.kernels.packing import QUAD
from llmzip.engine.kernels.quads import operand, parts
from llmzip.engine.kernels.rows import ZERO, counts_nothing, f32, glue, i8, i32, jit, room_f32, room_i8, room_i32
from llmzip.engine.kernels.simd import LINE, VECTOR, ask, largest

_WEIGHT_SUM, _UNSEEN = f32(nm.WEIGHT_SUM), f32(UNSEEN)
_PAIR = PAIR * KEY_BLOCK  # keys
STEPS = 64  # of one head, one after another: its keys and values stay in the cache of the processor


class _Room(NamedTuple):
    """Room for the work on m queries that share a key head, a thread's own.

    Attributes:
        u: scores, and then weights that are not normalised; float32 [m, slots].
        far: scores of the sinks, if they are not apart from near keys; float32 [m, SLOTS].
        w: weights, by `weigh`; int8 [m, parts * slots].
        y, rest, turned: queries before they turn, float32 [m, head_dim], the scales that they still need, [m], and one that is turned.
        q, ready, sums, scales: queries as `turn_queries` gives them.
        tops: maxima of the scores, float32 [m, VECTOR].
        r: by which weights are normalised, float32 [m].
        mixed, above: sums of values with the first plane of weights, and by tiles also those with the second; int32 [m, head_dim].
        seen: of each step, as `scores` takes it, of near keys and of sinks; int32 [2, m, 2].
        v_top: largest scale of the values seen, of each step; float32 [m].
        list, runs: of blocks and quads, int64 [slots / QUAD], and of runs of SLOTS slots, [slots / SLOTS].
        large: by `weigh`; int16 [blocks].
    """

    u: Any
    far: Any
    w: Any
    y: Any
    rest: Any
    turned: Any
    q: Any
    ready: Any
    sums: Any
    scales: Any
    tops: Any
    r: Any
    mixed: Any
    above: Any
    seen: Any
    v_top: Any
    list: Any
    runs: Any
    large: Any


@glue
def _room(m, slots, d):
    q = room_i8(m, d)
    return _Room(
        room_f32(m, slots),
        room_f32(m, SLOTS),
        room_i8(m, parts() * slots),
        room_f32(m, d),
        np.empty(m, f32),
        room_f32(1, d)[0],
        q,
        operand(q),
        np.empty(m, i32),
        np.empty(m, f32),
        room_f32(m, VECTOR),
        np.empty(m, f32),
        room_i32(m, d),
        room_i32(m, d),
        np.empty((2, m, 2), i32),
        np.empty(m, f32),
        np.empty(slots // QUAD, np.int64),
        np.empty(slots // SLOTS, np.int64),
        np.empty(slots // KEY_BLOCK, np.int16),
    )


@jit
def _scores(steps, vectors, group, q, sums, qs, k, ks, u, stride, seen, first, pairs, tops, ahead, lines):
    """`scores`, so that its code is there once, as in the functions below. They take addresses, as references to arrays would be counted."""
    scores(steps, vectors, group, q, sums, qs, k, ks, u, stride, seen, first, pairs, tops, ahead, lines)


@jit
def _tile_scores(steps, vectors, group, q, sums, qs, k, ks, u, stride, seen, first, runs, tops):
    tile_scores(steps, vectors, group, q, sums, qs, k, ks, u, stride, seen, first, runs, tops)


@jit
def _exponentials(u, pairs, top):
    return exponentials(u, pairs, top)


@jit
def _largest_scale(vs, lo, hi, top):
    """Maximum of vs[lo:hi] and `top`."""
    inner, outer = (lo + VECTOR - 1) // VECTOR * VECTOR, hi // VECTOR * VECTOR
    if inner < outer:
        top = max(top, largest(vs.ctypes.data + 4 * inner, (outer - inner) // VECTOR))
    else:
        inner = outer = hi
    for j in range(lo, inner):
        top = max(top, vs[j])
    for j in range(outer, hi):
        top = max(top, vs[j])
    return top


@glue
def _see(count, hi, window, sinks, vs, room):
    """What `count` steps see, the first of them up to key `hi`, into `seen` and `v_top` of the room. Returns (first key that any of them sees near, number of sinks)."""
    seen, v_top = room.seen, room.v_top
    last = hi + count - 1
    few, first, start = min(sinks, last), max(min(sinks, hi), hi - window), max(min(sinks, last), last - window)
    shared = _largest_scale(vs, start, hi, ZERO)
    for s in range(count):
        end = hi + s
        sunk = min(sinks, end)
        lo = max(sunk, end - window)
        seen[0, s, 0], seen[0, s, 1] = i32(lo), i32(end - lo)
        seen[1, s, 0], seen[1, s, 1] = i32(0), i32(sunk)
        top = _largest_scale(vs, lo, min(start, end), shared)
        top = _largest_scale(vs, max(lo, hi), end, top)
        v_top[s] = _largest_scale(vs, np.int64(0), sunk, top)
    return first, few


@glue
def _span(steps):
    """Keys are scored in multiples of so many."""
    return SLOTS if tiled(steps) else _PAIR


@glue
def _score(steps, vectors, group, room, which, k, ks, u, stride, first, last, ahead, lines):
    """`scores` of keys [first, last), whole spans; addresses k, ks and ahead are those of key 0, u that of key `first`."""
    d = vectors.ndim * VECTOR
    q, sums, qs, seen, tops = (
        room.ready.ctypes.data,
        room.sums.ctypes.data,
        room.scales.ctypes.data,
        room.seen.ctypes.data + room.seen.strides[0] * which,
        room.tops.ctypes.data,
    )
    n = (last - first) // _span(steps)
    if tiled(steps):
        _tile_scores(steps, vectors, group, q, sums, qs, k + d * first, ks + 4 * first, u, stride, seen, first, n, tops)
    else:
        _scores(
            steps, vectors, group, q, sums, qs, k + d * first, ks + 4 * first, u, stride, seen, first, n, tops, ahead + d * first, lines
        )


@counts_nothing
def _attend(steps, vectors, group, qkv, row, step, h, turns, constants, cache, noted, begin, room, out, ahead, lines):
    """Attention of `steps` steps from `step` on of one lane, in rows from `row` on, with key head h, whose first slot is `begin`."""
    count, queries, d, span = number(steps), group.ndim, vectors.ndim * VECTOR, _span(steps)
    m, slots, columns = count * queries, room.u.shape[1], queries * d
    scale_v = cache.vs[begin : begin + cache.slots[h]]
    k, ks, v, vs = cache.k.ctypes.data + begin * d, cache.ks.ctypes.data + 4 * begin, cache.v.ctypes.data + begin * d, scale_v.ctypes.data
    u, tops = room.u, room.tops
    first, few = _see(count, cache.slot[h] + step + 1, cache.windows[h], cache.sinks[h], scale_v, room)
    start, stop = first // span * span, (cache.slot[h] + step + count + span - 1) // span * span
    apart = few > 0 and start > 0
    y, rest, q, ready, sums, scales = room.y[:m], room.rest[:m], room.q[:m], room.ready[:m], room.sums[:m], room.scales[:m]
    for s in range(count):
        group_queries(qkv, row + s, h * columns, constants, y, rest, s * queries, (s + 1) * queries)
    for i in range(m):
        for j in range(VECTOR):
            tops[i, j] = _UNSEEN
    turn_queries(y, rest, turns.here.ctypes.data + turns.here.strides[0] * step, queries, constants, room.turned, q, ready, sums, scales)
    tiles_begin(steps, m)
    stride, at, best = 4 * slots, u.ctypes.data, tops.ctypes.data
    _score(steps, vectors, group, room, 0, k, ks, at + 4 * start, stride, start, stop, v, lines)
    if few:
        turn_queries(
            y, rest, turns.pinned.ctypes.data + turns.pinned.strides[0] * step, queries, constants, room.turned, q, ready, sums, scales
        )
        far, width = (at, stride) if apart else (room.far.ctypes.data, 4 * room.far.shape[1])
        _score(steps, vectors, group, room, 1, k, ks, far, width, 0, span, v, 0)
        if not apart:
            for i in range(m):
                for j in range(room.seen[1, i // queries, 1]):
                    u[i, j] = room.far[i, j]
    for i in range(m):
        top = largest(best + 4 * VECTOR * i, 1)
        total = _exponentials(at + stride * i + 4 * start, (stop - start) // _PAIR, top)
        if apart:
            total = i32(total + _exponentials(at + stride * i, span // _PAIR, top))
        room.r[i] = _WEIGHT_SUM / (f32(total) * room.v_top[i // queries])
        if noted.top.shape[0]:
            at_row = (row - step) // turns.here.shape[0] * noted.steps + noted.at + step + i // queries
            noted.top[at_row, h * queries + i % queries] = top
            noted.total[at_row, h * queries + i % queries] = f32(total)
    mix_values(steps, vectors, group, room, vs, v, start, stop, apart, ahead, lines)
    tiles_end(steps)
    mixed, to = room.mixed.ctypes.data, out.ctypes.data + out.strides[0] * row + 4 * h * columns
    for i in range(m):
        scale = room.v_top[i // queries] / _WEIGHT_SUM
        scale_mixed(mixed + 4 * d * i, scale, to + out.strides[0] * (i // queries) + 4 * d * (i % queries), vectors.ndim)


@glue
def _units(tiles, vectors, group, qkv, turns, constants, cache, noted, out, first, last):
    """Attention of units of work [first, last); see `attend`."""
    one, some = several(WITHOUT, np.empty((0,) * 16, i8)), several(tiles, group)
    t, kv, d = turns.here.shape[0], cache.base.shape[0], vectors.ndim * VECTOR
    base, slots, windows, slot = cache.base, cache.slots, cache.windows, cache.slot
    runs = (t + STEPS - 1) // STEPS
    lines = d * KEY_BLOCK // LINE if t == 1 else 0  # of a block of keys or values: with more steps, they are in a cache
    most = slots[0]
    for h in range(1, kv):
        most = max(most, slots[h])
    room = _room(number(some) * group.ndim, most, d)
    for i in range(first, last):
        lane, run, h = i // (runs * kv), i // kv % runs, i % kv
        begin = base[h] + lane * slots[h]
        h_next = (h + 1) % kv
        begin_next = base[h_next] + (lane + (h_next == 0)) * slots[h_next]
        low = max(np.int64(0), slot[h_next] - windows[h_next]) // _PAIR * _PAIR
        ahead = cache.k.ctypes.data + (begin_next + low) * d
        if t == 1:  # the next unit writes there
            ask(cache.k.ctypes.data + (begin_next + slot[h_next] // KEY_BLOCK * KEY_BLOCK) * d, KEY_BLOCK * d // LINE)
            ask(cache.v.ctypes.data + (begin_next + slot[h_next] // QUAD * QUAD) * d, QUAD * d // LINE)
            k, ks, v, vs = cache.k[begin * d :], cache.ks[begin:], cache.v[begin * d :], cache.vs[begin:]
            store_head(qkv, lane, turns.here.ctypes.data, constants, kv, h, d, k, ks, v, vs, slot[h])
        step, end = run * STEPS, min((run + 1) * STEPS, t)
        while step < end and t > 1:
            now = at_most(some, end - step)
            if number(now) > end - step:
                break
            _attend(now, vectors, group, qkv, lane * t + step, step, h, turns, constants, cache, noted, begin, room, out, ahead, lines)
            step += number(now)
        while step < end:
            _attend(one, vectors, group, qkv, lane * t + step, step, h, turns, constants, cache, noted, begin, room, out, ahead, lines)
            step += 1


@jit
def attend(tiles, vectors, group, qkv, turns, constants, cache, noted, out, share, shares):
    """A thread's share of `reference.attend` for all queries of one layer.

    tiles: `amx.WITH` or `amx.WITHOUT`. vectors and group: head_dim / VECTOR and queries a key head, made by `simd.size`. qkv: `Projected`; turns: `Turns`; constants:
    `Constants`; cache: `CacheArrays` of this layer; noted: `Noted`; out float32 [lanes*t, q]. With one step only, its keys and values are stored here, by
    whoever needs them; with more, `store_rows` must have done it.

    Threads share the units of work: lanes x runs of STEPS steps x key heads.
    """
    t, kv = turns.here.shape[0], cache.base.shape[0]
    units = qkv.acc.shape[0] // t * ((t + STEPS - 1) // STEPS) * kv
    _units(tiles, vectors, group, qkv, turns, constants, cache, noted, out, share * units // shares, (share + 1) * units // shares)
