"""The two integer products of attention for numba, as LLVM IR, on keys and values in the layouts of `cache`."""

from __future__ import annotations

from itertools import product
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmzip.engine.cache import KEY_BLOCK
from llmzip.engine.kernels import quads
from llmzip.engine.kernels.packing import OFFSET, QUAD
from llmzip.engine.kernels.simd import F32, I8, I32, INTP, LINE, VECTOR, literal, load, nothing, prefetch, splat, store, vector

_FLOATS = vector(F32, VECTOR)


@intrinsic(prefer_literal=True)
def scores(
    _typing: Any, blocks: Any, vectors: Any, group: Any, _q: Any, _sums: Any, _qs: Any, _k: Any, _ks: Any, _out: Any, _stride: Any,
    _ahead: Any, _lines: Any,
) -> Any:  # fmt: skip
    """scores(blocks, vectors, group, q, sums, qs, k, ks, out, stride, ahead, lines): `group` queries against one or two blocks of KEY_BLOCK keys.

    A head has vectors * VECTOR dimensions. Addresses of q int8 [group, head_dim] and sums int32 [group] (both by `quads.prepare`), qs
    float32 [group], k uint8 [blocks, head_dim / 4, KEY_BLOCK, 4] (with OFFSET), ks float32 [blocks, KEY_BLOCK] and out float32 [group, stride
    bytes apart]; out = (float(q . k) * ks) * qs. Two blocks together keep more multiplications under way. For each block,
    `lines` cache lines from address `ahead` on are asked for, so that they are in a cache when they are needed.
    """
    d, heads, m = literal(vectors) * VECTOR, literal(group), literal(blocks)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        q, sums, qs, k, ks, out, stride, ahead, lines = args[3:]
        _ask(builder, ahead, builder.mul(lines, INTP(m)))
        emit = quads.emitter(context)
        queries = [builder.add(q, INTP(emit.parts * d * g)) for g in range(heads)]
        totals = {}
        for g in range(heads):
            extra = builder.mul(load(builder, sums, INTP(4 * g), I32), ir.Constant(I32, -OFFSET))
            totals |= {(g, b): splat(builder, extra) for b in range(m)}
        for i in range(d // QUAD):
            keys = [emit.spread(builder, load(builder, k, INTP(KEY_BLOCK * (d * b + QUAD * i)), quads.BYTES)) for b in range(m)]
            for part, g in product(range(emit.parts), range(heads)):
                query = quads.broadcast(builder, emit, queries[g], INTP(i), part)
                for b in range(m):
                    totals[g, b] = emit.add(builder, totals[g, b], keys[b][part], query)
        for g, b in product(range(heads), range(m)):
            scale = load(builder, ks, INTP(4 * KEY_BLOCK * b), _FLOATS)
            value = builder.fmul(builder.sitofp(totals[g, b], _FLOATS), scale)
            value = builder.fmul(value, splat(builder, load(builder, qs, INTP(4 * g), F32)))
            store(builder, value, out, builder.add(builder.mul(stride, INTP(g)), INTP(4 * KEY_BLOCK * b)))
        return nothing()

    return types.none(blocks, vectors, group, *[types.intp] * 9), codegen


@intrinsic
def weigh(_typing: Any, _a: Any, _vs: Any, _blocks: Any, _r: Any, _out: Any, _plane: Any, _large: Any) -> Any:
    """weigh(a, vs, blocks, r, out, plane, large): attention weights of one query and `blocks` blocks of keys, in the form that `mix` takes.

    Addresses of a int32 [blocks, KEY_BLOCK] (not normalised) and vs float32 [blocks, KEY_BLOCK]; r float32; address of the result, whose planes
    are `plane` bytes apart; address of large bool [blocks], which is set where the second plane is needed: elsewhere that is 0.
    """

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        a, vs, blocks, r, out, plane, large = args
        emit = quads.emitter(context)
        rint = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_FLOATS, [_FLOATS]), f"llvm.rint.v{VECTOR}f32")
        by = splat(builder, r)
        with cgutils.for_range(builder, blocks) as loop:
            at = builder.mul(loop.index, INTP(4 * KEY_BLOCK))
            value = builder.sitofp(load(builder, a, at, vector(I32, VECTOR)), _FLOATS)
            value = builder.fmul(builder.fmul(value, load(builder, vs, at, _FLOATS)), by)
            w = builder.fptosi(builder.call(rint, [value]), vector(I32, VECTOR))
            to = builder.add(out, builder.mul(loop.index, INTP(KEY_BLOCK * emit.parts)))
            found = builder.zext(emit.store_weights(builder, w, to, plane), I8)
            store(builder, builder.or_(found, load(builder, large, loop.index, I8)), large, loop.index)
        return nothing()

    return types.none(*[types.intp] * 3, types.float32, *[types.intp] * 3), codegen


