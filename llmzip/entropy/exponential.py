"""2^z as integers, by a straight line between powers of two: the definition that kernels must equal.

The float32 2^n (1 + f) has the bits (127 + n) << 23 plus f << 23, so z * 2^23 rounded towards zero, with a constant added, is the pattern of
a float32 near 2^z: exact where z is whole, at most 6.2% too large between. The constant also scales it, by 2^bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MANTISSA = 23  # fraction bits of a float32
LINE = np.float32(2.0**MANTISSA)


def offset(bits: int) -> np.int32:
    """What is added to z * LINE, so that the result is 2^(z + bits)."""
    return np.int32((127 + bits) << MANTISSA)


def power_of_two(z: NDArray[np.float32], bits: int) -> NDArray[np.int64]:
    """2^(z + bits) rounded down to integers, for float32 z of any shape, -127 - bits < z <= 0."""
    pattern = (z * LINE).astype(np.int32) + offset(bits)
    return pattern.view(np.float32).astype(np.int64)
