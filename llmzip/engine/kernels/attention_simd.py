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
from llmzip.engine.kernels.simd import (
    F32,
    I32,
    INTP,
    VECTOR,
    literal,
    load,
    multiply_add,
    nothing,
    pairs_of_bytes,
    splat,
    splat_pair,
    store,
    vector,
)


@intrinsic(prefer_literal=True)
def scores(_typing: Any, vectors: Any, group: Any, _q: Any, _sums: Any, _qs: Any, _k: Any, _ks: Any, _out: Any, _stride: Any) -> Any:
    """scores(vectors, group, q, sums, qs, k, ks, out, stride): `group` queries against one block of KEY_BLOCK keys.

    A head has vectors * VECTOR dimensions. Addresses of q int8 [group, head_dim] and sums int32 [group] (both by `quads.prepare`), qs
    float32 [group], k uint8 [head_dim / 4, KEY_BLOCK, 4] (with OFFSET), ks float32 [KEY_BLOCK] and out float32 [group, stride
    bytes apart]; out = (float(q . k) * ks) * qs.
    """
    d, heads = literal(vectors) * VECTOR, literal(group)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        q, sums, qs, k, ks, out, stride = args[2:]
        emit = quads.emitter(context)
        totals = [quads.ZERO_SUMS] * heads
        queries = [builder.add(q, INTP(emit.parts * d * g)) for g in range(heads)]
        for i in range(d // QUAD):
            keys = emit.spread(builder, load(builder, k, INTP(QUAD * KEY_BLOCK * i), quads.BYTES))
            for part, g in product(range(emit.parts), range(heads)):
                totals[g] = emit.add(builder, totals[g], keys[part], quads.broadcast(builder, emit, queries[g], INTP(i), part))
        scale = load(builder, ks, INTP(0), vector(F32, VECTOR))
        for g in range(heads):
            extra = builder.mul(load(builder, sums, INTP(4 * g), I32), ir.Constant(I32, OFFSET))
            total = builder.sub(totals[g], splat(builder, extra))
            value = builder.fmul(builder.sitofp(total, vector(F32, VECTOR)), scale)
            value = builder.fmul(value, splat(builder, load(builder, qs, INTP(4 * g), F32)))
            store(builder, value, out, builder.mul(stride, INTP(g)))
        return nothing()

    return types.none(vectors, group, *[types.intp] * 7), codegen


@intrinsic(prefer_literal=True)
def mix(_typing: Any, vectors: Any, group: Any, _w: Any, _stride: Any, _v: Any, _pairs: Any, _out: Any) -> Any:
    """mix(vectors, group, w, stride, v, pairs, out): weighted sums of values over `pairs` pairs of keys.

    Addresses of w int16 [group, stride bytes apart], v int8 [pairs, head_dim, 2] and out int32 [group, head_dim].
    """
    d, heads = literal(vectors) * VECTOR, literal(group)
    columns = 2 * VECTOR if d % (2 * VECTOR) == 0 else VECTOR

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        w, stride, v, pairs, out = args[2:]
        zero = ir.Constant(vector(I32, VECTOR), [0] * VECTOR)
        for first in range(0, d, columns):
            some = range(first, first + columns, VECTOR)
            totals = {(g, c): cgutils.alloca_once(builder, zero.type) for g in range(heads) for c in some}
            for total in totals.values():
                builder.store(zero, total)
            with cgutils.for_range(builder, pairs) as loop:
                row = builder.mul(loop.index, INTP(2 * d))
                values = {c: pairs_of_bytes(builder, v, builder.add(row, INTP(2 * c))) for c in some}
                at = builder.mul(loop.index, INTP(4))
                for g in range(heads):
                    weight = splat_pair(builder, w, builder.add(at, builder.mul(stride, INTP(g))))
                    for c in some:
                        total = totals[g, c]
                        builder.store(multiply_add(builder, builder.load(total), values[c], weight), total)
            for (g, c), total in totals.items():
                store(builder, builder.load(total), out, INTP(4 * (d * g + c)))
        return nothing()

    return types.none(vectors, group, *[types.intp] * 5), codegen
