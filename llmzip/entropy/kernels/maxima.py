"""The largest of many float32s, as LLVM IR: numba would look at one number at a time."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmzip.entropy.kernels.vectors import larger, largest_of

_F32, _I64 = ir.FloatType(), ir.IntType(64)
WIDTH = 64  # sums worked on together


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
