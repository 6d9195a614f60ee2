"""Products of four int8s with four others, sixteen times in parallel: the step that all integer dot products consist of.

It is one instruction (VNNI's `vpdpbusd`) on processors that have it. On others it is two multiply-adds of int16s, which all vector units have. The
instruction takes one operand unsigned, so that side is stored with OFFSET added. Sums are of integers and never saturate, so both ways, and any
order, give the same result.

The other side is broadcast, four values at a time; `prepare` brings it into the form for that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmzip.engine.kernels.packing import QUAD
from llmzip.engine.kernels.rows import i8, i16, i32, jit
from llmzip.engine.kernels.simd import I8, I16, I32, INTP, VECTOR, load, multiply_add, splat, store, vector

SUMS, BYTES, SHORTS = vector(I32, VECTOR), vector(I8, QUAD * VECTOR), vector(I16, 2 * VECTOR)
ZERO_SUMS = ir.Constant(SUMS, [0] * VECTOR)


class Vnni:
    """Quads as they are. A tile of 12 rows and 2 vectors of sums takes 24 of the 32 registers."""

    parts, rows, columns, planes, sums, queries = 1, 12, 2, 2, 16, 8

    @staticmethod
    def spread(_builder: Any, quads: Any) -> list[Any]:
        """`quads` (BYTES, unsigned) as `add` takes them, a part each."""
        return [quads]

    @staticmethod
    def add(builder: Any, total: Any, part: Any, one: Any) -> Any:
        """The total (SUMS) with products of a part of the unsigned side and one part of the broadcast side added."""
        kind = ir.FunctionType(SUMS, [SUMS, SUMS, SUMS])  # as LLVM declared it before 22; newer ones know both ways
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpdpbusd.512")
        return builder.call(function, [total, builder.bitcast(part, SUMS), one])

    @staticmethod
    def spread_signed(_builder: Any, quads: Any) -> list[Any]:
        """`spread` of signed quads, for `add_signed`."""
        return [quads]

    @classmethod
    def add_signed(cls, builder: Any, total: Any, part: Any, one: Any) -> Any:
        """As `add`, with a signed part and one part of weights from `store_weights`."""
        return cls.add(builder, total, one, builder.bitcast(part, SUMS))

    @staticmethod
    def store_weights(builder: Any, w: Any, out: Any, plane: int) -> None:
        """Writes one plane of bytes of the low 15 bits of w (SUMS): the first plane has the low ones."""
        if plane:
            w = builder.lshr(w, ir.Constant(SUMS, [8] * VECTOR))
        store(builder, builder.trunc(w, vector(I8, VECTOR)), out, INTP(0))


class Pairs:
    """Quads as int16s, first those at even places, then those at odd ones: to part them takes no shuffles."""

    parts, rows, columns, planes, sums, queries = 2, 4, 1, 1, 6, 1

    @staticmethod
    def spread(builder: Any, quads: Any) -> list[Any]:
        """`quads` (BYTES, unsigned) as `add` takes them, a part each."""
        words = builder.bitcast(quads, SHORTS)
        low, eight = (ir.Constant(SHORTS, [value] * (2 * VECTOR)) for value in (255, 8))
        return [builder.and_(words, low), builder.lshr(words, eight)]

    @staticmethod
    def add(builder: Any, total: Any, part: Any, one: Any) -> Any:
        """The total (SUMS) with products of a part of the unsigned side and one part of the broadcast side added."""
        wide = vector(I32, 2 * VECTOR)
        return multiply_add(builder, total, builder.sext(part, wide), builder.sext(builder.bitcast(one, SHORTS), wide))

    @staticmethod
    def spread_signed(builder: Any, quads: Any) -> list[Any]:
        """`spread` of signed quads, for `add_signed`."""
        words, eight = builder.bitcast(quads, SHORTS), ir.Constant(SHORTS, [8] * (2 * VECTOR))
        return [builder.ashr(builder.shl(words, eight), eight), builder.ashr(words, eight)]

    @classmethod
    def add_signed(cls, builder: Any, total: Any, part: Any, one: Any) -> Any:
        """As `add`, with a signed part and one part of weights from `store_weights`."""
        return cls.add(builder, total, part, one)

    @staticmethod
    def store_weights(builder: Any, w: Any, out: Any, _plane: int) -> None:
        """Writes the low 15 bits of w (SUMS) as int16s in the order of `prepare`. There is no second plane."""
        order = [QUAD * (i // QUAD) + (0, 2, 1, 3)[i % QUAD] for i in range(VECTOR)]
        parted = builder.shuffle_vector(w, ir.Constant(SUMS, ir.Undefined), ir.Constant(vector(I32, VECTOR), order))
        store(builder, builder.trunc(parted, vector(I16, VECTOR)), out, INTP(0))


def emitter(context: Any) -> Any:
    """`Vnni` or `Pairs`, by the processor that code is made for."""
    return Vnni if "+avx512vnni" in context.codegen().magic_tuple()[2].split(",") else Pairs


def broadcast(builder: Any, emit: Any, row: Any, quad: Any, part: int) -> Any:
    """One part of the quad with index `quad` of the row at an address, as made by `prepare`, for all of SUMS."""
    at = builder.add(builder.mul(quad, INTP(QUAD * emit.parts)), INTP(QUAD * part))
    return splat(builder, load(builder, row, at, I32))


@intrinsic
def parts(_typing: Any) -> Any:
    """Parts a quad is worked on in."""
    return types.intp(), lambda context, _builder, _signature, _args: INTP(emitter(context).parts)


@jit
def have_instruction():
    """Whether a step is one instruction here."""
    return parts() == 1


@jit
def operand(q):
    """Room for the broadcast side of q int8 [m, k]: int8 [m, parts * k]. If there is one part, it is q itself, so each q needs its own."""
    return q if parts() == 1 else np.empty((q.shape[0], parts() * q.shape[1]), i8)


@jit
def prepare(q, out, sums):
    """Brings q int8 [m, k] into the form of the broadcast side, out as from `operand`; sums int32 [m] of its rows."""
    m, k = q.shape
    for i in range(m):
        total = i32(0)
        for j in range(k):
            total = i32(total + i32(q[i, j]))
        sums[i] = total
    if parts() != 1:
        shorts = out.view(np.int16)
        for i in range(m):
            x, y = q[i], shorts[i]
            for j in range(k // QUAD):
                y[QUAD * j] = i16(x[QUAD * j])
                y[QUAD * j + 1] = i16(x[QUAD * j + 2])
                y[QUAD * j + 2] = i16(x[QUAD * j + 1])
                y[QUAD * j + 3] = i16(x[QUAD * j + 3])
