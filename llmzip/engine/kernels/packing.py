"""The layout of packed matrices: int8 rows, OUTPUTS of them interleaved by QUAD columns, as `tiles` reads them.

A packed matrix of n rows and k columns is uint8 [ceil(n / OUTPUTS), k / QUAD, OUTPUTS, QUAD]. Each value has OFFSET added, since `quads` takes this
side unsigned. Weights are packed once; the neighbours' memory is written row by row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmzip.engine import buffers
from llmzip.engine.kernels.simd import VECTOR
from llmzip.system.jit import compiled

QUAD = 4  # columns that one instruction takes together
OFFSET = 128
OUTPUTS = 2 * VECTOR  # rows that one tile takes together
OFFSETS = np.uint32(OFFSET * 0x01010101)  # of a quad: as OFFSET is 128, an exclusive or adds them

Packed = NDArray[np.uint8]


def blocks(n: int) -> int:
    """Blocks of OUTPUTS rows that n rows take."""
    return -(-n // OUTPUTS)


def shape(n: int, k: int) -> tuple[int, int, int, int]:
    """Shape of a packed matrix of n rows and k columns, k a multiple of QUAD."""
    return blocks(n), k // QUAD, OUTPUTS, QUAD


def pack(w: NDArray[np.int8]) -> Packed:
    """Pack int8 [n, k], k a multiple of QUAD. Rows beyond n, up to a multiple of OUTPUTS, are 0 without OFFSET."""
    out = buffers.zeros(shape(*w.shape), np.uint8)
    pack_into(w, out)
    return out


def pack_into(w: NDArray[np.int8], out: Packed) -> None:
    """`pack` into zeros of the right `shape`."""
    n, k = w.shape
    quads, packed = w.view(np.uint32), out.view(np.uint32)[..., 0]
    whole = n // OUTPUTS
    # In two's complement, to flip the top bit adds 128.
    np.bitwise_xor(quads[: whole * OUTPUTS].reshape(whole, OUTPUTS, k // QUAD).transpose(0, 2, 1), OFFSETS, out=packed[:whole])
    if n > whole * OUTPUTS:
        np.bitwise_xor(quads[whole * OUTPUTS :].T, OFFSETS, out=packed[whole, :, : n - whole * OUTPUTS])


@compiled()
def pack_row(row: Any, packed: Any, at: Any) -> None:
    """Write a row int8 [k] as row `at` of a packed matrix."""
    block, place = packed[at // OUTPUTS], at % OUTPUTS
    for j in range(row.shape[0]):
        block[j // QUAD, place, j % QUAD] = np.uint8(np.int32(row[j]) + OFFSET)
