"""Operations on vectors, as LLVM IR, for kernels of this package and others."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

_I32 = ir.IntType(32)


def repeated(builder: Any, value: Any, kind: Any) -> Any:
    """A vector of type `kind` that holds one value everywhere."""
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, value, _I32(0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count))


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
