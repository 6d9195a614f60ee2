"""Proves the compiled adapter before it is used, as `engine.probe` does for the engine, and for the same reason."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np

from llmzip.adapter.adapter import Adapter, Sizes
from llmzip.adapter.reference import ReferenceAdapter
from llmzip.engine.hidden import Hidden, HostHidden
from llmzip.errors import InexactMachineError
from llmzip.parameters import AdapterParameters, BiasParameters, NeighbourParameters

_PARAMETERS = AdapterParameters(8, BiasParameters(40, 2), NeighbourParameters(5, 40))
_KNOWN_ANSWERS = "42b018d228a98e3c5523c355de0055ec648137920b45061158a3505aa6174fdf"  # SHA-256 of the intervals by the definition
_SIZES = Sizes(vocab=700, symbols=956, width=64, lanes=5, total=60)


def rows(rng: np.random.RandomState, sizes: Sizes, n: int) -> tuple[np.ndarray, HostHidden]:
    """Random logits and states. There are few different states, so that some recur."""
    logits = (rng.randint(-5000, 5001, (n, sizes.vocab)) / 500).astype(np.float32)
    kinds = np.random.RandomState(0).randint(-127, 128, (7, sizes.width))
    near = kinds[rng.randint(0, 7, n)] + rng.randint(-20, 21, (n, sizes.width))
    q = np.clip(near, -127, 127).astype(np.int8)
    scale = (rng.random_sample(n).astype(np.float32) + np.float32(0.5)) / np.float32(64)
    return logits, Hidden(q, scale, scale)


@cache
def prove(threads: int) -> None:
    """Raise InexactMachineError unless the compiled adapter gives the bits of its definition, in both directions."""
    rng = np.random.RandomState(3)
    encoder, decoder = (Adapter(_PARAMETERS, _SIZES, threads) for _ in range(2))
    definition, digest = ReferenceAdapter(_PARAMETERS, _SIZES), hashlib.sha256()
    for _ in range(_SIZES.total // _SIZES.lanes):
        logits, state = rows(rng, _SIZES, _SIZES.lanes)
        coded = rng.randint(0, 20, _SIZES.lanes).astype(np.int32)
        coded[0] += rng.randint(0, _SIZES.symbols - 20)
        want = definition.intervals(logits, state, coded)
        digest.update(np.stack(want).astype("<i8").tobytes())
        got = encoder.intervals(logits, state, coded)
        found, *back = decoder.find(logits, state, want[0] + want[1] - 1)
        pairs: list[tuple[Any, Any]] = [*zip(got, want, strict=True), (found, coded), *zip(back, want, strict=True)]
        if not all(np.array_equal(a, b) for a, b in pairs):
            raise InexactMachineError(
                "compiled code of the adapter is inexact on this machine; set NUMBA_CACHE_DIR to an empty folder, or use another machine or numba build"
            )
        for adapter in (encoder, decoder, definition):
            adapter.update()
    if digest.hexdigest() != _KNOWN_ANSWERS:
        raise InexactMachineError("numpy does not compute as it should on this machine; use another machine or numpy build")
