"""Four int8s against four, sixteen times over: the step all integer dot products are made of.

One instruction (VNNI's `vpdpbusd`) where the processor has it; elsewhere two multiply-adds of int16s, which every vector
unit has. The instruction wants one operand unsigned, so the other side's partner is stored with OFFSET added. Sums are of
integers and never saturate, so both ways and any order give the same.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from llmzip.engine.cache import OFFSET as OFFSET
from llmzip.engine.simd import I8, I32, VECTOR, multiply_add, vector

QUAD = 4
SUMS, BYTES = vector(I32, VECTOR), vector(I8, QUAD * VECTOR)


class Vnni:
    """Sums of 16 outputs: one vector."""

    vectors = 1

    @staticmethod
    def add(builder: Any, totals: list[Any], weights: Any, quad: Any) -> list[Any]:
        """The totals, with the dot products of unsigned `weights` and signed `quad` (both BYTES) added."""
        kind = ir.FunctionType(SUMS, [SUMS, BYTES, BYTES])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpdpbusd.512")
        return [builder.call(function, [totals[0], weights, quad])]

    @staticmethod
    def result(_builder: Any, totals: list[Any]) -> Any:
        """SUMS."""
        return totals[0]


class Pairs:
    """Sums of 8 outputs a vector, in two parts each."""

    vectors = 2

    @staticmethod
    def add(builder: Any, totals: list[Any], weights: Any, quad: Any) -> list[Any]:
        """The totals, with the dot products of unsigned `weights` and signed `quad` (both BYTES) added."""
        wide, undefined = vector(I32, 2 * VECTOR), ir.Constant(BYTES, ir.Undefined)
        out = []
        for i, total in enumerate(totals):
            half = ir.Constant(wide, list(range(2 * VECTOR * i, 2 * VECTOR * (i + 1))))
            a = builder.zext(builder.shuffle_vector(weights, undefined, half), wide)
            b = builder.sext(builder.shuffle_vector(quad, undefined, half), wide)
            out.append(multiply_add(builder, total, a, b))
        return out

    @staticmethod
    def result(builder: Any, totals: list[Any]) -> Any:
        """SUMS."""
        even, odd = (ir.Constant(SUMS, list(range(i, 2 * VECTOR, 2))) for i in (0, 1))
        return builder.add(*(builder.shuffle_vector(*totals, part) for part in (even, odd)))


def emitter(context: Any) -> Any:
    """`Vnni` or `Pairs`, by the processor that code is made for."""
    return Vnni if "+avx512vnni" in context.codegen().magic_tuple()[2].split(",") else Pairs


def zeros(builder: Any, emit: Any) -> list[Any]:
    """Room for one vector of sums, on the stack, at zero."""
    room = [cgutils.alloca_once(builder, SUMS) for _ in range(emit.vectors)]
    for vector_ in room:
        builder.store(ir.Constant(SUMS, [0] * VECTOR), vector_)
    return room
