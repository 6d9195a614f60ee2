"""Heads between their products for numba, as LLVM IR: scaled, turned and quantised, by addresses. Numba would count references to every slice of an array."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmzip.engine.kernels.simd import F32, I8, I32, INTP, VECTOR, load, magnitudes, nothing, splat, store, sum_of, vector
from llmzip.entropy.kernels.vectors import larger, largest_of

_FLOATS, _INTS = vector(F32, VECTOR), vector(I32, VECTOR)
# A float32 from -2^22 to 2^22, added to it, is rounded to an integer: the low bits of the sum, whose other bits are those of _ROUNDING.
_ROUNDING, _ROUNDING_BITS = 1.5 * 2.0**23, 0x4B400000


@intrinsic
def scale_head(_typing: Any, _acc: Any, _col: Any, _y: Any, _vectors: Any) -> Any:
    """scale_head(acc, col, y, vectors): y = float(acc) * col. Addresses of acc int32, col float32 and y float32, vectors * VECTOR each."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        acc, col, y, vectors = args
        with cgutils.for_range(builder, vectors) as loop:
            at = builder.mul(loop.index, INTP(4 * VECTOR))
            value = builder.sitofp(load(builder, acc, at, _INTS), _FLOATS)
            store(builder, builder.fmul(value, load(builder, col, at, _FLOATS)), y, at)
        return nothing()

    return types.none(*[types.intp] * 4), codegen


@intrinsic
def scale_mixed(_typing: Any, _acc: Any, _scale: Any, _out: Any, _vectors: Any) -> Any:
    """scale_mixed(acc, scale, out, vectors): out = float(acc) * scale. Addresses of acc int32 and out float32, vectors * VECTOR each; scale float32."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        acc, scale, out, vectors = args
        by = splat(builder, scale)
        with cgutils.for_range(builder, vectors) as loop:
            at = builder.mul(loop.index, INTP(4 * VECTOR))
            store(builder, builder.fmul(builder.sitofp(load(builder, acc, at, _INTS), _FLOATS), by), out, at)
        return nothing()

    return types.none(types.intp, types.float32, types.intp, types.intp), codegen


@intrinsic
def turn(_typing: Any, _y: Any, _cs: Any, _out: Any, _vectors: Any) -> Any:
    """turn(y, cs, out, vectors): rotates a head, d = vectors * VECTOR; returns the largest magnitude.

    Addresses of y float32 [d], cs float32 [2, d/2] and out float32 [d].
    """

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        y, cs, out, vectors = args
        kind = vector(F32, VECTOR // 2)  # half a head has as many of them as a whole one has of VECTOR
        half = builder.mul(vectors, INTP(4 * VECTOR // 2))
        best = cgutils.alloca_once_value(builder, ir.Constant(kind, [0.0] * kind.count))
        with cgutils.for_range(builder, vectors) as loop:
            low = builder.mul(loop.index, INTP(4 * kind.count))
            high = builder.add(low, half)
            a, b, cos, sin = (load(builder, x, at, kind) for x in (y, cs) for at in (low, high))
            first = builder.fsub(builder.fmul(a, cos), builder.fmul(b, sin))
            second = builder.fadd(builder.fmul(b, cos), builder.fmul(a, sin))
            for value, at in ((first, low), (second, high)):
                store(builder, value, out, at)
                builder.store(larger(builder, magnitudes(builder, value), builder.load(best)), best)
        return largest_of(builder, builder.load(best))

    return types.float32(*[types.intp] * 4), codegen


@intrinsic
def quantise(_typing: Any, _x: Any, _r: Any, _q: Any, _vectors: Any) -> Any:
    """quantise(x, r, q, vectors): q = round(x * r), which must fit; returns their sum, int32. Addresses of x float32 and q int8, vectors * VECTOR each."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        x, r, q, vectors = args
        by, total = splat(builder, r), cgutils.alloca_once_value(builder, ir.Constant(_INTS, [0] * VECTOR))
        with cgutils.for_range(builder, vectors) as loop:
            at = builder.mul(loop.index, INTP(VECTOR))
            value = builder.fmul(load(builder, x, builder.mul(at, INTP(4)), _FLOATS), by)
            bits = builder.bitcast(builder.fadd(value, ir.Constant(_FLOATS, [_ROUNDING] * VECTOR)), _INTS)
            store(builder, builder.trunc(bits, vector(I8, VECTOR)), q, at)
            whole = builder.sub(bits, ir.Constant(_INTS, [_ROUNDING_BITS] * VECTOR))
            builder.store(builder.add(builder.load(total), whole), total)
        return sum_of(builder, builder.load(total))

    return types.int32(types.intp, types.float32, types.intp, types.intp), codegen
