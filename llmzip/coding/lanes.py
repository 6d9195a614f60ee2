"""How a block's symbols are cut into lanes that advance in lockstep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LaneLayout:
    """`symbols` consecutive symbols cut into `lanes` runs; the first symbols % lanes runs are one symbol longer."""

    symbols: int
    lanes: int

    @property
    def full_steps(self) -> int:
        """Steps in which every lane takes part."""
        return self.symbols // self.lanes

    @property
    def steps(self) -> int:
        """All steps; in the last, only the longer lanes take part."""
        return -(-self.symbols // self.lanes)

    def active(self, step: int) -> int:
        """How many lanes (the first ones) have a symbol at `step`."""
        return self.lanes if step < self.full_steps else self.symbols % self.lanes

    def to_grid(self, symbols: NDArray[np.int32]) -> NDArray[np.int32]:
        """int32 [symbols] to [lanes, steps], zero where a lane has ended."""
        grid = np.zeros((self.lanes, self.steps), dtype=np.int32)
        grid[self._mask()] = symbols
        return grid

    def from_grid(self, grid: NDArray[np.int32]) -> NDArray[np.int32]:
        """The inverse of `to_grid`."""
        symbols: NDArray[np.int32] = grid[self._mask()]
        return symbols

    def _mask(self) -> NDArray[np.bool_]:
        lengths = self.full_steps + (np.arange(self.lanes) < self.symbols % self.lanes)
        return np.arange(self.steps) < lengths[:, None]
