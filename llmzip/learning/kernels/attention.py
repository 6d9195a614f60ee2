"""Gradients through attention, compiled by numba: see `reference`. Products are those of the engine, with keys and values packed as weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmzip.engine import numerics as nm
from llmzip.engine.cache import KEY_BLOCK
from llmzip.engine.kernels.arguments import Floats
from llmzip.engine.kernels.packing import OFFSET, OUTPUTS, QUAD
from llmzip.engine.kernels.products import PAD, some_products
from llmzip.engine.kernels.quads import operand, prepare
from llmzip.engine.kernels.rows import LINE, ZERO, by_address, counts_nothing, f32, i8, i32, jit, room_f32, room_i8, room_i32
from llmzip.entropy.kernels.exponential import float_from_bits
from llmzip.learning import numerics as ln
from llmzip.learning.kernels.gradients import quantise_limited

STEPS = 16  # of one head, worked on together
_FLOOR, _EXPONENT = f32(nm.ATTEND_FLOOR), i32((127 + nm.ATTEND_BITS) << nm.MANTISSA)
_LN_2 = f32(ln.LN_2)
_FLIP = np.uint8(OFFSET)


class Met(NamedTuple):
    """The keys and values that gradients of one lane reach, packed, and what passes between its rows. For n keys at most, of kv heads.

    Attributes:
        keys, values: as weights that give a number for each key, uint8 [kv, blocks, d / QUAD, OUTPUTS, QUAD].
        turned_over: keys as weights that give a number for each dimension, uint8 [kv, blocks, n / QUAD, OUTPUTS, QUAD].
        shares, slopes: weights of attention and gradients of scores, of the keys of the segment alone, float32 [rows, heads, steps].
    """

    keys: NDArray[np.uint8]
    values: NDArray[np.uint8]
    turned_over: NDArray[np.uint8]
    shares: Floats
    slopes: Floats


class Asked(NamedTuple):
    """The queries of a segment, and gradients of what they got, as `arguments.Room` has them."""

    queries: NDArray[np.int8]
    scales: Floats
    given: NDArray[np.int8]
    given_scales: Floats
    means: Floats


@jit
def keys_met(end, steps, window):
    """First slot and number of the keys that the last `steps` of a lane reach, up to slot `end`."""
    first = max(np.int64(0), end - steps - min(window, np.int64(ln.REACH)) + 1)
    return first, end - first


@counts_nothing
def _pack_keys(k, first, count, d, keys, turned_over):
    """k: uint8, flat, of a lane and head of the cache."""
    words, out = k.view(np.uint32), keys.view(np.uint32)
    quads = d // QUAD
    for n in range(count):
        slot, block, place = first + n, n // OUTPUTS, n % OUTPUTS
        at = slot // KEY_BLOCK * KEY_BLOCK * quads + slot % KEY_BLOCK
        for j in range(quads):
            out[block, j, place, 0] = words[at + j * KEY_BLOCK]
    for n in range(count):
        slot = first + n
        at = (slot // KEY_BLOCK * KEY_BLOCK * quads + slot % KEY_BLOCK) * QUAD
        for j in range(quads):
            for b in range(QUAD):
                dim = j * QUAD + b
                turned_over[dim // OUTPUTS, n // QUAD, dim % OUTPUTS, n % QUAD] = k[at + j * KEY_BLOCK * QUAD + b]


@counts_nothing
def _pack_values(v, first, count, d, values):
    """v: int8, flat, of a lane and head of the cache."""
    for n in range(count):
        slot, block, place = first + n, n // OUTPUTS, n % OUTPUTS
        at = slot // QUAD * QUAD * d + slot % QUAD
        for j in range(d // QUAD):
            for b in range(QUAD):
                values[block, j, place, b] = np.uint8(v[at + (j * QUAD + b) * QUAD]) ^ _FLIP


@jit
def pack_lane(cache, lane, steps, d, met, share, shares):
    """A thread's share of packing the keys and values of a lane; cache: `CacheArrays` of a layer, whose `slot` is where the segment ends."""
    kv = cache.base.shape[0]
    for part in range(share, 2 * kv, shares):
        h = part // 2
        begin = (cache.base[h] + lane * cache.slots[h]) * d
        first, count = keys_met(cache.slot[h], steps, cache.windows[h])
        if part % 2:
            _pack_values(cache.v[begin : begin + cache.slots[h] * d], first, count, d, met.values[h])
        else:
            _pack_keys(cache.k[begin : begin + cache.slots[h] * d], first, count, d, met.keys[h], met.turned_over[h])


@counts_nothing
def _slopes(dots, given, ks, vs, qs, scale, top, total, mean, share, slope):
    """Weights of attention, and gradients of scores, of one query for the keys that it sees: arrays [keys]."""
    for j in range(ks.shape[0]):
        z = max((f32(dots[j]) * ks[j]) * qs - top, _FLOOR)
        weight = f32(i32(float_from_bits(i32(i32(z * LINE) + _EXPONENT)))) / total
        share[j] = weight
        slope[j] = (weight * ((f32(given[j]) * vs[j]) * scale - mean)) * _LN_2


@counts_nothing
def _quantise_slopes(slope, ks, e, q):
    for j in range(ks.shape[0]):
        e[j] = slope[j] * ks[j]
    return quantise_limited(e, q)


