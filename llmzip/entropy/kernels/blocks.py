"""Loops over a row of weights, as LLVM IR: numba would work on half as many numbers at a time, and read them more often."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmzip.entropy.exponential import LINE
from llmzip.entropy.frequencies import FLOOR, OFFSET, SHIFT
from llmzip.entropy.kernels.vectors import larger, repeated

LANES = 16  # weights in a vector
_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS, _PAIRS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES), ir.VectorType(_I64, LANES // 2)
_FOUND = ir.VectorType(ir.IntType(1), LANES)


def _all(kind: Any, value: Any) -> Any:
    """A constant vector that holds one number everywhere."""
    return ir.Constant(kind, [value] * kind.count)


def _at(builder: Any, base: Any, index: Any, kind: Any) -> Any:
    """A pointer to the vector of 16 numbers of 32 bits with this index, from an address on."""
    return builder.inttoptr(builder.add(base, builder.mul(index, _I64(4 * LANES))), kind.as_pointer())


def _halves(builder: Any, pairs: Any) -> tuple[Any, Any]:
    """The even and the odd ones of unsigned numbers of 32 bits, of which each number of 64 bits holds two."""
    return builder.and_(pairs, _all(_PAIRS, 0xFFFFFFFF)), builder.lshr(pairs, _all(_PAIRS, 32))


def _total(builder: Any, pairs: Any) -> Any:
    """The sum of the numbers of a vector."""
    values = [builder.extract_element(pairs, _I32(i)) for i in range(pairs.type.count)]
    while len(values) > 1:
        values = [builder.add(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


@intrinsic
def holds(_typing: Any, _x: Any, _vectors: Any, _value: Any) -> Any:
    """holds(x, vectors, value): whether one of vectors * LANES float32s at address x equals a value."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        x, vectors, value = args
        value, found = repeated(builder, value, _FLOATS), cgutils.alloca_once_value(builder, _all(_FOUND, 0))
        with cgutils.for_range(builder, vectors) as loop:
            equal = builder.fcmp_ordered("==", builder.load(_at(builder, x, loop.index, _FLOATS), align=4), value)
            builder.store(builder.or_(builder.load(found), equal), found)
        return builder.icmp_unsigned("!=", builder.bitcast(builder.load(found), ir.IntType(LANES)), ir.IntType(LANES)(0))

    return types.boolean(types.intp, types.intp, types.float32), codegen


@intrinsic
def weigh_vectors(_typing: Any, _w: Any, _vectors: Any, _top: Any) -> Any:
    """weigh_vectors(w, vectors, top): turns vectors * LANES float32s at address w into weights uint32, for the largest float32 of a row; returns their sum."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        w, vectors, top = args
        top = repeated(builder, top, _FLOATS)
        total = cgutils.alloca_once_value(builder, _all(_PAIRS, 0))
        with cgutils.for_range(builder, vectors) as loop:
            at = _at(builder, w, loop.index, _FLOATS)
            z = builder.fsub(builder.load(at, align=4), top)
            z = larger(builder, z, _all(_FLOATS, float(FLOOR)))
            pattern = builder.add(builder.fptosi(builder.fmul(z, _all(_FLOATS, float(LINE))), _INTS), _all(_INTS, int(OFFSET)))
            weights = builder.fptosi(builder.bitcast(pattern, _FLOATS), _INTS)
            builder.store(weights, builder.bitcast(at, _INTS.as_pointer()), align=4)
            even, odd = _halves(builder, builder.bitcast(weights, _PAIRS))
            builder.store(builder.add(builder.load(total), builder.add(even, odd)), total)
        return _total(builder, builder.load(total))

    return types.int64(types.intp, types.intp, types.float32), codegen


def _products(builder: Any, pairs: Any, factor: Any) -> tuple[Any, Any]:
    """The even and the odd ones of the numbers in `_halves`, times a factor."""
    even, odd = _halves(builder, pairs)
    return builder.mul(even, factor), builder.mul(odd, factor)


@intrinsic
def share_vectors(_typing: Any, _w: Any, _vectors: Any, _r: Any) -> Any:
    """share_vectors(w, vectors, r): the sum of floor(w * r / 2^SHIFT) of vectors * LANES weights uint32 at address w. r: uint32."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _shares(builder, *args)

    return types.int64(types.intp, types.intp, types.uint32), codegen


@intrinsic
def share_and_expect_vectors(_typing: Any, _w: Any, _vectors: Any, _r: Any, _plain: Any, _shift: Any, _expected: Any) -> Any:
    """share_and_expect_vectors(w, vectors, r, plain, shift, expected): as `share_vectors`; adds floor(w * plain / 2^(SHIFT + shift)) to int32s at address expected."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _shares(builder, *args)

    return types.int64(types.intp, types.intp, types.uint32, types.uint32, types.int64, types.intp), codegen


def _shares(builder: Any, w: Any, vectors: Any, r: Any, plain: Any = None, shift: Any = None, expected: Any = None) -> Any:
    """See `share_vectors` and `share_and_expect_vectors`."""

    def wide(value: Any) -> Any:
        return repeated(builder, builder.zext(value, _I64), _PAIRS)

    r = wide(r)
    if expected is not None:
        plain, down = wide(plain), repeated(builder, builder.add(shift, _I64(SHIFT)), _PAIRS)
    total = cgutils.alloca_once_value(builder, _all(_PAIRS, 0))
    with cgutils.for_range(builder, vectors) as loop:
        pairs = builder.load(_at(builder, w, loop.index, _PAIRS), align=4)
        even, odd = (builder.lshr(product, _all(_PAIRS, SHIFT)) for product in _products(builder, pairs, r))
        builder.store(builder.add(builder.load(total), builder.add(even, odd)), total)
        if expected is not None:
            even, odd = (builder.lshr(product, down) for product in _products(builder, pairs, plain))
            more = builder.bitcast(builder.or_(even, builder.shl(odd, _all(_PAIRS, 32))), _INTS)
            at = _at(builder, expected, loop.index, _INTS)
            builder.store(builder.add(builder.load(at, align=4), more), at, align=4)
    return _total(builder, builder.load(total))
