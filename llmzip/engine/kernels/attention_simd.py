"""Attention between queries and the cache for numba, as LLVM IR: scores, exponentials, weights, and values mixed by them.

Keys and values are in the layouts of `cache`. The queries of several steps that share a key head are worked on together: then one load of keys or
values serves all of them. For `steps` see `attention_steps`. What is by vectors only has no code where `steps` says tiles; that is in
`attention_tiles`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmzip.engine import numerics as nm
from llmzip.engine.cache import KEY_BLOCK
from llmzip.engine.kernels import quads
from llmzip.engine.kernels.attention_steps import by_tiles
from llmzip.engine.kernels.packing import OFFSET, QUAD
from llmzip.engine.kernels.simd import F32, I16, I32, INTP, LINE, VECTOR, ask_for, literal, load, nothing, splat, store, sum_of, vector
from llmzip.entropy.exponential import LINE as POWER_LINE
from llmzip.entropy.exponential import offset
from llmzip.entropy.kernels.vectors import larger

PAIR = 2  # blocks of keys worked on together, so that more multiplications are under way
UNSEEN = -3e38  # the score of what is not seen: its weight is 0
ROUNDING = 2.0**23  # a float32 from 0 to 2^22, added to it, is rounded to an integer: that is then in the low bits of the sum
_QUADS = 4  # at most, of a head, written out one after another
_FLOATS, _INTS = vector(F32, VECTOR), vector(I32, VECTOR)


def _ints(value: int) -> Any:
    return ir.Constant(_INTS, [value] * VECTOR)


def _floats(value: float) -> Any:
    return ir.Constant(_FLOATS, [value] * VECTOR)


@intrinsic
def scores(
    _typing: Any, steps: Any, vectors: Any, group: Any, _q: Any, _sums: Any, _qs: Any, _k: Any, _ks: Any, _out: Any, _stride: Any,
    _seen: Any, _first: Any, _pairs: Any, _tops: Any, _ahead: Any, _lines: Any,
) -> Any:  # fmt: skip
    """scores(steps, vectors, group, q, sums, qs, k, ks, out, stride, seen, first, pairs, tops, ahead, lines): queries against `pairs` pairs of blocks of keys.

    By vectors. There are m = steps * group queries. A head has vectors * VECTOR dimensions. Addresses of q int8 [m, head_dim] and sums int32 [m] (both by
    `quads.prepare`), qs float32 [m], k uint8 [2 * pairs, head_dim / 4, KEY_BLOCK, 4] (with OFFSET), ks float32 [2 * pairs, KEY_BLOCK] and out
    float32 [m, stride bytes apart]; out = (float(q . k) * ks) * qs, or UNSEEN.

    The first key has index `first`. Address of seen int32 [steps, 2]: of each step, the first index that it sees, and how many from there on. Address
    of tops float32 [m, VECTOR], which is replaced by the maxima of itself and of out, VECTOR of them side by side.
    For each block, `lines` cache lines from address `ahead` on are asked for, so that they are in a cache when they are needed.
    """
    if by_tiles(steps):
        return types.none(steps, vectors, group, *[types.intp] * 13), lambda *_: nothing()
    d, rows, m = literal(vectors) * VECTOR, literal(steps), literal(steps) * literal(group)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        q, sums, qs, k, ks, out, stride, seen, first, pairs, tops, ahead, lines = args[3:]
        emit = quads.emitter(context)
        all_queries = list(range(m))
        each = list(product(all_queries, range(PAIR)))
        run = next(n for n in range(_QUADS, 0, -1) if d // QUAD % n == 0)
        best = [cgutils.alloca_once_value(builder, load(builder, tops, INTP(4 * VECTOR * i), _FLOATS)) for i in all_queries]
        totals = {at: cgutils.alloca_once(builder, _INTS) for at in each}
        index = builder.add(splat(builder, builder.trunc(first, I32)), ir.Constant(_INTS, list(range(VECTOR))))
        with cgutils.for_range(builder, pairs) as loop:
            ask_for(
                builder, builder.add(ahead, builder.mul(loop.index, builder.mul(lines, INTP(PAIR * LINE)))), builder.mul(lines, INTP(PAIR))
            )
            keys = builder.add(k, builder.mul(loop.index, INTP(PAIR * KEY_BLOCK * d)))
            for i in all_queries:
                extra = splat(builder, builder.mul(load(builder, sums, INTP(4 * i), I32), ir.Constant(I32, -OFFSET)))
                for b in range(PAIR):
                    builder.store(extra, totals[i, b])
            with cgutils.for_range(builder, INTP(d // QUAD // run)) as part_loop:
                quad = builder.mul(part_loop.index, INTP(run))
                here = builder.add(keys, builder.mul(quad, INTP(QUAD * KEY_BLOCK)))
                for j in range(run):
                    loaded = [
                        emit.spread(builder, load(builder, here, INTP(KEY_BLOCK * (d * b + QUAD * j)), quads.BYTES)) for b in range(PAIR)
                    ]
                    for part, i in product(range(emit.parts), all_queries):
                        query = quads.broadcast(builder, emit, builder.add(q, INTP(emit.parts * d * i)), builder.add(quad, INTP(j)), part)
                        for b in range(PAIR):
                            builder.store(emit.add(builder, builder.load(totals[i, b]), loaded[b][part], query), totals[i, b])
            at = builder.mul(loop.index, INTP(4 * PAIR * KEY_BLOCK))
            scales = [load(builder, ks, builder.add(at, INTP(4 * KEY_BLOCK * b)), _FLOATS) for b in range(PAIR)]
            place = splat(builder, builder.trunc(builder.mul(loop.index, INTP(PAIR * KEY_BLOCK)), I32))
            here = builder.add(index, place)
            seen_of = [visible(builder, seen, INTP(8 * row), here, PAIR) for row in range(rows)]
            for i, b in each:
                scale = splat(builder, load(builder, qs, INTP(4 * i), F32))
                value = finished(builder, builder.load(totals[i, b]), scales[b], scale, seen_of[i // (m // rows)][b])
                to = builder.add(builder.add(builder.mul(stride, INTP(i)), at), INTP(4 * KEY_BLOCK * b))
                store(builder, value, out, to)
                builder.store(larger(builder, value, builder.load(best[i])), best[i])
        for i in all_queries:
            store(builder, builder.load(best[i]), tops, INTP(4 * VECTOR * i))
        return nothing()

    return types.none(steps, vectors, group, *[types.intp] * 13), codegen


def visible(builder: Any, seen: Any, at: Any, index: Any, blocks: int) -> list[Any]:
    """Which keys of some blocks a step sees. index: of the first block's keys (SUMS); seen: as for `scores`, with the step's part at a number of bytes."""
    low, many = (splat(builder, load(builder, seen, builder.add(at, INTP(4 * n)), I32)) for n in range(2))
    past = builder.sub(index, low)
    return [builder.icmp_unsigned("<", builder.add(past, _ints(KEY_BLOCK * b)), many) for b in range(blocks)]


def finished(builder: Any, total: Any, key_scales: Any, scale: Any, shown: Any) -> Any:
    """Scores of one query (float32s) from its products with VECTOR keys (SUMS)."""
    value = builder.fmul(builder.fmul(builder.sitofp(total, _FLOATS), key_scales), scale)
    return builder.select(shown, value, _floats(UNSEEN))


@intrinsic
def exponentials(_typing: Any, _u: Any, _pairs: Any, _top: Any) -> Any:
    """exponentials(u, pairs, top): replaces scores by weights that are not normalised, and returns their sum, int32.

    Address of u float32 [pairs, 2, KEY_BLOCK], which become int32; top float32, their maximum. See `reference.attend`.
    """

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        u, pairs, top = args
        most = splat(builder, top)
        totals = [cgutils.alloca_once_value(builder, _ints(0)) for _ in range(PAIR)]
        with cgutils.for_range(builder, pairs) as loop:
            for b in range(PAIR):
                at = builder.add(builder.mul(loop.index, INTP(4 * PAIR * KEY_BLOCK)), INTP(4 * KEY_BLOCK * b))
                z = builder.fsub(load(builder, u, at, _FLOATS), most)
                z = builder.fmul(larger(builder, z, _floats(nm.ATTEND_FLOOR)), _floats(float(POWER_LINE)))
                pattern = builder.add(builder.fptosi(z, _INTS), _ints(int(offset(nm.ATTEND_BITS))))
                a = builder.fptosi(builder.bitcast(pattern, _FLOATS), _INTS)
                store(builder, a, u, at)
                builder.store(builder.add(builder.load(totals[b]), a), totals[b])
        total = builder.add(*map(builder.load, totals))
        return sum_of(builder, total)

    return types.int32(types.intp, types.intp, types.float32), codegen


@intrinsic(prefer_literal=True)
def weigh(
    _typing: Any, plane: Any, steps: Any, group: Any, _a: Any, _stride: Any, _vs: Any, _r: Any, _w: Any, _w_stride: Any, _list: Any,
    _count: Any, _large: Any,
) -> Any:  # fmt: skip
    """weigh(plane, steps, group, a, stride, vs, r, w, w_stride, blocks, count, large): attention weights, in the form that one plane of `mix` takes.

    Of m = steps * group queries and of the blocks of keys whose indices the int64s [count] at address `blocks` are. Addresses of a int32 [m, stride bytes
    apart] (by `exponentials`), vs float32 [slots], r float32 [m] and w [m, w_stride bytes apart]. The first plane also writes large int16 [slots /
    KEY_BLOCK]: a bit for each key, set if the second plane of any of its weights is not 0.
    """
    which = literal(plane)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        a, stride, vs, r, w, w_stride, blocks, count, large = args[3:]
        emit = quads.emitter(context)
        if which >= emit.planes:
            return nothing()
        m = builder.mul(args[1], INTP(literal(group))) if by_tiles(steps) else literal(steps) * literal(group)
        with cgutils.for_range(builder, count) as loop:
            block = load(builder, blocks, builder.mul(loop.index, INTP(8)), INTP)
            at = builder.mul(block, INTP(4 * KEY_BLOCK))
            scale = load(builder, vs, at, _FLOATS)
            bits = cgutils.alloca_once(builder, _INTS)
            builder.store(_ints(0), bits)
            for i in _each(builder, m):
                value = builder.sitofp(load(builder, a, builder.add(builder.mul(stride, i), at), _INTS), _FLOATS)
                value = builder.fmul(builder.fmul(value, scale), splat(builder, load(builder, r, builder.mul(i, INTP(4)), F32)))
                weight = builder.bitcast(builder.fadd(value, _floats(ROUNDING)), _INTS)
                builder.store(builder.or_(builder.load(bits), weight), bits)
                to = builder.add(builder.mul(w_stride, i), builder.mul(block, INTP(KEY_BLOCK * emit.parts)))
                emit.store_weights(builder, weight, builder.add(w, to), which)
            if not which and emit.planes > 1:
                high = builder.icmp_unsigned("!=", builder.and_(builder.load(bits), _ints(0x7FFF00)), _ints(0))
                store(builder, builder.bitcast(high, I16), large, builder.mul(block, INTP(2)))
        return nothing()

    return types.none(plane, steps, group, *[types.intp] * 9), codegen


@intrinsic(prefer_literal=True)
def mix(
    _typing: Any, plane: Any, vectors: Any, group: Any, _w: Any, _stride: Any, _v: Any, _list: Any, _count: Any, _out: Any,
    _ahead: Any, _lines: Any,
) -> Any:  # fmt: skip
    """mix(plane, vectors, group, w, stride, v, list, count, out, ahead, lines): sums of values, weighted by one plane of the weights.

    Of one step: with more, all sums would not fit into the registers. Addresses of w by `weigh` [group, stride bytes apart], v int8 [slots / 4, head_dim, 4], list int64 [count] and out
    int32 [group, head_dim]. The first plane sums over a list of blocks and writes out. The second one sums over a list of quads, which are fewer, and adds to
    out. `ahead` and `lines` as for `scores`.
    """
    d, m, which = literal(vectors) * VECTOR, literal(group), literal(plane)
    length = 1 if which else KEY_BLOCK // QUAD  # of an item of the list, in quads

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        w, stride, v, items, count, out, ahead, lines = args[3:]
        emit = quads.emitter(context)
        if which >= emit.planes:
            return nothing()
        columns = next(c for c in (8, 4, 2, 1) if (literal(vectors) % c == 0 and c * m <= emit.sums) or c == 1)
        weights = [builder.add(w, builder.mul(stride, INTP(i))) for i in range(m)]
        for first in range(0, d // VECTOR, columns):
            totals = {at: cgutils.alloca_once_value(builder, quads.ZERO_SUMS) for at in product(range(m), range(columns))}
            with cgutils.for_range(builder, count) as loop:
                if not first:
                    ask_for(builder, builder.add(ahead, builder.mul(builder.mul(lines, INTP(LINE)), loop.index)), lines)
                begin = builder.mul(load(builder, items, builder.mul(loop.index, INTP(8)), INTP), INTP(length))
                values = builder.add(builder.mul(begin, INTP(QUAD * d)), INTP(QUAD * VECTOR * first))
                for j in range(length):
                    here = [
                        emit.spread_signed(builder, load(builder, v, builder.add(values, INTP(QUAD * (d * j + VECTOR * c))), quads.BYTES))
                        for c in range(columns)
                    ]
                    for part, i in product(range(emit.parts), range(m)):
                        weight = quads.broadcast(builder, emit, weights[i], builder.add(begin, INTP(j)), part)
                        for c in range(columns):
                            total = totals[i, c]
                            builder.store(emit.add_signed(builder, builder.load(total), here[c][part], weight), total)
            for (i, c), total in totals.items():
                at = INTP(4 * (d * i + VECTOR * (first + c)))
                result = builder.load(total)
                if which:
                    result = builder.add(builder.shl(result, _ints(8)), load(builder, out, at, _INTS))
                store(builder, result, out, at)
        return nothing()

    return types.none(plane, vectors, group, *[types.intp] * 8), codegen


def _each(builder: Any, m: Any) -> Iterator[Any]:
    """The indices 0 to m - 1: each written out, or a loop if m is not known."""
    if isinstance(m, int):
        yield from map(INTP, range(m))
        return
    with cgutils.for_range(builder, m) as loop:
        yield loop.index
