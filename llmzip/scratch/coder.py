"""The bytes of one block to a bitstream and back, by a network that starts from nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llmzip.errors import NotEnoughMemoryError
from llmzip.scratch import state
from llmzip.scratch.kernels import interval, network
from llmzip.system import memory

Progress = Callable[[int, int], None]  # called with the number of bytes just coded, and the bytes of bitstream so far
_TOP, _BYTES = 0xFFFFFFFF, 4  # of the coder's interval
_PIECE = 4096  # bytes between two calls of progress
_MOST = 8 * _BYTES  # bytes of bitstream that a byte takes at most: after a bit the interval is whole again by then


def encode(content: bytes, progress: Progress | None = None) -> bytes:
    """The bitstream of a block's bytes, at least one.

    Raises:
        NotEnoughMemoryError: what the network learns does not fit.
    """
    data, learned = np.frombuffer(content, np.uint8), _fresh(len(content))
    coder, room, parts = np.array([0, _TOP], np.int64), np.empty(_MOST * _PIECE, np.uint8), []
    done = 0
    for first, last in _pieces(len(content)):
        written = interval.encode(learned, data, first, last, coder, room, 0)
        parts.append(room[:written].tobytes())
        done += written
        if progress:
            progress(last - first, done)
    return (b"".join(parts) + _shortest(int(coder[0]), int(coder[1]))).rstrip(b"\0")


def decode(stream: bytes, size: int, progress: Progress | None = None) -> bytes:
    """The inverse of `encode`, for a block of `size` bytes. A stream that `encode` did not make gives some other bytes.

    Raises:
        NotEnoughMemoryError: as there.
    """
    data, content, learned = np.frombuffer(stream, np.uint8), np.zeros(size, np.uint8), _fresh(size)
    first_bytes = int.from_bytes(stream[:_BYTES].ljust(_BYTES, b"\0"), "big")
    coder, read = np.array([0, _TOP, first_bytes], np.int64), _BYTES
    for first, last in _pieces(size):
        read = interval.decode(learned, content, first, last, coder, data, read)
        if progress:
            progress(last - first, min(read, len(stream)))
    return content.tobytes()


def costs(content: bytes, progress: Progress | None = None) -> NDArray[np.float64]:
    """Bits that each byte of a block costs, float64 [n]. Together they are its bitstream, to within a few bytes.

    Raises:
        NotEnoughMemoryError: as `encode`.
    """
    data, learned, bits = np.frombuffer(content, np.uint8), _fresh(len(content)), np.empty(len(content))
    for first, last in _pieces(len(content)):
        shares = np.empty((last - first, 8), np.int64)
        interval.shares(learned, data, first, last, shares)
        bits[first:last] = (16 - np.log2(shares)).sum(axis=1)
        if progress:
            progress(last - first, int(bits[:last].sum() / 8))
    return bits


def _fresh(size: int) -> state.State:
    needed, free = state.memory(size), memory.available()
    if free is not None and needed > free:
        raise NotEnoughMemoryError(f"the network needs {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free; free some")
    curve: NDArray[np.float32] = np.empty(33, np.float32)
    network.curve(curve)
    try:
        return state.fresh(size, curve)
    except MemoryError as e:
        raise NotEnoughMemoryError(f"the network needs {needed / 1e6:,.0f} MB; free or allow more") from e


def _pieces(size: int) -> list[tuple[int, int]]:
    return [(first, min(first + _PIECE, size)) for first in range(0, size, _PIECE)]


def _shortest(low: int, high: int) -> bytes:
    """The fewest bytes that, with zeros after them, lie in the interval."""
    for n in range(_BYTES + 1):
        unit = 1 << 8 * (_BYTES - n)
        if (value := -(-low // unit) * unit) <= high:
            return value.to_bytes(_BYTES, "big")[:n]
    raise AssertionError("an interval holds its low end")
