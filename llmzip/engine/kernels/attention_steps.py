"""How many steps attention works on together, and by which instructions. It is said by the type of an argument, `steps`.

A tuple with as many members as there are steps: by vectors, with code made for that number. An integer, the number of steps: by AMX tiles.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from llmzip.engine.kernels import quads
from llmzip.engine.kernels.amx import TILE_ROWS, enabled_in
from llmzip.engine.kernels.simd import INTP, literal


def by_tiles(steps: Any) -> bool:
    """Whether a type of `steps` says that AMX tiles are used."""
    return isinstance(steps, types.Integer)


@intrinsic
def several(_typing: Any, amx: Any, group: Any) -> Any:
    """`steps` for as many as are best worked on together, of `group` queries each. amx: `amx.WITH` or `amx.WITHOUT`."""
    if enabled_in(amx):
        return types.intp(amx, group), lambda *_: INTP(TILE_ROWS // literal(group))
    emit = quads.emitter(cpu_target.target_context)
    kind = types.UniTuple(types.intp, next(n for n in (4, 2, 1) if n * literal(group) <= emit.queries or n == 1))
    return kind(amx, group), lambda context, _builder, _signature, _args: context.get_constant_null(kind)


@intrinsic
def at_most(_typing: Any, steps: Any, n: Any) -> Any:
    """`steps` for min(n, its own number), where it can be for any number."""
    if by_tiles(steps):

        def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.select(builder.icmp_signed("<", args[1], args[0]), args[1], args[0])

        return types.intp(steps, types.intp), codegen
    return steps(steps, types.intp), lambda _context, _builder, _signature, args: args[0]


@intrinsic
def number(_typing: Any, steps: Any) -> Any:
    """How many there are."""
    if by_tiles(steps):
        return types.intp(steps), lambda _context, _builder, _signature, args: args[0]
    return types.intp(steps), lambda *_: INTP(literal(steps))


@intrinsic
def tiled(_typing: Any, steps: Any) -> Any:
    """`by_tiles`, as a constant."""
    return types.boolean(steps), lambda context, *_: context.get_constant(types.boolean, by_tiles(steps))
