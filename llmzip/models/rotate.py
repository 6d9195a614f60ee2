"""Hadamard rotations in blocks, by butterflies in a fixed order, so that they give the same floats on every machine.

Rotating the inputs of a linear layer spreads outlier channels before quantisation and is undone in the weights
(Ashkboos et al., "QuaRot", 2024). Blocks are powers of 4, so the normalisation is a division by a power of two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def block_size(width: int) -> int:
    """The largest of 64, 16, 4 that divides `width`, else 1 (no rotation)."""
    return next((b for b in (64, 16, 4) if width % b == 0), 1)


def hadamard(x: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Orthonormal Walsh-Hadamard transform of each run of `block` values on the last axis; its own inverse."""
    shape = x.shape
    y = x.reshape(-1, block)
    stride = 1
    while stride < block:
        pairs = y.reshape(-1, block // (2 * stride), 2, stride)
        a, b = pairs[:, :, 0], pairs[:, :, 1]
        y = np.stack([a + b, a - b], axis=2).reshape(-1, block)
        stride *= 2
    return (y * np.float32(1.0 / np.sqrt(block))).reshape(shape)
