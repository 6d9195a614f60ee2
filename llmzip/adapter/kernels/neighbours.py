"""Kernels of `neighbours`: keeping states, and their votes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from llmzip.engine.kernels.packing import Packed, pack_row
from llmzip.entropy.exponential import offset
from llmzip.entropy.kernels.exponential import float_from_bits, power_pattern
from llmzip.system.jit import compiled

MASS_BITS = 16  # states further than 2^-16 behind the nearest have no vote
BUCKETS = 16  # ranges of cosine, each 1 / RANGE wide, the last one up to 1
RANGE = 20

_f32 = np.float32
_OFFSET = offset(MASS_BITS)
_LEAST = _f32(-MASS_BITS)


class Memory(NamedTuple):
    """The states kept: packed keys of n rows, their scales float32 [n], and the symbols int32 [n] that followed."""

    keys: Packed
    scales: NDArray[np.float32]
    symbols: NDArray[np.int32]


@compiled()
def keep(q: Any, scale: Any, symbols: Any, seen: Any, capacity: Any, memory: Any) -> None:
    """Write states q int8 [n, width], their scales and symbols over the oldest of those kept."""
    for i in range(q.shape[0]):
        at = (seen + i) % capacity
        pack_row(q[i], memory.keys, at)
        memory.scales[at], memory.symbols[at] = scale[i], symbols[i]


@compiled(error_model="numpy", fastmath={"nnan", "nsz"})
def _closeness(dots: Any, scales: Any, near: Any, u: Any) -> Any:
    """u of one row's dot products [n] with all kept states; returns the largest."""
    top = _f32(-1e30)
    for j in range(u.shape[0]):
        v = (_f32(dots[j]) * scales[j]) * near
        u[j] = v
        top = max(top, v)
    return top


@compiled(parallel=True)
def vote(
    dots: Any, kept: Any, near: Any, memory: Any, alphabet: Any, ranges: Any, votes: Any, bucket: Any, parts: Any
) -> None:  # fmt: skip
    """Votes of the kept states on what follows each of n states, from their dot products int32 [n, kept]; see `neighbours`.

    Writes `bucket` int64 [n] and all of `votes` but its odds.
    """
    n = near.shape[0]
    _, scales, symbols = memory
    count, voted, masses, _ = votes
    for part in nb.prange(parts):
        u, mass = np.empty(kept, np.float32), np.zeros(alphabet, np.int64)
        for i in range(part * n // parts, (part + 1) * n // parts):
            top = _closeness(dots[i, :kept], scales, near[i], u)
            bucket[i] = min(max(np.int64(top * ranges) - (RANGE - BUCKETS), 0), BUCKETS - 1)
            m = 0
            for j in range(kept):
                z = u[j] - top
                if z > _LEAST:
                    s = symbols[j]
                    if mass[s] == 0:
                        voted[i, m] = s
                        m += 1
                    mass[s] += np.int64(float_from_bits(power_pattern(z, _OFFSET)))
            for k in range(m):
                masses[i, k] = mass[voted[i, k]]
                mass[voted[i, k]] = 0
            count[i] = m
