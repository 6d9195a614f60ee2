"""Sums of two arrays and the largest of them, as LLVM IR: numba would look at one number at a time."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
WIDTH = 64  # numbers worked on together


@intrinsic
def largest_sums(_typing, _x, _b, _y, _blocks):
    """Writes y[j] = x[j] + b[j] of blocks * WIDTH float32s at addresses, none of the sums NaN; returns the largest."""

    def codegen(_context, builder, _signature, args):
        x, b, y, blocks = args
        kind = ir.VectorType(_F32, WIDTH)
        undefined = ir.Constant(kind, ir.Undefined)
        best = cgutils.alloca_once_value(builder, ir.Constant(kind, [float("-inf")] * WIDTH))

        def at(base, offset):
            return builder.inttoptr(builder.add(base, offset), kind.as_pointer())

        def larger(one, other):
            return builder.select(builder.fcmp_ordered(">", one, other), one, other)

        with cgutils.for_range(builder, blocks) as loop:
            offset = builder.mul(loop.index, _I64(4 * WIDTH))
            total = builder.fadd(builder.load(at(x, offset), align=4), builder.load(at(b, offset), align=4))
            builder.store(total, at(y, offset), align=4)
            builder.store(larger(total, builder.load(best)), best)
        result, n = builder.load(best), WIDTH
        while n > 1:  # the upper half against the lower
            n //= 2
            upper = ir.Constant(ir.VectorType(_I32, WIDTH), [n + i if i < n else i for i in range(WIDTH)])
            result = larger(builder.shuffle_vector(result, undefined, upper), result)
        return builder.extract_element(result, ir.Constant(_I32, 0))

    return types.float32(types.intp, types.intp, types.intp, types.intp), codegen
