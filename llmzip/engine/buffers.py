"""Arrays that begin at a cache line."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LINE = 64  # bytes


def zeros(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros that begin at a cache line: vectors that lie across two lines are slower to load. The system provides the memory when it is first used."""
    return _at_a_line(np.zeros(_bytes(shape, dtype) + _LINE, np.uint8), shape, dtype)


def empty(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """As `zeros`, with anything in it."""
    return _at_a_line(np.empty(_bytes(shape, dtype) + _LINE, np.uint8), shape, dtype)


def _bytes(shape: int | tuple[int, ...], dtype: DTypeLike) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _at_a_line(room: NDArray[np.uint8], shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    first = -room.ctypes.data % _LINE
    return room[first : first + _bytes(shape, dtype)].view(dtype).reshape(shape)
