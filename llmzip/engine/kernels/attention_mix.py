"""Values mixed by attention weights, compiled by numba, by vectors or by tiles.

Weights have 15 bits. Where products take 8, they come as two planes, and the second one is looked at only where it is not 0: that is rare.
For `steps` see `attention_steps`; the other arguments are those of `attention`.
"""

from __future__ import annotations

import numpy as np

from llmzip.engine.cache import KEY_BLOCK
from llmzip.engine.kernels.attention_simd import mix, weigh
from llmzip.engine.kernels.attention_steps import number, tiled
from llmzip.engine.kernels.attention_tiles import BLOCKS, SLOTS, tile_mix
from llmzip.engine.kernels.packing import QUAD
from llmzip.engine.kernels.quads import parts
from llmzip.engine.kernels.rows import glue, i32, jit
from llmzip.engine.kernels.simd import VECTOR

_QUADS = KEY_BLOCK // QUAD
_QUAD_MASK = (1 << QUAD) - 1


@jit
def _weigh(steps, group, a, stride, vs, r, w, w_stride, blocks, count, large):
    """`weigh`, so that its code is there once, as in the functions below. They take addresses, as references to arrays would be counted."""
    weigh(0, steps, group, a, stride, vs, r, w, w_stride, blocks, count, large)


@jit
def _weigh_high(steps, group, a, stride, vs, r, w, w_stride, blocks, count, large):
    weigh(1, steps, group, a, stride, vs, r, w, w_stride, blocks, count, large)


@jit
def _mix(vectors, group, w, stride, v, items, count, out, ahead, lines):
    mix(0, vectors, group, w, stride, v, items, count, out, ahead, lines)


@jit
def _mix_high(vectors, group, w, stride, v, items, count, out):
    mix(1, vectors, group, w, stride, v, items, count, out, v, 0)


@jit
def _tile_mix(steps, vectors, w, stride, v, runs, count, out):
    tile_mix(steps, vectors, w, stride, v, runs, count, out)


@glue
def _list(items, low, high, apart):
    """Lists low to high - 1 in `items`, after 0 if `apart`. Returns how many there are."""
    n = 0
    if apart:
        items[0] = 0
        n = 1
    for item in range(low, high):
        items[n] = item
        n += 1
    return n


@glue
def _keep(items, large, count):
    """Keeps those of the first `count` items whose `large` is not 0. Returns how many there are."""
    n = 0
    for i in range(count):
        item = items[i]
        if large[item]:
            items[n] = item
            n += 1
    return n


@glue
def mix_values(steps, vectors, group, room, vs, v, start, stop, apart, ahead, lines):
    """Sums of values over keys [start, stop), and those at the very start if `apart`, into `mixed` of the room.

    Addresses of vs and v. ahead and lines: as for `mix`.
    """
    if tiled(steps):
        _by_tiles(steps, vectors, group, room, vs, v, start // SLOTS, stop // SLOTS, apart)
    else:
        _by_vectors(steps, vectors, group, room, vs, v, start // KEY_BLOCK, stop // KEY_BLOCK, apart, ahead, lines)


@glue
def _by_vectors(steps, vectors, group, room, vs, v, low, high, apart, ahead, lines):
    """`mix_values` of blocks [low, high), and the first one."""
    slots, queries, blocks, w = room.u.shape[1], group.ndim, room.list, room.w.ctypes.data
    u, r, large, at, stride = room.u.ctypes.data, room.r.ctypes.data, room.large.ctypes.data, blocks.ctypes.data, parts() * slots
    n = _list(blocks, low, high, apart)
    _weigh(steps, group, u, 4 * slots, vs, r, w, stride, at, n, large)
    for i in range(0, number(steps) * queries, queries):
        _mix(vectors, group, w + stride * i, stride, v, at, n, room.mixed.ctypes.data + room.mixed.strides[0] * i, ahead, 0 if i else lines)
    if parts() == 1:
        _high_plane(steps, vectors, group, room, vs, v, n)


@glue
def _high_plane(steps, vectors, group, room, vs, v, count):
    """Adds what the weights' second plane gives. The first `count` blocks of the list are looked at."""
    large, items, slots, queries = room.large, room.list, room.u.shape[1], group.ndim
    n = _keep(items, large, count)
    if not n:
        return
    w = room.w.ctypes.data
    _weigh_high(steps, group, room.u.ctypes.data, 4 * slots, vs, room.r.ctypes.data, w, slots, items.ctypes.data, n, room.large.ctypes.data)
    to = slots // QUAD
    for i in range(n - 1, -1, -1):  # from the end, as the list of quads grows over that of blocks
        b = items[i]
        for j in range(_QUADS - 1, -1, -1):
            if (large[b] >> (QUAD * j)) & _QUAD_MASK:
                to -= 1
                items[to] = b * _QUADS + j
    quads, n = items.ctypes.data + 8 * to, slots // QUAD - to
    for i in range(0, number(steps) * queries, queries):
        _mix_high(vectors, group, w + slots * i, slots, v, quads, n, room.mixed.ctypes.data + room.mixed.strides[0] * i)


@glue
def _by_tiles(steps, vectors, group, room, vs, v, low, high, apart):
    """`mix_values` of runs [low, high) of SLOTS keys, and the first one."""
    slots, runs, large = room.u.shape[1], room.runs, room.large.view(np.int64)  # BLOCKS blocks at once
    w, at = room.w.ctypes.data, runs.ctypes.data
    n = _list(runs, low, high, apart)
    _weigh_runs(steps, group, room, vs, n, np.bool_(False))
    _tile_mix(steps, vectors, w, slots, v, at, n, room.mixed.ctypes.data)
    some = _keep(runs, large, n)
    if not some:
        return
    _weigh_runs(steps, group, room, vs, some, np.bool_(True))
    _tile_mix(steps, vectors, w, slots, v, at, some, room.above.ctypes.data)
    for i in range(number(steps) * group.ndim):
        mixed, above = room.mixed[i], room.above[i]
        for j in range(vectors.ndim * VECTOR):
            mixed[j] += above[j] << i32(8)


@glue
def _weigh_runs(steps, group, room, vs, count, high):
    """`weigh` for the first `count` runs of the list."""
    slots, blocks, runs = room.u.shape[1], room.list, room.runs
    for i in range(count):
        for j in range(BLOCKS):
            blocks[BLOCKS * i + j] = BLOCKS * runs[i] + j
    u, r, w, at, large = room.u.ctypes.data, room.r.ctypes.data, room.w.ctypes.data, blocks.ctypes.data, room.large.ctypes.data
    if high:
        _weigh_high(steps, group, u, 4 * slots, vs, r, w, slots, at, BLOCKS * count, large)
    else:
        _weigh(steps, group, u, 4 * slots, vs, r, w, slots, at, BLOCKS * count, large)
