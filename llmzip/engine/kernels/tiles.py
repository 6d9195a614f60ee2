"""One tile of an int8 matrix product, as LLVM IR for numba: up to 12 rows times 32 outputs.

Weights lie as `packing` puts them, as w + OFFSET. OFFSET times the sum of a row's integers is taken off again. All sums are of
integers, exact in int32 while a row has fewer than MOST_INPUTS of them.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmzip.engine.kernels import quads
from llmzip.engine.kernels.packing import OFFSET, OUTPUTS, QUAD
from llmzip.engine.kernels.simd import I32, INTP, LINE, VECTOR, literal, load, nothing, prefetch, splat, store

MOST_ROWS = 12  # of one tile
MOST_INPUTS = (1 << 31) // (255 * 128) - 1


@intrinsic(prefer_literal=True)
def tile(_typing: Any, rows: Any, _q: Any, _stride: Any, _w: Any, _n: Any, _sums: Any, _out: Any, _out_stride: Any) -> Any:
    """tile(rows, q, stride, w, n, sums, out, out_stride): products of `rows` rows with OUTPUTS outputs.

    Addresses of q int8 [rows, stride bytes apart] (by `quads.prepare`), w uint8 [n, OUTPUTS, QUAD], sums int32 [rows] (of each row of q)
    and out int32 [rows, out_stride bytes apart].
    """
    m = literal(rows)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        q, stride, w, n, sums, out, out_stride = args[1:]
        emit = quads.emitter(context)
        ahead = builder.mul(n, INTP(OUTPUTS * QUAD))  # the next block lies behind this one
        rows_at = [builder.add(q, builder.mul(stride, INTP(i))) for i in range(m)]
        for first, column in product(range(0, m, emit.rows), range(0, OUTPUTS // VECTOR, emit.columns)):
            some, columns = range(first, min(first + emit.rows, m)), range(column, column + emit.columns)
            totals = {(i, c): cgutils.alloca_once_value(builder, quads.ZERO_SUMS) for i, c in product(some, columns)}
            with cgutils.for_range(builder, n) as loop:
                row = builder.mul(loop.index, INTP(OUTPUTS * QUAD))
                for line in range(0, emit.columns * VECTOR * QUAD if m > 2 else 0, LINE):
                    prefetch(builder, w, builder.add(ahead, builder.add(row, INTP(VECTOR * QUAD * column + line))))
                weights = {
                    c: emit.spread(builder, load(builder, w, builder.add(row, INTP(VECTOR * QUAD * c)), quads.BYTES)) for c in columns
                }
                for part, i in product(range(emit.parts), some):
                    quad = quads.broadcast(builder, emit, rows_at[i], loop.index, part)
                    for c in columns:
                        total = totals[i, c]
                        builder.store(emit.add(builder, builder.load(total), weights[c][part], quad), total)
            for i in some:
                extra = builder.mul(load(builder, sums, INTP(4 * i), I32), ir.Constant(I32, OFFSET))
                line = builder.add(out, builder.mul(out_stride, INTP(i)))
                for c in columns:
                    store(builder, builder.sub(builder.load(totals[i, c]), splat(builder, extra)), line, INTP(4 * VECTOR * c))
        return nothing()

    return types.none(rows, *[types.intp] * 7), codegen
