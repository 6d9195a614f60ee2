"""Buffers: zeros at the beginning of a cache line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmzip.engine import buffers


@given(st.lists(st.integers(0, 9), max_size=4), st.sampled_from([np.uint8, np.int8, np.int32, np.float32, np.int64, "<i2"]))
def test_zeros(shape: list[int], dtype: object) -> None:
    made = [buffers.zeros(tuple(shape), dtype) for _ in range(3)]  # type: ignore[arg-type]
    for array in made:
        assert array.shape == tuple(shape)
        assert array.dtype == np.dtype(dtype)  # type: ignore[call-overload]
        assert array.ctypes.data % 64 == 0 or not array.size
        assert array.flags.c_contiguous
        assert not array.any()
        array[...] = 1  # each has memory of its own
    assert all((array == 1).all() for array in made)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 100_000])
def test_a_row(n: int) -> None:
    made = buffers.zeros(n, np.float32)
    assert (made.shape, made.nbytes, made.ctypes.data % 64) == ((n,), 4 * n, 0)
    assert not made.any()
