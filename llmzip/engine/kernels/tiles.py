"""One tile of an int8 matrix product, as LLVM IR for numba: up to 8 rows times 32 outputs.

Weights are stored as w + 128, unsigned as `quads` wants them, and 128 times the sum of a row's integers is taken off
again. All sums are of integers, exact in int32 while a row has fewer than MOST_INPUTS of them.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from llmzip.engine.cache import OFFSET
from llmzip.engine.kernels import quads
from llmzip.engine.kernels.quads import QUAD
from llmzip.engine.kernels.simd import I32, INTP, VECTOR, literal, load, nothing, splat, store

OUTPUTS = 2 * VECTOR  # of one tile
MOST_ROWS = 8  # of one tile
MOST_INPUTS = (1 << 31) // (255 * 128) - 1


def pack(w: NDArray[np.int8]) -> NDArray[np.uint8]:
    """int8 [n, k], k a multiple of QUAD, to uint8 [ceil(n / OUTPUTS), k / QUAD, OUTPUTS, QUAD] plus OFFSET."""
    n, k = w.shape
    blocks = -(-n // OUTPUTS)
    offset = np.zeros((blocks * OUTPUTS, k), np.uint8)
    np.bitwise_xor(w.view(np.uint8), np.uint8(OFFSET), out=offset[:n])  # two's complement: flipping the top bit adds 128
    quads = offset.view(np.uint32).reshape(blocks, OUTPUTS, k // QUAD).transpose(0, 2, 1)
    return np.ascontiguousarray(quads).view(np.uint8).reshape(blocks, k // QUAD, OUTPUTS, QUAD)


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
        rows_at = [builder.add(q, builder.mul(stride, INTP(i))) for i in range(m)]
        for first, column in product(range(0, m, emit.rows), range(0, OUTPUTS // VECTOR, emit.columns)):
            some, columns = range(first, min(first + emit.rows, m)), range(column, column + emit.columns)
            totals = {(i, c): cgutils.alloca_once_value(builder, quads.ZERO_SUMS) for i, c in product(some, columns)}
            with cgutils.for_range(builder, n) as loop:
                row = builder.mul(loop.index, INTP(OUTPUTS * QUAD))
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
