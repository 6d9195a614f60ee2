"""The largest of many float32s, as LLVM IR: numba would look at one number at a time."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
WIDTH = 64  # sums worked on together


def larger(builder: Any, a: Any, b: Any) -> Any:
    """The larger number of each pair of two vectors, none of them NaN."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def largest_of(builder: Any, values: Any) -> Any:
    """The largest float32 of a vector of 2^n: the upper half is compared with the lower, again and again."""
    width = values.type.count
    n = width
    while n > 1:
        n //= 2
        upper = ir.Constant(ir.VectorType(_I32, width), [n + i if i < n else i for i in range(width)])
        values = larger(builder, builder.shuffle_vector(values, ir.Constant(values.type, ir.Undefined), upper), values)
    return builder.extract_element(values, ir.Constant(_I32, 0))


@intrinsic
def largest_sums(_typing: Any, _x: Any, _b: Any, _y: Any, _blocks: Any) -> Any:
    """largest_sums(x, b, y, blocks): the largest x[j] + b[j] of blocks * WIDTH float32s at two addresses. Sums are written to address y; none is NaN."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        x, b, y, blocks = args
        kind = ir.VectorType(_F32, WIDTH)
        best = cgutils.alloca_once_value(builder, ir.Constant(kind, [float("-inf")] * WIDTH))
        with cgutils.for_range(builder, blocks) as loop:
            offset = builder.mul(loop.index, _I64(4 * WIDTH))
            at_x, at_b, at_y = (builder.inttoptr(builder.add(base, offset), kind.as_pointer()) for base in (x, b, y))
            total = builder.fadd(builder.load(at_x, align=4), builder.load(at_b, align=4))
            builder.store(total, at_y, align=4)
            builder.store(larger(builder, total, builder.load(best)), best)
        return largest_of(builder, builder.load(best))

    return types.float32(types.intp, types.intp, types.intp, types.intp), codegen
