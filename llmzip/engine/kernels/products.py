"""Matrix products compiled by numba, from weights laid out once for the purpose.

A library's int8 product rearranges the weights on every call, which is most of its time when rows are few. Here each
block of weights stays in the fastest cache while all rows pass by.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from llmzip.engine.kernels.amx import tiled_products, worthwhile
from llmzip.engine.kernels.packing import OUTPUTS
from llmzip.engine.kernels.quads import operand, prepare
from llmzip.engine.kernels.rows import counts_nothing, glue, i32, jit, parallel
from llmzip.engine.kernels.simd import ask
from llmzip.engine.kernels.tiles import MOST_ROWS, tile

PAD = 16  # between rows of a product, so that they do not all compete for the same cache lines
_SOON = 64  # cache lines of weights that a thread asks for before it waits for the others


@jit
def tile_rows(left):
    """Rows of the next tile, of `left` rows: large tiles, and none of one or two rows behind larger ones."""
    if left >= 2 * MOST_ROWS:
        return MOST_ROWS
    if left > MOST_ROWS:
        left = (left + 1) // 2
    if left in (7, 9, 11):
        left = (left + 1) // 2
    return left


@counts_nothing
def some_products(amx, q, sums, w, first, last, out, origin):
    """Fills the outputs of blocks [first, last) of w; those of block `origin` lie first in `out`.

    amx: `amx.WITH` or `amx.WITHOUT`, q int8 [m, any] and sums int32 [m] as made by `prepare`, w packed [ceil(n / OUTPUTS), k / QUAD, OUTPUTS, QUAD],
    out int32 [m or more, any]; its columns beyond n, up to a multiple of OUTPUTS, are overwritten.
    """
    if worthwhile(amx, q.shape[0], w):
        tiled_products(amx, q, sums, w, first, last, out, origin)
    else:
        _plain_products(q, sums, w, first, last, out, origin)


@counts_nothing
def _plain_products(q, sums, w, first, last, out, origin):
    """`some_products` by `tile`."""
    m, stride = q.shape
    n = w.shape[1]
    below = 4 * out.shape[1]  # bytes from a row of out to the next
    for b in range(first, last):
        here = w[b].ctypes.data
        i = 0
        while i < m:
            at, s, o = q[i:].ctypes.data, sums[i:].ctypes.data, out[i:, (b - origin) * OUTPUTS :].ctypes.data
            rows = tile_rows(m - i)
            if rows == 12:
                tile(12, at, stride, here, n, s, o, below)
            elif rows == 10:
                tile(10, at, stride, here, n, s, o, below)
            elif rows == 8:
                tile(8, at, stride, here, n, s, o, below)
            elif rows == 6:
                tile(6, at, stride, here, n, s, o, below)
            elif rows == 5:
                tile(5, at, stride, here, n, s, o, below)
            elif rows == 4:
                tile(4, at, stride, here, n, s, o, below)
            elif rows == 3:
                tile(3, at, stride, here, n, s, o, below)
            elif rows == 2:
                tile(2, at, stride, here, n, s, o, below)
            else:
                tile(1, at, stride, here, n, s, o, below)
            i += rows


@glue
def product(amx, q, w, out):
    """out int32 [m or more, n or more] from q int8 [m, k] and packed w, by one thread."""
    ready, sums = operand(q), np.empty(q.shape[0], i32)
    prepare(q, ready, sums)
    some_products(amx, ready, sums, w, np.int64(0), np.int64(w.shape[0]), out, np.int64(0))


@glue
def product_share(amx, q, w, out, share, shares):
    """A thread's share of `product`: some of the outputs."""
    ready, sums = operand(q), np.empty(q.shape[0], i32)
    prepare(q, ready, sums)
    blocks = w.shape[0]
    some_products(amx, ready, sums, w, share * blocks // shares, (share + 1) * blocks // shares, out, np.int64(0))


@glue
def ask_for_share(w, share, shares):
    """Asks for the first weights that a thread's share reads, while there is something else to do."""
    ask(w[share * w.shape[0] // shares].ctypes.data, _SOON)


@parallel
def shared_product(amx, q, w, out, threads):
    """`product` by several threads."""
    for share in nb.prange(threads):
        product_share(amx, q, w, out, np.int64(share), threads)
