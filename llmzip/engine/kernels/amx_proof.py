"""Proves products by AMX, in a process of its own that may die of them: `engine.amx` starts it."""

from __future__ import annotations

import contextlib
import sys

import numpy as np

from llmzip.engine.kernels.amx import FEWEST_ROWS, WITH
from llmzip.engine.kernels.packing import OUTPUTS, pack
from llmzip.engine.kernels.products import product
from llmzip.system import amx

EXACT, WRONG, REFUSED = "exact", "wrong", "refused"
_SHAPES = ((1, 64), (97, 192), (96, 1024))  # outputs and columns
_ROWS = (FEWEST_ROWS, 16, 17, 31, 32, 33, 49, 64, 77)
_PAD = 16  # behind the outputs, which must stay


def exact() -> bool:
    """Whether products have the sums they must have, and leave alone what lies behind their results."""
    random = np.random.default_rng(0)
    for n, k in _SHAPES:
        w = random.integers(-128, 128, (n, k)).astype(np.int8)
        w[0] = -128
        packed, whole = pack(w), -(-n // OUTPUTS) * OUTPUTS
        for m in _ROWS:
            q = random.integers(-128, 128, (m, k)).astype(np.int8)
            q[0], q[-1] = -128, 127
            out = np.full((m + 1, whole + _PAD), -1, np.int32)
            product(WITH, q, packed, out)
            right = np.array_equal(out[:m, :n], q.astype(np.int64) @ w.astype(np.int64).T)
            if not right or (out[m:] != -1).any() or (out[:, whole:] != -1).any():
                return False
    return True


def main() -> None:
    """Prints EXACT, WRONG, or REFUSED if the system does not permit tiles."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # dying is foreseen
    answer = REFUSED if not amx.permitted() else EXACT if exact() else WRONG
    sys.stdout.write(answer + "\n")
