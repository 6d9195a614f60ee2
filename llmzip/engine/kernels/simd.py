"""Vector operations as LLVM IR that numba would not generate by itself, and helpers to write more.

Numba compiles in the process, so no compiler is needed; on processors without wide vectors LLVM splits the same IR.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, errors
from numba.extending import intrinsic
from numpy.typing import NDArray

from llmzip.entropy.kernels.vectors import larger, largest_of, repeated

I8, I16, I32, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()
INTP = ir.IntType(64)
VECTOR = 16  # int32s in one accumulator
LINE = 64  # bytes of a cache line
X86 = platform.machine().lower() in ("x86_64", "amd64")


def vector(kind: Any, n: int) -> Any:
    """The type of n values of a type."""
    return ir.VectorType(kind, n)


def load(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    """A value of type `kind` at address base + offset bytes, which need not be aligned."""
    at = builder.inttoptr(builder.add(base, offset), kind.as_pointer())
    return builder.load(at, align=1)


def store(builder: Any, value: Any, base: Any, offset: Any) -> None:
    """Writes a value at address base + offset bytes, which need not be aligned."""
    at = builder.inttoptr(builder.add(base, offset), value.type.as_pointer())
    builder.store(value, at, align=1)


def prefetch(builder: Any, base: Any, offset: Any) -> None:
    """Asks for the cache line at address base + offset bytes, which need not be there, in the second cache."""
    address = builder.inttoptr(builder.add(base, offset), I8.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [address.type, I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(function, [address, *(ir.Constant(I32, value) for value in (0, 2, 1))])  # to read, for the second cache, data


@intrinsic
def ask(_typing: Any, _address: Any, _lines: Any) -> Any:
    """ask(address, lines): asks for so many cache lines from an address on, which need not be there, in the second cache."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        ask_for(builder, *args)
        return nothing()

    return types.none(types.intp, types.intp), codegen


def ask_for(builder: Any, address: Any, lines: Any) -> None:
    """See `ask`."""
    with cgutils.for_range(builder, lines) as loop:
        prefetch(builder, address, builder.mul(loop.index, INTP(LINE)))


def splat(builder: Any, value: Any) -> Any:
    """A value of 32 bits, VECTOR times over."""
    return repeated(builder, value, vector(value.type, VECTOR))


def multiply_add(builder: Any, total: Any, a: Any, b: Any) -> Any:
    """total[i] + a[2i] b[2i] + a[2i+1] b[2i+1]; the backend makes one instruction of it where there is one."""
    product = builder.mul(a, b)
    undefined = ir.Constant(product.type, ir.Undefined)
    halves = vector(I32, VECTOR)
    even = builder.shuffle_vector(product, undefined, ir.Constant(halves, list(range(0, 2 * VECTOR, 2))))
    odd = builder.shuffle_vector(product, undefined, ir.Constant(halves, list(range(1, 2 * VECTOR, 2))))
    return builder.add(total, builder.add(even, odd))


def size(n: int) -> NDArray[np.int8]:
    """A number as an argument that code is compiled for: an array of n dimensions.

    The number is part of the array's type, so functions pass it on and are compiled for it; parallel loops, which can
    hand on neither literals nor tuples, keep it.
    """
    return np.empty((0,) * n, np.int8)


def literal(argument: Any) -> int:
    """The number that a literal, a `size` or the length of a tuple stands for, at compile time."""
    if isinstance(argument, types.IntegerLiteral):
        return int(argument.literal_value)
    if isinstance(argument, types.Array):
        return int(argument.ndim)
    if isinstance(argument, types.UniTuple):
        return int(argument.count)
    raise errors.RequireLiteralValue("sizes must be constants or made by `size`")


@intrinsic
def largest(_typing: Any, _address: Any, _vectors: Any) -> Any:
    """Maximum of `vectors` * VECTOR float32s at an address, none of them NaN."""
    return types.float32(types.intp, types.intp), lambda _c, builder, _s, args: _maximum(builder, args, False)


@intrinsic
def largest_magnitude(_typing: Any, _address: Any, _vectors: Any) -> Any:
    """Maximum magnitude of `vectors` * VECTOR float32s at an address, none of them NaN."""
    return types.float32(types.intp, types.intp), lambda _c, builder, _s, args: _maximum(builder, args, True)


def _maximum(builder: Any, args: Any, magnitude: bool) -> Any:
    address, vectors = args
    kind = vector(F32, VECTOR)
    best = cgutils.alloca_once(builder, kind)
    builder.store(ir.Constant(kind, [0.0 if magnitude else -3e38] * VECTOR), best)
    with cgutils.for_range(builder, vectors) as loop:
        value = load(builder, address, builder.mul(loop.index, INTP(4 * VECTOR)), kind)
        if magnitude:
            value = magnitudes(builder, value)
        builder.store(larger(builder, value, builder.load(best)), best)
    return largest_of(builder, builder.load(best))


def magnitudes(builder: Any, values: Any) -> Any:
    """The float32s of a vector without their signs."""
    kind = vector(I32, values.type.count)
    cleared = builder.and_(builder.bitcast(values, kind), ir.Constant(kind, [0x7FFFFFFF] * kind.count))
    return builder.bitcast(cleared, values.type)


def sum_of(builder: Any, values: Any) -> Any:
    """The sum of the VECTOR int32s of a vector: the upper half is added to the lower, again and again."""
    n = VECTOR
    while n > 1:
        n //= 2
        upper = ir.Constant(values.type, [n + i if i < n else i for i in range(VECTOR)])
        values = builder.add(builder.shuffle_vector(values, ir.Constant(values.type, ir.Undefined), upper), values)
    return builder.extract_element(values, ir.Constant(I32, 0))


@intrinsic
def hadamard64(_typing: Any, _address: Any) -> Any:
    """Walsh-Hadamard transform, without normalisation, of 64 float32s at an address, in place.

    Constant geometry: each stage pairs neighbours and writes sums before differences, which permutes the values
    between stages but adds the same pairs in the same order as `reference.hadamard`.
    """

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = vector(F32, VECTOR)
        even, odd = (ir.Constant(vector(I32, VECTOR), list(range(first, 2 * VECTOR, 2))) for first in (0, 1))
        values = [load(builder, args[0], INTP(4 * VECTOR * i), kind) for i in range(4)]
        for _ in range(6):
            pairs = [(builder.shuffle_vector(a, b, even), builder.shuffle_vector(a, b, odd)) for a, b in (values[:2], values[2:])]
            values = [builder.fadd(a, b) for a, b in pairs] + [builder.fsub(a, b) for a, b in pairs]
        for i, value in enumerate(values):
            store(builder, value, args[0], INTP(4 * VECTOR * i))
        return nothing()

    return types.none(types.intp), codegen


def nothing() -> Any:
    """The value that an intrinsic without a result returns."""
    return ir.Constant(I8.as_pointer(), None)
