"""Proves products and attention by AMX, in a process of its own that may die of them: `engine.amx` starts it."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import numpy as np

from llmzip.engine.cache import KEY_BLOCK
from llmzip.engine.kernels.amx import FEWEST_ROWS, WITH
from llmzip.engine.kernels.attention_tiles import SLOTS, begin, end, tile_mix, tile_scores
from llmzip.engine.kernels.packing import OUTPUTS, pack
from llmzip.engine.kernels.products import product
from llmzip.engine.kernels.rows import jit
from llmzip.engine.kernels.simd import VECTOR, size
from llmzip.system import amx

EXACT, WRONG, REFUSED = "exact", "wrong", "refused"
_SHAPES = ((1, 64), (97, 192), (96, 1024))  # outputs and columns
_ROWS = (FEWEST_ROWS, 16, 17, 31, 32, 33, 49, 64, 77)
_PAD = 16  # behind the outputs, which must stay
_HEADS = ((64, 3, 5), (128, 16, 1))  # head size, queries a key head, steps
_KEYS = 2 * SLOTS


def exact() -> bool:
    """Whether products and attention have the sums they must have, and leave alone what lies behind their results."""
    random = np.random.default_rng(0)
    return _products_are_exact(random) and all(_attention_is_exact(random, *sizes) for sizes in _HEADS)


def _products_are_exact(random: np.random.Generator) -> bool:
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


def _attention_is_exact(random: np.random.Generator, d: int, group: int, steps: int) -> bool:
    m = group * steps
    q, k, v = (random.integers(-127, 128, (n, d)).astype(np.int8) for n in (m, _KEYS, _KEYS))
    w = random.integers(0, 256, (m, _KEYS)).astype(np.uint8)
    keys = (k.astype(np.int16) + 128).astype(np.uint8).reshape(-1, KEY_BLOCK, d // 4, 4).transpose(0, 2, 1, 3).copy()
    values = v.reshape(-1, 4, d).transpose(0, 2, 1).copy()
    u, mixed = np.full((m + 1, _KEYS), -1, np.float32), np.full((m + 1, d), -1, np.int32)
    attention(steps, size(d // VECTOR), size(group), q, keys, u, w, values, mixed)
    wide = q.astype(np.int32), k.astype(np.int32), w.astype(np.int32), v.astype(np.int32)
    right = np.array_equal(u[:m], wide[0] @ wide[1].T) and np.array_equal(mixed[:m], wide[2] @ wide[3])
    return right and bool((u[m] == -1).all() and (mixed[m] == -1).all())


def attention(
    steps: int, vectors: Any, group: Any, q: Any, keys: Any, u: Any, w: Any, values: Any, mixed: Any
) -> None:  # fmt: skip
    """Products of q int8 [m, head_dim] with all keys into u float32 [m, keys], and of w uint8 [m, keys] with all values into mixed int32 [m, head_dim]."""
    m, n = q.shape[0], u.shape[1]
    seen = np.tile(np.array([0, n], np.int32), (steps, 1))
    sums, ones, tops = q.sum(1, dtype=np.int32), np.ones(max(m, n), np.float32), np.zeros((m, VECTOR), np.float32)
    attention_products(steps, vectors, group, q, sums, ones, keys, u, seen, tops, w, values, np.arange(n // SLOTS, dtype=np.int64), mixed)


@jit
def attention_products(
    steps: Any, vectors: Any, group: Any, q: Any, sums: Any, ones: Any, keys: Any, u: Any, seen: Any, tops: Any, w: Any, values: Any,
    runs: Any, mixed: Any,
) -> None:  # fmt: skip
    """`attention` with all that `tile_scores` and `tile_mix` want. Where `steps` says vectors, nothing."""
    n, one = u.shape[1], ones.ctypes.data
    begin(steps, q.shape[0])
    tile_scores(
        steps, vectors, group, q.ctypes.data, sums.ctypes.data, one, keys.ctypes.data, one, u.ctypes.data, 4 * n, seen.ctypes.data, 0,
        n // SLOTS, tops.ctypes.data,
    )  # fmt: skip
    tile_mix(steps, vectors, w.ctypes.data, n, values.ctypes.data, runs.ctypes.data, n // SLOTS, mixed.ctypes.data)
    end(steps)


def main() -> None:
    """Prints EXACT, WRONG, or REFUSED if the system does not permit tiles."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # dying is foreseen
    answer = REFUSED if not amx.permitted() else EXACT if exact() else WRONG
    sys.stdout.write(answer + "\n")
