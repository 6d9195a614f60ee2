"""Hidden states as the head and the adapter take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Hidden:
    """The normed and quantised residual stream: numpy's arrays or, on another device, torch's tensors.

    Attributes:
        q: int8 [n, width].
        scale: float32 [n]; what the head multiplies by.
        unit: float32 [n]; brings the mean square of each row of q to 1.
    """

    q: Any
    scale: Any
    unit: Any

    def __len__(self) -> int:
        return len(self.q)

    def at(self, rows: slice | NDArray[np.int64]) -> Hidden:
        """Some of the rows."""
        return Hidden(self.q[rows], self.scale[rows], self.unit[rows])

    def on_host(self) -> Hidden:
        """The same as numpy's arrays."""
        return Hidden(*(x.cpu().numpy() if hasattr(x, "cpu") else x for x in (self.q, self.scale, self.unit)))