@jit
def _queries_back(amx, cache, lane, h, begin_step, steps_now, steps, group, before, asked, met, top, total, dq):
    """Gradients dq float32 [rows, q] of turned queries: of head h, for some steps of a lane."""
    d, m = asked.queries.shape[2], steps_now * group
    first, count = keys_met(cache.slot[h], steps, cache.windows[h])
    offset = before + steps - cache.slot[h]  # of a slot's position
    q8, d8, g8 = room_i8(m, d), room_i8(m, d), room_i8(m, (count + QUAD - 1) // QUAD * QUAD)
    scale_g = np.empty(m, f32)
    columns = (count + OUTPUTS - 1) // OUTPUTS * OUTPUTS + PAD
    dots, given, back = room_i32(m, columns), room_i32(m, columns), room_i32(m, (d + OUTPUTS - 1) // OUTPUTS * OUTPUTS + PAD)
    share, slope, e = room_f32(1, count)[0], room_f32(1, count)[0], room_f32(1, count)[0]
    ready_q, ready_d, ready_g, sums = operand(q8), operand(d8), operand(g8), np.empty(m, i32)
    blocks = np.int64((count + OUTPUTS - 1) // OUTPUTS)
    zero = np.int64(0)
    for i in range(m):
        row, head = lane * steps + begin_step + i // group, h * group + i % group
        for j in range(d):
            q8[i, j] = asked.queries[row, head, j]
            d8[i, j] = asked.given[row, head * d + j]
    prepare(q8, ready_q, sums)
    some_products(amx, ready_q, sums, met.keys[h], zero, blocks, dots, zero)
    prepare(d8, ready_d, sums)
    some_products(amx, ready_d, sums, met.values[h], zero, blocks, given, zero)
    at = cache.base[h] + lane * cache.slots[h] + first
    ks, vs = cache.ks[at : at + count], cache.vs[at : at + count]
    for i in range(m):
        step, head = begin_step + i // group, h * group + i % group
        row = lane * steps + step
        position = before + step
        low = max(position - min(cache.windows[h], np.int64(ln.REACH)) + 1, cache.sinks[h]) - offset - first
        low, high = max(zero, low), position - offset - first + 1
        for j in range(g8.shape[1]):
            g8[i, j] = i8(0)
        scale_g[i] = ZERO
        own, near, slopes = count - steps, met.shares[row, head], met.slopes[row, head]
        for j in range(steps):
            near[j] = ZERO
            slopes[j] = ZERO
        if low >= high:
            continue
        some = slope[low:high]
        _slopes(
            dots[i, low:high], given[i, low:high], ks[low:high], vs[low:high], asked.scales[row, head], asked.given_scales[row, head],
            top[row, head], total[row, head], asked.means[row, head], share[low:high], some,
        )  # fmt: skip
        scale_g[i] = _quantise_slopes(some, ks[low:high], e[low:high], g8[i, low:high])
        for j in range(max(low, own), high):
            near[j - own] = share[j]
            slopes[j - own] = slope[j]
    prepare(g8, ready_g, sums)
    some_products(
        amx, ready_g, sums, met.turned_over[h, :, : g8.shape[1] // QUAD], zero, np.int64((d + OUTPUTS - 1) // OUTPUTS), back, zero
    )
    for i in range(m):
        row, head = lane * steps + begin_step + i // group, h * group + i % group
        to = dq[row, head * d : (head + 1) * d]
        for j in range(d):
            to[j] = f32(back[i, j]) * scale_g[i]


@by_address
def queries_back(amx, cache, lane, steps, before, asked, met, top, total, dq, share, shares):
    """A thread's share of the gradients of a lane's turned queries. Also fills `shares` and `slopes` of `met`, see `Met`.

    cache: as for `pack_lane`; before: position of the first step; asked: `Asked`; top, total: float32 [rows, heads], of the trace.
    """
    kv, heads = cache.base.shape[0], asked.queries.shape[1]
    runs = (steps + STEPS - 1) // STEPS
    for unit in range(share, runs * kv, shares):
        h, begin = unit // runs, unit % runs * STEPS
        _queries_back(amx, cache, lane, h, begin, min(STEPS, steps - begin), steps, heads // kv, before, asked, met, top, total, dq)


@counts_nothing
def keys_back(room, steps, d_heads, dk, dv, share, shares):
    """A thread's share of the gradients of turned keys, and of values, of a segment: float32 [rows, kv * d]; d_heads [rows, heads * d]."""
    heads, d = room.queries.shape[1], room.queries.shape[2]
    kv = dk.shape[1] // d
    group = heads // kv
    for row in range(share, dk.shape[0], shares):
        step = row % steps
        for h in range(kv):
            k, v = dk[row, h * d : (h + 1) * d], dv[row, h * d : (h + 1) * d]
            for j in range(d):
                k[j] = ZERO
                v[j] = ZERO
            for i in range(row, row - step + steps):
                for g in range(h * group, (h + 1) * group):
                    weight, slope, scale = room.shares[i, g, step], room.slopes[i, g, step], room.query_scales[i, g]
                    given, query = d_heads[i, g * d : (g + 1) * d], room.queries[i, g]
                    for j in range(d):
                        v[j] += weight * given[j]
                        k[j] += slope * (f32(query[j]) * scale)
