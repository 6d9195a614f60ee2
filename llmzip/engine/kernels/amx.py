"""Matrix products by AMX, the tiles that some Intel processors multiply: 16 rows times 16 outputs times 64 columns an instruction.

All functions take `amx`, WITH or WITHOUT. The choice is the argument's type, so code compiled for WITHOUT has none of the instructions. The
instructions are inline assembly: LLVM never uses tile registers by itself, and its own functions for them need its own idea of the processor.

`packing` lays weights out as the instruction wants them: a row of a tile holds one quad of 16 outputs. Eight tiles are named by their use:
four for sums, two for the rows, two for the weights. Sums are of integers, so they are those of `tiles`.

A thread has to `configure` its tiles before it uses them, and has to `release` them, since a processor and its system work more while tiles
are in use. The process needs the system's permission before: see `engine.amx_proof`.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmzip.engine.kernels import quads
from llmzip.engine.kernels.packing import OFFSET, OUTPUTS, QUAD
from llmzip.engine.kernels.rows import counts_nothing, jit
from llmzip.engine.kernels.simd import I8, I32, INTP, LINE, VECTOR, X86, literal, load, nothing, prefetch, size, splat, store

WITHOUT, WITH = size(1), size(2)
TILE_ROWS = 16
TILE_BYTES = 64  # of a row of a tile
TILE_QUADS = TILE_BYTES // QUAD  # that one instruction takes
SIGNED_UNSIGNED, UNSIGNED_SIGNED = 1, 2  # of the rows and of the other side
FEWEST_ROWS = 6  # With fewer, both ways wait for the weights. Derived from published times of the instructions, not measured.
_PAIR = 2 * TILE_ROWS  # rows that share the loads of weights
_GROUP = 1 << 20  # bytes of weights that all rows pass by: they stay in the second cache, and _PAIR rows in the first
_CLOBBERED = "~{memory},~{dirflag},~{fpsr},~{flags}"
SUM_TILES, ROW_TILES, OTHER_TILES = (0, 1, 2, 3), (4, 5), (6, 7)
_MULTIPLY = {SIGNED_UNSIGNED: "tdpbsud", UNSIGNED_SIGNED: "tdpbusd"}

if X86:
    llvmlite.binding.initialize_native_asmparser()  # reads inline assembly


def enabled_in(amx: Any) -> bool:
    """Whether a type is that of WITH."""
    return literal(amx) == WITH.ndim


def _emit(builder: Any, text: str, *values: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    builder.asm(kind, text, ",".join([*["r"] * len(values), _CLOBBERED]), values, True)


def clear(builder: Any, tile: int) -> None:
    """A tile of sums becomes 0."""
    _emit(builder, f"tilezero %tmm{tile}")


def load_tile(builder: Any, tile: int, address: Any, stride: Any) -> None:
    """A tile gets its rows from an address, `stride` bytes apart."""
    _emit(builder, f"tileloadd ($0,$1,1), %tmm{tile}", address, stride)


def store_tile(builder: Any, tile: int, address: Any, stride: Any) -> None:
    """A tile's rows go to an address, `stride` bytes apart."""
    _emit(builder, f"tilestored %tmm{tile}, ($0,$1,1)", address, stride)


def add_products(builder: Any, signs: int, sums: int, rows: int, others: int) -> None:
    """A tile of sums gets the products of a tile of rows and another one of quads added. signs: SIGNED_UNSIGNED or UNSIGNED_SIGNED."""
    _emit(builder, f"{_MULTIPLY[signs]} %tmm{others}, %tmm{rows}, %tmm{sums}")


@intrinsic
def enabled(_typing: Any, amx: Any) -> Any:
    """Whether `amx` is WITH, as a constant."""
    return types.boolean(amx), lambda *_: ir.Constant(ir.IntType(1), int(enabled_in(amx)))


def give_tiles(builder: Any, rows: Any) -> None:
    """See `configure`."""
    plan = cgutils.alloca_once(builder, ir.ArrayType(I8, 64))
    same = [1, *[0] * 15, *[TILE_BYTES, 0] * 8, *[0] * 16, *[TILE_QUADS] * 8, *[0] * 8]  # palette 1; bytes of rows as int16; rows
    builder.store(ir.Constant(plan.type.pointee, same), plan)
    for t in (*SUM_TILES, *ROW_TILES):
        builder.store(builder.trunc(rows, I8), cgutils.gep_inbounds(builder, plan, 0, 48 + t))
    _emit(builder, "ldtilecfg ($0)", builder.ptrtoint(plan, INTP))


def take_tiles(builder: Any) -> None:
    """See `release`."""
    _emit(builder, "tilerelease")


