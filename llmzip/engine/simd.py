"""Integer dot products for numba, as portable vector LLVM IR that the backend maps to the machine's own instructions.

Numba compiles in the process, so no compiler is needed; on processors without vector units LLVM expands the same IR.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_I32 = ir.IntType(32)


def _reduce_add(builder: Any, value: Any) -> Any:
    name = f"llvm.vector.reduce.add.v{value.type.count}i32"
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(_I32, [value.type]), name=name)
    return builder.call(function, [value])


def make_dot(length: int) -> Any:
    """An intrinsic dot(a, b): sum of a[i] * b[i] over `length` elements, modulo 2^32.

    a is the address of int16s and b of int8s, neither aligned. Exact while the sum fits int32.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def dot(_typing: Any, _a: Any, _b: Any) -> Any:
        def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            wide = ir.VectorType(_I32, length)

            def load(address: Any, bits: int) -> Any:
                kind = ir.VectorType(ir.IntType(bits), length)
                pointer = builder.inttoptr(address, kind.as_pointer())
                return builder.sext(builder.load(pointer, align=1), wide)

            return _reduce_add(builder, builder.mul(load(args[0], 16), load(args[1], 8)))

        return types.int32(types.intp, types.intp), codegen

    return dot
