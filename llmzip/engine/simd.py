"""Integer dot products for numba, as portable vector LLVM IR that the backend maps to the machine's own instructions.

Numba compiles in the process, so no compiler is needed; on processors without wide vectors LLVM splits the same IR.
All sums are of integers and fit int32, so their order does not matter.

Keys and values lie in the layouts of `cache`, which put two int8s that meet in one multiply-add side by side.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, errors
from numba.extending import intrinsic

from llmzip.engine.cache import KEY_BLOCK

_I8, _I16, _I32, _F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()
_INTP = ir.IntType(64)
VECTOR = 16  # int32s in one accumulator


@intrinsic
def float_from_bits(_typing: Any, _bits: Any) -> Any:
    """The float32 whose bit pattern is an int32."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _F32)

    return types.float32(types.int32), codegen


@intrinsic
def bits_from_float(_typing: Any, _value: Any) -> Any:
    """The bit pattern of a float32 as int32."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _I32)

    return types.int32(types.float32), codegen


def _vector(kind: Any, n: int) -> Any:
    return ir.VectorType(kind, n)


def _load(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    """A value of type `kind` at address base + offset bytes, which need not be aligned."""
    at = builder.inttoptr(builder.add(base, offset), kind.as_pointer())
    return builder.load(at, align=1)


def _store(builder: Any, value: Any, base: Any, offset: Any) -> None:
    at = builder.inttoptr(builder.add(base, offset), value.type.as_pointer())
    builder.store(value, at, align=1)


def _pairs_of_bytes(builder: Any, base: Any, offset: Any) -> Any:
    """2 * VECTOR int8s as int32s."""
    return builder.sext(_load(builder, base, offset, _vector(_I8, 2 * VECTOR)), _vector(_I32, 2 * VECTOR))


def _splat_pair(builder: Any, base: Any, offset: Any) -> Any:
    """Two int16s, VECTOR times over, as int32s."""
    pair = _load(builder, base, offset, _I32)
    kind = _vector(_I32, VECTOR)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), pair, ir.Constant(_I32, 0))
    splat = builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(kind, [0] * VECTOR))
    return builder.sext(builder.bitcast(splat, _vector(_I16, 2 * VECTOR)), _vector(_I32, 2 * VECTOR))


def _multiply_add(builder: Any, total: Any, a: Any, b: Any) -> Any:
    """total[i] + a[2i] b[2i] + a[2i+1] b[2i+1]; the backend makes one instruction of it where there is one."""
    product = builder.mul(a, b)
    undefined = ir.Constant(product.type, ir.Undefined)
    halves = _vector(_I32, VECTOR)
    even = builder.shuffle_vector(product, undefined, ir.Constant(halves, list(range(0, 2 * VECTOR, 2))))
    odd = builder.shuffle_vector(product, undefined, ir.Constant(halves, list(range(1, 2 * VECTOR, 2))))
    return builder.add(total, builder.add(even, odd))


def _literals(*sizes: Any) -> list[int]:
    """Sizes that shape the code, known when it is compiled."""
    if not all(isinstance(size, types.IntegerLiteral) for size in sizes):
        raise errors.RequireLiteralValue("head size and group must be constants")
    return [size.literal_value for size in sizes]


@intrinsic(prefer_literal=True)
def scores(_typing: Any, head_dim: Any, group: Any, _q: Any, _qs: Any, _k: Any, _ks: Any, _out: Any, _stride: Any) -> Any:
    """scores(head_dim, group, q, qs, k, ks, out, stride): `group` queries against one block of KEY_BLOCK keys.

    Addresses of q int16 [group, head_dim], qs float32 [group], k int8 [head_dim/2, KEY_BLOCK, 2], ks float32
    [KEY_BLOCK] and out float32 [group, stride bytes apart]; out = (float(q . k) * ks) * qs.
    """
    d, heads = _literals(head_dim, group)

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        q, qs, k, ks, out, stride = args[2:]
        totals = [ir.Constant(_vector(_I32, VECTOR), [0] * VECTOR)] * heads
        for pair in range(d // 2):
            keys = _pairs_of_bytes(builder, k, _INTP(2 * KEY_BLOCK * pair))
            totals = [_multiply_add(builder, t, keys, _splat_pair(builder, q, _INTP(2 * d * g + 4 * pair))) for g, t in enumerate(totals)]
        scale = _load(builder, ks, _INTP(0), _vector(_F32, VECTOR))
        for g, total in enumerate(totals):
            value = builder.fmul(builder.sitofp(total, _vector(_F32, VECTOR)), scale)
            value = builder.fmul(value, _splat_float(builder, _load(builder, qs, _INTP(4 * g), _F32)))
            _store(builder, value, out, builder.mul(stride, _INTP(g)))
        return _nothing()

    return types.none(head_dim, group, *[types.intp] * 6), codegen


@intrinsic(prefer_literal=True)
def mix(_typing: Any, head_dim: Any, group: Any, _w: Any, _stride: Any, _v: Any, _pairs: Any, _out: Any) -> Any:
    """mix(head_dim, group, w, stride, v, pairs, out): weighted sums of values over `pairs` pairs of keys.

    Addresses of w int16 [group, stride bytes apart], v int8 [pairs, head_dim, 2] and out int32 [group, head_dim].
    """
    d, heads = _literals(head_dim, group)
    columns = 2 * VECTOR if d % (2 * VECTOR) == 0 else VECTOR

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        w, stride, v, pairs, out = args[2:]
        zero = ir.Constant(_vector(_I32, VECTOR), [0] * VECTOR)
        for first in range(0, d, columns):
            vectors = range(first, first + columns, VECTOR)
            totals = {(g, c): cgutils.alloca_once(builder, zero.type) for g in range(heads) for c in vectors}
            for total in totals.values():
                builder.store(zero, total)
            with cgutils.for_range(builder, pairs) as loop:
                row = builder.mul(loop.index, _INTP(2 * d))
                values = {c: _pairs_of_bytes(builder, v, builder.add(row, _INTP(2 * c))) for c in vectors}
                at = builder.mul(loop.index, _INTP(4))
                for g in range(heads):
                    weight = _splat_pair(builder, w, builder.add(at, builder.mul(stride, _INTP(g))))
                    for c in vectors:
                        total = totals[g, c]
                        builder.store(_multiply_add(builder, builder.load(total), values[c], weight), total)
            for (g, c), total in totals.items():
                _store(builder, builder.load(total), out, _INTP(4 * (d * g + c)))
        return _nothing()

    return types.none(head_dim, group, *[types.intp] * 5), codegen


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
    kind = _vector(_F32, VECTOR)
    best = cgutils.alloca_once(builder, kind)
    builder.store(ir.Constant(kind, [0.0 if magnitude else -3e38] * VECTOR), best)
    with cgutils.for_range(builder, vectors) as loop:
        value = _load(builder, address, builder.mul(loop.index, _INTP(4 * VECTOR)), kind)
        if magnitude:
            bits = builder.bitcast(value, _vector(_I32, VECTOR))
            cleared = builder.and_(bits, ir.Constant(_vector(_I32, VECTOR), [0x7FFFFFFF] * VECTOR))
            value = builder.bitcast(cleared, kind)
        builder.store(_larger(builder, value, builder.load(best)), best)
    result = builder.load(best)
    n = VECTOR
    while n > 1:  # the upper half against the lower
        n //= 2
        upper = ir.Constant(_vector(_I32, VECTOR), [n + i if i < n else i for i in range(VECTOR)])
        result = _larger(builder, builder.shuffle_vector(result, ir.Constant(kind, ir.Undefined), upper), result)
    return builder.extract_element(result, ir.Constant(_I32, 0))


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@intrinsic
def hadamard64(_typing: Any, _address: Any) -> Any:
    """Walsh-Hadamard transform, without normalisation, of 64 float32s at an address, in place.

    Constant geometry: each stage pairs neighbours and writes sums before differences, which permutes the values
    between stages but adds the same pairs in the same order as `reference.hadamard`.
    """

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = _vector(_F32, VECTOR)
        even, odd = (ir.Constant(_vector(_I32, VECTOR), list(range(first, 2 * VECTOR, 2))) for first in (0, 1))
        values = [_load(builder, args[0], _INTP(4 * VECTOR * i), kind) for i in range(4)]
        for _ in range(6):
            pairs = [(builder.shuffle_vector(a, b, even), builder.shuffle_vector(a, b, odd)) for a, b in (values[:2], values[2:])]
            values = [builder.fadd(a, b) for a, b in pairs] + [builder.fsub(a, b) for a, b in pairs]
        for i, value in enumerate(values):
            _store(builder, value, args[0], _INTP(4 * VECTOR * i))
        return _nothing()

    return types.none(types.intp), codegen


def _splat_float(builder: Any, value: Any) -> Any:
    kind = _vector(_F32, VECTOR)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(_vector(_I32, VECTOR), [0] * VECTOR))


def _nothing() -> Any:
    """What an intrinsic without result returns."""
    return ir.Constant(_I8.as_pointer(), None)