@intrinsic
def configure(_typing: Any, amx: Any, _rows: Any) -> Any:
    """configure(amx, rows): gives this thread tiles for sums and rows, of 1 to TILE_ROWS rows of TILE_BYTES bytes, and whole ones for weights."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if enabled_in(amx):
            give_tiles(builder, args[1])
        return nothing()

    return types.none(amx, types.intp), codegen


@intrinsic
def release(_typing: Any, amx: Any) -> Any:
    """release(amx): takes this thread's tiles away."""

    def codegen(_context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if enabled_in(amx):
            take_tiles(builder)
        return nothing()

    return types.none(amx), codegen


@intrinsic(prefer_literal=True)
def multiply(
    _typing: Any, amx: Any, rows: Any, columns: Any, ahead: Any, _a: Any, _lower: Any, _a_stride: Any, _b: Any, _b_stride: Any,
    _b_step: Any, _steps: Any, _out: Any, _out_lower: Any, _out_stride: Any,
) -> Any:  # fmt: skip
    """multiply(amx, rows, columns, ahead, a, lower, a_stride, b, b_stride, b_step, steps, out, out_lower, out_stride): products of tiles.

    Args:
        rows, columns: tiles below and beside each other that are filled, 1 or 2 each.
        ahead: 1 to ask for what lies behind all of b, else 0.
        a, lower: addresses of int8 [rows, a_stride bytes apart], for the first and the second tile of rows; TILE_BYTES are read a step.
        b: address of quads, int8 [TILE_QUADS, b_stride bytes apart, 16 * columns, QUAD]; the next step's lie b_step bytes on.
        steps: of TILE_BYTES columns of a.
        out, out_lower: addresses of int32 [rows, out_stride bytes apart], for the first and the second tile of rows.
    """
    m, n, wanted = literal(rows), literal(columns), literal(ahead)

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if not enabled_in(amx):
            return nothing()
        a, lower, a_stride, b, b_stride, b_step, steps, out, out_lower, out_stride = args[4:]
        sums = {(i, c): SUM_TILES[2 * i + c] for i in range(m) for c in range(n)}
        behind = builder.mul(steps, b_step)
        for tile in sums.values():
            clear(builder, tile)
        with cgutils.for_range(builder, steps) as loop:
            here = builder.add(b, builder.mul(loop.index, b_step))
            for line in range(0, TILE_QUADS * TILE_BYTES * n if wanted else 0, LINE):
                prefetch(builder, here, builder.add(behind, INTP(line)))
            column = builder.mul(loop.index, INTP(TILE_BYTES))
            for tile, start in zip(ROW_TILES[:m], (a, lower), strict=False):
                load_tile(builder, tile, builder.add(start, column), a_stride)
            for c, tile in enumerate(OTHER_TILES[:n]):
                load_tile(builder, tile, builder.add(here, INTP(TILE_BYTES * c)), b_stride)
            for (i, c), tile in sums.items():
                add_products(builder, SIGNED_UNSIGNED, tile, ROW_TILES[i], OTHER_TILES[c])
        for (i, c), tile in sums.items():
            store_tile(builder, tile, builder.add((out, out_lower)[i], INTP(TILE_BYTES * c)), out_stride)
        return nothing()

    return types.none(amx, rows, columns, ahead, *[types.intp] * 10), codegen


@intrinsic
def _take_offset(_typing: Any, _out: Any, _stride: Any, _sums: Any, _rows: Any) -> Any:
    """_take_offset(out, stride, sums, rows): subtracts what OFFSET adds to products. Addresses of out int32 [rows, stride bytes apart], OUTPUTS each, and sums int32 [rows]."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        out, stride, sums, rows = args
        with cgutils.for_range(builder, rows) as loop:
            total = load(builder, sums, builder.mul(loop.index, INTP(4)), I32)
            extra, row = splat(builder, builder.mul(total, ir.Constant(I32, OFFSET))), builder.add(out, builder.mul(stride, loop.index))
            for at in range(0, 4 * OUTPUTS, 4 * VECTOR):
                store(builder, builder.sub(load(builder, row, INTP(at), extra.type), extra), row, INTP(at))
        return nothing()

    return types.none(*[types.intp] * 4), codegen


@jit
def worthwhile(amx, m, w):
    """Whether `tiled_products` can and should multiply m rows with packed w."""
    return enabled(amx) and quads.parts() == 1 and m >= FEWEST_ROWS and w.shape[1] % TILE_QUADS == 0


@counts_nothing
def tiled_products(amx, q, sums, w, first, last, out, origin):
    """`products.some_products` where it is `worthwhile`.

    The last tiles of rows begin earlier where they would end behind the last row: rows in two tiles get the same sums twice.
    """
    m, n = q.shape[0], w.shape[1]
    group = max(1, _GROUP // (n * OUTPUTS * QUAD))
    configure(amx, min(m, TILE_ROWS))
    for start in range(first, last, group):
        for i in range(0, m, _PAIR):
            for b in range(start, min(start + group, last)):
                _block(amx, q, sums, w[b], i, out[:, (b - origin) * OUTPUTS :])
    release(amx)


@counts_nothing
def _block(amx, q, sums, w, i, out):
    """Up to _PAIR rows from row i on, with one block w [k / QUAD, OUTPUTS, QUAD]."""
    m, stride, line, below = q.shape[0], q.shape[1], OUTPUTS * QUAD, out.strides[0]
    steps = w.shape[0] // TILE_QUADS
    two = m - i > TILE_ROWS
    top = max(0, min(i, m - _PAIR)) if two else max(0, m - TILE_ROWS)
    lower = min(top + TILE_ROWS, m - TILE_ROWS) if two else top
    a, b, o = q[top:].ctypes.data, w.ctypes.data, out[top:].ctypes.data
    a_low, o_low = q[lower:].ctypes.data, out[lower:].ctypes.data
    if two and i == 0:
        multiply(amx, 2, 2, 1, a, a_low, stride, b, line, line * TILE_QUADS, steps, o, o_low, below)
    elif two:
        multiply(amx, 2, 2, 0, a, a_low, stride, b, line, line * TILE_QUADS, steps, o, o_low, below)
    elif i == 0:
        multiply(amx, 1, 2, 1, a, a, stride, b, line, line * TILE_QUADS, steps, o, o, below)
    else:
        multiply(amx, 1, 2, 0, a, a, stride, b, line, line * TILE_QUADS, steps, o, o, below)
    _take_offset(o, below, sums.ctypes.data + 4 * top, min(_PAIR, m - top))
