"""Packed matrices: whole or row by row, the same bytes; and what is packed can be read back by its description."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmzip.engine import buffers
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


@pytest.mark.parametrize("n", [1, packing.OUTPUTS - 1, packing.OUTPUTS, 3 * packing.OUTPUTS + 5])
def test_into_a_part_of_an_array(n: int) -> None:
    """As layers are packed: into one of several, from memory that cannot be written."""
    w = np.random.default_rng(n).integers(-128, 128, (n, 12)).astype(np.int8)
    w.flags.writeable = False
    layers = buffers.zeros((3, *packing.shape(*w.shape)), np.uint8)
    packing.pack_into(w, layers[1])
    assert np.array_equal(layers[1], packing.pack(w))
    assert not layers[[0, 2]].any()
    assert not layers[1].transpose(0, 2, 1, 3).reshape(-1, w.shape[1])[n:].any()  # rows that only fill up
