"""Hidden states as the head and the adapter take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = TypeVar("Array", Tensor, NDArray[Any])


@dataclass(frozen=True)
class Hidden(Generic[Array]):
    """The normed and quantised residual stream, on a device or, as numpy's arrays, on the host.

    Attributes:
        q: int8 [n, width].
        scale: float32 [n]; what the head multiplies by.
        unit: float32 [n]; brings the mean square of each row of q to 1.
    """

    q: Array
    scale: Array
    unit: Array

    def __len__(self) -> int:
        return len(self.q)

    def at(self, rows: slice | NDArray[np.int64]) -> Hidden[Array]:
        """Some of the rows."""
        index: Any = rows
        if isinstance(self.q, Tensor) and isinstance(rows, np.ndarray):
            index = torch.from_numpy(rows).to(self.q.device)
        return Hidden(self.q[index], self.scale[index], self.unit[index])

    def on_host(self) -> Hidden[NDArray[Any]]:
        """The same as numpy's arrays."""
        arrays: list[Any] = [x.cpu().numpy() if isinstance(x, Tensor) else x for x in (self.q, self.scale, self.unit)]
        return Hidden(*arrays)


HostHidden = Hidden[NDArray[Any]]
DeviceHidden = Hidden[Tensor]
