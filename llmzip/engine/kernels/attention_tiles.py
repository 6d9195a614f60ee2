"""Scores and mixes of attention by AMX tiles, as LLVM IR: what `attention_simd` has by vectors.

A tile of rows holds the queries of several steps, TILE_ROWS at most. A tile of the other side holds a block of keys, 64 of their dimensions, or
16 dimensions of 64 values. Both lie so in the cache. The thread must `begin` first and `end` afterwards. Where `steps` says vectors, these
functions have no code.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmzip.engine.cache import KEY_BLOCK
from llmzip.engine.kernels import amx, quads
from llmzip.engine.kernels.amx import OTHER_TILES, SIGNED_UNSIGNED, SUM_TILES, TILE_BYTES, TILE_ROWS, UNSIGNED_SIGNED
from llmzip.engine.kernels.attention_simd import finished, visible
from llmzip.engine.kernels.attention_steps import by_tiles
from llmzip.engine.kernels.packing import OFFSET, QUAD
from llmzip.engine.kernels.simd import F32, I32, INTP, VECTOR, literal, load, nothing, splat, store, vector
from llmzip.entropy.kernels.vectors import larger

SLOTS = TILE_BYTES  # whose weights are in one tile
MOST_PARTS = 4  # tiles of queries
BLOCKS = SLOTS // KEY_BLOCK
_QUERIES = range(2, 2 + MOST_PARTS)  # their tiles; those before are for sums
_FLOATS = vector(F32, VECTOR)


def fit(head_dim: int, group: int) -> bool:
    """Whether heads of these sizes can be worked on by tiles."""
    return head_dim % TILE_BYTES == 0 and head_dim // TILE_BYTES <= MOST_PARTS and group <= TILE_ROWS


@intrinsic
def begin(_typing: Any, steps: Any, _rows: Any) -> Any:
    """begin(steps, rows): gives this thread tiles for so many queries."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if by_tiles(steps):
            amx.give_tiles(builder, args[1])
        return nothing()

    return types.none(steps, types.intp), codegen


