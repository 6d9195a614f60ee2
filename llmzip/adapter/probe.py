"""The compiled adapter proves itself before it is used, as the engine does (`engine.probe`), and for the same reason."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from llmzip.adapter import Adapter, Sizes
from llmzip.adapter.neighbours import State
from llmzip.adapter.reference import ReferenceAdapter
from llmzip.errors import InexactMachineError
from llmzip.parameters import AdapterParameters, BiasParameters, NeighbourParameters

_PARAMETERS = AdapterParameters(8, BiasParameters(40, 2), NeighbourParameters(5, 40))
_SIZES = Sizes(vocab=700, symbols=956, width=64, lanes=5, total=60)


def rows(rng: np.random.Generator, sizes: Sizes, n: int) -> tuple[np.ndarray, State]:
    """Random logits and states, the states few, so that some come again."""
    logits = (rng.standard_normal((n, sizes.vocab)) * 3).astype(np.float32)
    kinds = np.random.default_rng(0).integers(-127, 128, (7, sizes.width))
    near = kinds[rng.integers(0, 7, n)] + rng.integers(-20, 21, (n, sizes.width))
    q = np.clip(near, -127, 127).astype(np.int8)
    return logits, State(q, (rng.random(n, dtype=np.float32) + np.float32(0.5)) / np.float32(64))


@cache
def prove(threads: int) -> None:
    """Raises InexactMachineError unless the compiled adapter gives the bits its definition gives, both ways."""
    rng = np.random.default_rng(3)
    encoder, decoder = (Adapter(_PARAMETERS, _SIZES, threads) for _ in range(2))
    definition = ReferenceAdapter(_PARAMETERS, _SIZES)
    for _ in range(_SIZES.total // _SIZES.lanes):
        logits, state = rows(rng, _SIZES, _SIZES.lanes)
        coded = rng.integers(0, 20, _SIZES.lanes).astype(np.int32)
        coded[0] += rng.integers(0, _SIZES.symbols - 20)
        want = definition.intervals(logits, state, coded)
        got = encoder.intervals(logits, state, coded)
        found, *back = decoder.find(logits, state, want[0] + want[1] - 1)
        pairs: list[tuple[Any, Any]] = [*zip(got, want, strict=True), (found, coded), *zip(back, want, strict=True)]
        if not all(np.array_equal(a, b) for a, b in pairs):
            raise InexactMachineError(
                "compiled code of the adapter is inexact on this machine; set NUMBA_CACHE_DIR to an empty folder, or use another machine or numba build"
            )
        for adapter in (encoder, decoder, definition):
            adapter.update()