@intrinsic(prefer_literal=True)
def mix(
    _typing: Any, plane: Any, vectors: Any, group: Any, _w: Any, _stride: Any, _plane_stride: Any, _v: Any, _list: Any, _count: Any,
    _out: Any, _ahead: Any, _lines: Any,
) -> Any:  # fmt: skip
    """mix(plane, vectors, group, w, stride, plane_stride, v, blocks, count, out, ahead, lines): sums of values, weighted by one plane of the weights.

    Addresses of w by `weigh` [group, stride bytes apart], v int8 [slots / 4, head_dim, 4], blocks int64 [count], which are summed over, and out int32
    [group, head_dim], which the first plane is written into and the second one added to. `ahead` and `lines` as for `scores`.
    """
    d, heads, which = literal(vectors) * VECTOR, literal(group), literal(plane)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        w, stride, plane_stride, v, blocks, count, out, ahead, lines = args[3:]
        emit = quads.emitter(context)
        if which >= emit.planes:
            return nothing()
        columns = next(c for c in (8, 4, 2, 1) if (literal(vectors) % c == 0 and c * heads <= emit.sums) or c == 1)
        base = builder.add(w, builder.mul(plane_stride, INTP(which)))
        weights = [builder.add(base, builder.mul(stride, INTP(g))) for g in range(heads)]
        for first in range(0, d // VECTOR, columns):
            totals = {at: cgutils.alloca_once_value(builder, quads.ZERO_SUMS) for at in product(range(heads), range(columns))}
            with cgutils.for_range(builder, count) as loop:
                if not first:
                    _ask(builder, builder.add(ahead, builder.mul(builder.mul(lines, INTP(LINE)), loop.index)), lines)
                block = load(builder, blocks, builder.mul(loop.index, INTP(8)), INTP)
                values = builder.add(builder.mul(block, INTP(KEY_BLOCK * d)), INTP(QUAD * VECTOR * first))
                for i in range(KEY_BLOCK // QUAD):
                    here = [
                        emit.spread_signed(builder, load(builder, v, builder.add(values, INTP(QUAD * (d * i + VECTOR * c))), quads.BYTES))
                        for c in range(columns)
                    ]
                    quad = builder.add(builder.mul(block, INTP(KEY_BLOCK // QUAD)), INTP(i))
                    for part, g in product(range(emit.parts), range(heads)):
                        weight = quads.broadcast(builder, emit, weights[g], quad, part)
                        for c in range(columns):
                            total = totals[g, c]
                            builder.store(emit.add_signed(builder, builder.load(total), here[c][part], weight), total)
            for (g, c), total in totals.items():
                at = INTP(4 * (d * g + VECTOR * (first + c)))
                result = builder.load(total)
                if which:
                    eight = ir.Constant(vector(I32, VECTOR), [8] * VECTOR)
                    result = builder.add(builder.shl(result, eight), load(builder, out, at, vector(I32, VECTOR)))
                store(builder, result, out, at)
        return nothing()

    return types.none(plane, vectors, group, *[types.intp] * 9), codegen


def _ask(builder: Any, address: Any, lines: Any) -> None:
    with cgutils.for_range(builder, lines) as loop:
        prefetch(builder, address, builder.mul(loop.index, INTP(LINE)))
