"""The definition of the adapter in plain numpy, without optimisation. The compiled adapter must equal it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmzip.adapter.adapter import Sizes, steps_a_round
from llmzip.adapter.bias import update_reference
from llmzip.adapter.kernels.neighbours import BUCKETS, MASS_BITS, RANGE
from llmzip.adapter.neighbours import Shares, factors
from llmzip.engine.hidden import Hidden
from llmzip.entropy import frequencies
from llmzip.entropy.exponential import power_of_two
from llmzip.entropy.frequencies import TOTAL_BITS, Integers, Logits, Votes, no_votes
from llmzip.parameters import AdapterParameters

_f32 = np.float32


class ReferenceAdapter:
    """The definition of `Adapter`."""

    def __init__(self, parameters: AdapterParameters, sizes: Sizes) -> None:
        self._p, self._sizes = parameters, sizes
        self.steps = steps_a_round(parameters, sizes.lanes)
        self._shift = max(0, (self.steps * sizes.lanes - 1).bit_length() - 3)
        self._bias, self._seen = np.zeros(sizes.vocab, _f32), np.zeros(sizes.vocab, _f32)
        self._gradient = np.zeros(sizes.vocab, np.int64)
        self._shares = Shares()
        # States and symbols coded so far, oldest first, and those of this round.
        self._keys, self._scales = np.zeros((0, sizes.width), np.int64), np.zeros(0, _f32)
        self._symbols = np.zeros(0, np.int32)
        self._round: list[tuple[Hidden, NDArray[np.int32]]] = []
        self._gradients: list[tuple[NDArray[np.int64], Integers, Integers]] = []

    def intervals(self, logits: Logits, hidden: Hidden, coded: NDArray[np.int32]) -> tuple[Integers, Integers]:
        """See `Adapter.intervals`."""
        votes, bucket = self._votes(hidden)
        self._learn(logits, votes, bucket, hidden, coded)
        return frequencies.intervals_reference(frequencies.frequencies(logits, self._bias, votes, self._sizes.symbols), coded)

    def find(self, logits: Logits, hidden: Hidden, targets: Integers) -> tuple[NDArray[np.int32], Integers, Integers]:
        """See `Adapter.find`."""
        votes, bucket = self._votes(hidden)
        f = frequencies.frequencies(logits, self._bias, votes, self._sizes.symbols)
        found = frequencies.find_reference(f, targets)
        self._learn(logits, votes, bucket, hidden, found)
        return (found, *frequencies.intervals_reference(f, found))

    def _learn(self, logits: Logits, votes: Votes, bucket: NDArray[np.int64] | None, hidden: Hidden, coded: NDArray[np.int32]) -> None:
        expected, own, voted = frequencies.learn_reference(logits, self._bias, votes, self._sizes.symbols, coded, self._shift)
        self._gradient += expected
        for s in coded[coded < self._sizes.vocab]:
            self._gradient[s] -= 1 << (TOTAL_BITS - self._shift)
        self._round.append((hidden, coded))
        if bucket is not None:
            self._gradients.append((bucket, own, voted))

    def _votes(self, hidden: Hidden) -> tuple[Votes, NDArray[np.int64] | None]:
        n, p = len(hidden.q), self._p.neighbours
        if p is None or not len(self._keys):
            return no_votes(n), None
        factor, ranges = factors(p, self._sizes.width)
        dots = hidden.q.astype(np.int64) @ self._keys.T
        u = (dots.astype(_f32) * self._scales) * (hidden.unit * factor)[:, None]
        top = u.max(axis=1)
        bucket = np.clip((top * ranges).astype(np.int64) - (RANGE - BUCKETS), 0, BUCKETS - 1)
        z = u - top[:, None]
        a = power_of_two(np.maximum(z, _f32(-MASS_BITS)), MASS_BITS)
        masses = np.zeros((n, self._sizes.symbols), np.int64)
        for i in range(n):
            for j in np.flatnonzero(z[i] > -MASS_BITS):
                masses[i, self._symbols[j]] += a[i, j]
        count = (masses > 0).sum(axis=1)
        order = np.argsort(masses == 0, axis=1, kind="stable").astype(np.int32)
        return Votes(count, order, np.take_along_axis(masses, order, axis=1), self._shares.odds(bucket)), bucket

    def update(self) -> None:
        """See `Adapter.update`."""
        if self._p.bias:
            update_reference(self._gradient, self._shift, self._p.bias, self._seen, self._bias)
        self._gradient[:] = 0
        if p := self._p.neighbours:
            for lesson in self._gradients:
                self._shares.update(*lesson)
            newest = slice(-(1 << p.capacity_bits), None)
            self._keys = np.concatenate([self._keys, *(s.q.astype(np.int64) for s, _ in self._round)])[newest]
            self._scales = np.concatenate([self._scales, *(s.unit for s, _ in self._round)])[newest]
            self._symbols = np.concatenate([self._symbols, *(c for _, c in self._round)])[newest]
        self._round.clear()
        self._gradients.clear()
