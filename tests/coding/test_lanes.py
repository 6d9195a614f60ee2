"""The cutting of symbols into lanes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmzip.coding.lanes import LaneLayout
from llmzip.parameters import LEVELS, MAX_LANES


@given(st.integers(1, 500), st.integers(1, 40))
def test_grid_is_a_rearrangement(n: int, lanes: int) -> None:
    layout = LaneLayout(n, min(lanes, n))
    symbols = np.arange(1, n + 1, dtype=np.int32)
    grid = layout.to_grid(symbols)
    assert grid.shape == (layout.lanes, layout.steps)
    assert (layout.from_grid(grid) == symbols).all()
    assert [int((grid[:, t] > 0).sum()) for t in range(layout.steps)] == [layout.active(t) for t in range(layout.steps)]
    for t in range(layout.steps):
        assert (grid[: layout.active(t), t] > 0).all()


def test_default_grows_with_size() -> None:
    assert [LEVELS[6].lanes(n) for n in (1, 100, 4096 * 2 - 1, 4096 * 10)] == [1, 1, 1, 10]
    assert LEVELS[6].lanes(10**9) == MAX_LANES
    assert LEVELS[9].lanes(10**9) == 1
