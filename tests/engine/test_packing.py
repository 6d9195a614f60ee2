"""Packed matrices: whole or row by row, the same bytes; and what is packed can be read back by its description."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmzip.engine.kernels import packing


@given(st.integers(1, 100), st.integers(1, 10), st.integers(0, 1 << 30))
def test_whole_or_row_by_row(n: int, quads: int, seed: int) -> None:
    w = np.random.default_rng(seed).integers(-128, 128, (n, quads * packing.QUAD)).astype(np.int8)
    rows = np.zeros(packing.shape(*w.shape), np.uint8)
    for i in np.random.default_rng(seed).permutation(n):
        packing.pack_row(w[i], rows, i)
    # Rows that only fill the last block up have no meaning; products with them are overwritten or cut off.
    filled = packing.pack(np.concatenate([w, np.full((-n % packing.OUTPUTS, w.shape[1]), -packing.OFFSET, np.int8)]))
    assert np.array_equal(rows, filled)
    for i in range(n):
        unpacked = rows[i // packing.OUTPUTS, :, i % packing.OUTPUTS].reshape(-1).astype(np.int16) - packing.OFFSET
        assert np.array_equal(unpacked, w[i])


def test_size() -> None:
    assert packing.shape(1, 8) == packing.pack(np.zeros((1, 8), np.int8)).shape == (1, 2, packing.OUTPUTS, packing.QUAD)
    assert packing.blocks(0) == 0
    assert packing.blocks(packing.OUTPUTS + 1) == 2
