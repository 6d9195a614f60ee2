"""Checks that threads compute with floats in the default mode of IEEE 754.

Other libraries can make a processor treat subnormal numbers as zero, or round in another direction. The mode belongs to a thread, and a thread
inherits it from the one that starts it.
"""

from __future__ import annotations

import numpy as np

from llmzip.engine.kernels import float_mode as kernels
from llmzip.errors import InexactMachineError

# Two operands and their sum, as bit patterns: a thread in another mode might misread numbers, and a compiler that saw them would add them itself.
_SUMS = np.array(
    [
        (0x00000001, 0x00000001, 0x00000002),  # subnormal operands and sum
        (0x00800000, 0x80400000, 0x00400000),  # a subnormal sum with an operand that is not
        (0x3F800000, 0x33000000, 0x3F800000),  # 1 + 2^-25: more if rounded up
        (0xBF800000, 0xB3000000, 0xBF800000),  # -1 - 2^-25: less if rounded down
        (0x3F800000, 0x33C00000, 0x3F800001),  # 1 + 3 * 2^-25: less if rounded toward zero
    ],
    np.uint32,
).view(np.int32)


def check(threads: int) -> None:
    """Raise InexactMachineError unless this thread, and `threads` threads that work for it, compute in the default mode."""
    here, there = np.zeros(1, np.bool_), np.zeros(threads, np.bool_)
    here[0] = kernels.is_standard(_SUMS)
    kernels.modes(_SUMS, there)
    if not (here.all() and there.all()):
        raise InexactMachineError(
            "another library in this process has changed how the processor rounds, or what it does with small numbers; use llmzip in a process "
            "without that library"
        )