@intrinsic
def end(_typing: Any, steps: Any) -> Any:
    """end(steps): takes this thread's tiles away."""

    def codegen(_context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if by_tiles(steps):
            amx.take_tiles(builder)
        return nothing()

    return types.none(steps), codegen


@intrinsic
def tile_scores(
    _typing: Any, steps: Any, vectors: Any, group: Any, _q: Any, _sums: Any, _qs: Any, _k: Any, _ks: Any, _out: Any, _stride: Any,
    _seen: Any, _first: Any, _runs: Any, _tops: Any,
) -> Any:  # fmt: skip
    """tile_scores(steps, vectors, group, q, sums, qs, k, ks, out, stride, seen, first, runs, tops): as `attention_simd.scores`, for runs of SLOTS keys."""
    signature = types.none(steps, vectors, group, *[types.intp] * 11)
    if not by_tiles(steps):
        return signature, lambda *_: nothing()
    d, m = literal(vectors) * VECTOR, literal(group)
    parts = d // TILE_BYTES

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        steps, _, _, q, sums, qs, k, ks, out, stride, seen, first, runs, tops = args
        room = builder.ptrtoint(cgutils.alloca_once(builder, ir.ArrayType(quads.SUMS, TILE_ROWS * BLOCKS)), INTP)
        for part in range(parts):
            amx.load_tile(builder, _QUERIES[part], builder.add(q, INTP(TILE_BYTES * part)), INTP(d))
        index = builder.add(splat(builder, builder.trunc(first, I32)), ir.Constant(quads.SUMS, list(range(VECTOR))))
        with cgutils.for_range(builder, runs) as loop:
            keys = builder.add(k, builder.mul(loop.index, INTP(SLOTS * d)))
            for b in range(BLOCKS):
                tile, other = SUM_TILES[b % 2], OTHER_TILES[b % 2]
                amx.clear(builder, tile)
                for part in range(parts):
                    at = KEY_BLOCK * (d * b + TILE_BYTES * part)
                    amx.load_tile(builder, other, builder.add(keys, INTP(at)), INTP(QUAD * KEY_BLOCK))
                    amx.add_products(builder, SIGNED_UNSIGNED, tile, _QUERIES[part], other)
                amx.store_tile(builder, tile, builder.add(room, INTP(4 * KEY_BLOCK * b)), INTP(4 * SLOTS))
            at = builder.mul(loop.index, INTP(4 * SLOTS))
            scales = [load(builder, ks, builder.add(at, INTP(4 * KEY_BLOCK * b)), _FLOATS) for b in range(BLOCKS)]
            here = builder.add(index, splat(builder, builder.trunc(builder.mul(loop.index, INTP(SLOTS)), I32)))
            with cgutils.for_range(builder, steps) as step:
                shown = visible(builder, seen, builder.mul(step.index, INTP(8)), here, BLOCKS)
                for g in range(m):
                    i = builder.add(builder.mul(step.index, INTP(m)), INTP(g))
                    word = builder.mul(i, INTP(4))
                    extra = splat(builder, builder.mul(load(builder, sums, word, I32), ir.Constant(I32, -OFFSET)))
                    scale, best = splat(builder, load(builder, qs, word, F32)), builder.mul(i, INTP(4 * VECTOR))
                    top, to = load(builder, tops, best, _FLOATS), builder.add(builder.mul(stride, i), at)
                    for b in range(BLOCKS):
                        total = load(builder, room, builder.add(builder.mul(i, INTP(4 * SLOTS)), INTP(4 * KEY_BLOCK * b)), quads.SUMS)
                        value = finished(builder, builder.add(total, extra), scales[b], scale, shown[b])
                        store(builder, value, out, builder.add(to, INTP(4 * KEY_BLOCK * b)))
                        top = larger(builder, value, top)
                    store(builder, top, tops, best)
        return nothing()

    return signature, codegen


@intrinsic
def tile_mix(
    _typing: Any, steps: Any, vectors: Any, _w: Any, _stride: Any, _v: Any, _list: Any, _count: Any, _out: Any
) -> Any:  # fmt: skip
    """tile_mix(steps, vectors, w, stride, v, list, count, out): sums of values, weighted by one plane of the weights.

    Addresses of w by `weigh` [rows, stride bytes apart], v int8 [slots / 4, head_dim, 4], list int64 [count] of runs of SLOTS slots, and out int32
    [rows, head_dim].
    """
    signature = types.none(steps, vectors, *[types.intp] * 6)
    if not by_tiles(steps):
        return signature, lambda *_: nothing()
    d = literal(vectors) * VECTOR

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        _, _, w, stride, v, items, count, out = args
        rows = amx.ROW_TILES[0]
        for first in range(0, d, VECTOR * len(SUM_TILES)):
            tiles = [(tile, first + VECTOR * c) for c, tile in enumerate(SUM_TILES)]
            for tile, _ in tiles:
                amx.clear(builder, tile)
            with cgutils.for_range(builder, count) as loop:
                begin = builder.mul(load(builder, items, builder.mul(loop.index, INTP(8)), INTP), INTP(SLOTS))
                values = builder.add(v, builder.mul(begin, INTP(d)))
                amx.load_tile(builder, rows, builder.add(w, begin), stride)
                for c, (tile, column) in enumerate(tiles):
                    other = OTHER_TILES[c % len(OTHER_TILES)]
                    amx.load_tile(builder, other, builder.add(values, INTP(QUAD * column)), INTP(QUAD * d))
                    amx.add_products(builder, UNSIGNED_SIGNED, tile, rows, other)
            for tile, column in tiles:
                amx.store_tile(builder, tile, builder.add(out, INTP(4 * column)), INTP(4 * d))
        return nothing()

    return signature, codegen
