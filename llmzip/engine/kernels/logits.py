"""The head, compiled by numba: products with all tokens' weights, scaled to logits."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmzip.engine.kernels.packing import OUTPUTS
from llmzip.engine.kernels.products import PAD, some_products
from llmzip.engine.kernels.quads import operand, prepare
from llmzip.engine.kernels.rows import counts_nothing, f32, i32, parallel, room_i32
from llmzip.engine.kernels.simd import I32, INTP, LINE, VECTOR, X86, load, nothing, splat, store, vector

_BLOCKS = 16  # of outputs whose logits are written together: rows of logits lie far apart, so short runs would cost more
_FAR = 1 << 25  # bytes of logits from which on caches do not hold them until they are read


def _scale(builder: Any, args: Any, past_caches: bool) -> Any:
    """See `_scale_near` and `_scale_far`."""
    acc, col, out, vectors, row = args
    row, kind = splat(builder, row), vector(I32, VECTOR)
    with cgutils.for_range(builder, vectors) as loop:
        at = builder.mul(loop.index, INTP(4 * VECTOR))
        c = load(builder, col, at, row.type)
        y = builder.fmul(builder.fmul(builder.sitofp(load(builder, acc, at, kind), row.type), c), row)
        if past_caches:
            written = builder.store(y, builder.inttoptr(builder.add(out, at), y.type.as_pointer()), align=LINE)
            written.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
        else:
            store(builder, y, out, at)
    return nothing()


@intrinsic
def _scale_near(_typing: Any, _acc: Any, _col: Any, _out: Any, _vectors: Any, _row: Any) -> Any:
    """_scale_near(acc, col, out, vectors, row): out = (acc * col) * row. Addresses of acc int32, col float32, out float32, VECTOR * vectors each; row: float32."""
    return types.none(*[types.intp] * 4, types.float32), lambda _c, builder, _s, args: _scale(builder, args, False)


@intrinsic
def _scale_far(_typing: Any, _acc: Any, _col: Any, _out: Any, _vectors: Any, _row: Any) -> Any:
    """As `_scale_near`, past the caches: out is not read before it is written. It is aligned to LINE, and other threads see it after `_arrive`."""
    return types.none(*[types.intp] * 4, types.float32), lambda _c, builder, _s, args: _scale(builder, args, True)


@intrinsic
def _arrive(_typing: Any) -> Any:
    """What this thread has written past the caches arrives before anything that it writes later."""

    def codegen(_context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if X86:  # others order such writes as all writes
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.sfence"), [])
        return nothing()

    return types.none(), codegen


@counts_nothing
def _write(acc, col, row, out, far):
    """Logits float32 [m, n] of products acc int32 [m, n or more], col float32 [n] and row float32 [m]."""
    m, n = out.shape
    vectors = n // VECTOR
    for i in range(m):
        a, o = acc[i].ctypes.data, out[i].ctypes.data
        if far:
            _scale_far(a, col.ctypes.data, o, vectors, row[i])
        else:
            _scale_near(a, col.ctypes.data, o, vectors, row[i])
        for j in range(vectors * VECTOR, n):
            out[i, j] = (f32(acc[i, j]) * col[j]) * row[i]


@parallel
def head_kernel(amx, q, row, w, col, out, parts):
    """Logits float32 [m, vocab] of q int8 [m, width] and row float32 [m]: `reference.scale_logits` of the product."""
    m, vocab = out.shape
    ready, sums = operand(q), np.empty(q.shape[0], i32)
    prepare(q, ready, sums)
    groups = (w.shape[0] + _BLOCKS - 1) // _BLOCKS
    far = out.size * 4 >= _FAR and out.ctypes.data % LINE == 0 and 4 * vocab % LINE == 0
    for part in nb.prange(parts):
        acc = room_i32(m, _BLOCKS * OUTPUTS + PAD)
        for group in range(part * groups // parts, (part + 1) * groups // parts):
            first, last = group * _BLOCKS, min((group + 1) * _BLOCKS, w.shape[0])
            some_products(amx, ready, sums, w, first, last, acc, first)
            here, end = first * OUTPUTS, min(vocab, last * OUTPUTS)
            _write(acc, col[here:end], row, out[:, here:end], far)
        _arrive()
