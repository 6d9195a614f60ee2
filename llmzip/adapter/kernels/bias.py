"""The kernel of `bias`: one round's update."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmzip.system.jit import compiled

_f32 = np.float32


@compiled(error_model="numpy", fastmath={"nnan", "nsz"})
def update(expected: Any, unit: Any, rate: Any, prior: Any, seen: Any, values: Any) -> None:
    """See `bias.update_reference`; `expected` int32 [parts, vocab] is summed over its parts, and cleared."""
    for part in range(1, expected.shape[0]):
        for j in range(values.shape[0]):
            expected[0, j] += expected[part, j]
    for j in range(values.shape[0]):
        g = _f32(expected[0, j]) * unit
        seen[j] += abs(g)
        values[j] -= (g * rate) / (seen[j] + prior)
    expected[:] = 0
