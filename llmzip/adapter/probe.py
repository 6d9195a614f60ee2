"""Proves the compiled adapter before it is used, as `engine.probe` does for the engine, and for the same reason."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np

from llmzip.adapter.adapter import Adapter, Sizes
from llmzip.adapter.reference import ReferenceAdapter
from llmzip.engine.hidden import Hidden
from llmzip.errors import InexactMachineError
from llmzip.parameters import AdapterParameters, BiasParameters, NeighbourParameters

_PARAMETERS = AdapterParameters(8, BiasParameters(40, 2), NeighbourParameters(5, 40))
_KNOWN_ANSWERS = "42b018d228a98e3c5523c355de0055ec648137920b45061158a3505aa6174fdf"  # SHA-256 of the intervals by the definition
_SIZES = Sizes(vocab=700, symbols=956, width=64, lanes=5, total=60)


def rows(rng: np.random.RandomState, sizes: Sizes, n: int) -> tuple[np.ndarray, Hidden]:
    """Random logits and states. There are few different states, so that some recur."""
    logits = (rng.randint(-5000, 5001, (n, sizes.vocab)) / 500).astype(np.float32)
    kinds = np.random.RandomState(0).randint(-127, 128, (7, sizes.width))
    near = kinds[rng.randint(0, 7, n)] + rng.randint(-20, 21, (n, sizes.width))
    q = np.clip(near, -127, 127).astype(np.int8)
    scale = (rng.random_sample(n).astype(np.float32) + np.float32(0.5)) / np.float32(64)
    return logits, Hidden(q, scale, scale)


@cache
def prove(threads: int) -> None:
    """Raise InexactMachineError unless the compiled adapter gives the known answers, in both directions."""
    if _answers(threads, compiled=True) == _KNOWN_ANSWERS:
        return
    if _answers(threads, compiled=False) == _KNOWN_ANSWERS:
        raise InexactMachineError(
            "compiled code of the adapter is inexact on this machine; set NUMBA_CACHE_DIR to an empty folder, or use another machine or numba build"
        )
    raise InexactMachineError("numpy does not compute as it should on this machine; use another machine or numpy build")


def _answers(threads: int, compiled: bool) -> str:
    """SHA-256 of the intervals that random symbols get, if decoding finds the same ones; otherwise nothing."""
    rng = np.random.RandomState(3)
    encoder, decoder = (Adapter(_PARAMETERS, _SIZES, threads) if compiled else ReferenceAdapter(_PARAMETERS, _SIZES) for _ in range(2))
    digest = hashlib.sha256()
    for _ in range(_SIZES.total // _SIZES.lanes):
        logits, state = rows(rng, _SIZES, _SIZES.lanes)
        coded = rng.randint(0, 20, _SIZES.lanes).astype(np.int32)
        coded[0] += rng.randint(0, _SIZES.symbols - 20)
        there = encoder.intervals(logits, state, coded)
        found, *back = decoder.find(logits, state, there[0] + there[1] - 1)
        if not np.array_equal(np.stack((coded, *there)), np.stack((found, *back))):
            return ""
        digest.update(np.stack(there).astype("<i8").tobytes())
        encoder.update()
        decoder.update()
    return digest.hexdigest()
