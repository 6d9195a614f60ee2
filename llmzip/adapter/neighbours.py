"""Votes of neighbours: what came after hidden states like this one, among the symbols already coded in any lane.

A cache over hidden states (Grave, Joulin and Usunier 2017; Khandelwal et al., "Nearest neighbour language models", 2020). The model's last
hidden state of each coded symbol is kept, as the int8s that the head takes, with the symbol that followed. For a new state, each kept one
votes for its symbol, with more mass the closer it is: with u = sharpness * cosine, and M the largest u, the mass is 2^(u - M), computed by straight
lines between powers of two, as an integer up to 2^MASS_BITS. The weight of votes against logits is learned for each of BUCKETS ranges of M:
it follows the share of symbols so far that the votes explain better.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmzip.adapter.kernels import neighbours as kernels
from llmzip.adapter.kernels.neighbours import BUCKETS, RANGE, Memory
from llmzip.engine.hidden import Hidden
from llmzip.engine.kernels import packing
from llmzip.engine.kernels.amx import WITHOUT
from llmzip.engine.kernels.products import shared_product
from llmzip.entropy.frequencies import MOST_ODDS, Gradients, Votes
from llmzip.parameters import NeighbourParameters

SHARE_BITS = 16  # shares are integers in units of 2^-SHARE_BITS
FIRST_SHARE, FIRST_COUNT = 1 << (SHARE_BITS - 2), 6  # a bucket starts as if votes had explained a quarter of six symbols

_f32 = np.float32


def factors(p: NeighbourParameters, width: int) -> tuple[np.float32, np.float32]:
    """Two factors: dot product to score u, and u to cosine bucket."""
    return _f32(p.sharpness) / _f32(width), _f32(RANGE) / _f32(p.sharpness)


class Shares:
    """How often votes explained a symbol better than logits did, for each bucket: two arrays int64 [BUCKETS]."""

    def __init__(self) -> None:
        self.explained = np.full(BUCKETS, FIRST_SHARE, np.int64)
        self.count = np.full(BUCKETS, FIRST_COUNT, np.int64)

    def odds(self, bucket: NDArray[np.int64]) -> NDArray[np.float32]:
        """The weight of votes relative to logits, float32, for each bucket of an int64 array."""
        explained = self.explained[bucket]
        rest = (self.count[bucket] << SHARE_BITS) - explained
        return np.minimum(explained.astype(_f32) / rest.astype(_f32), _f32(MOST_ODDS))

    def update(self, bucket: NDArray[np.int64], own: NDArray[np.int64], voted: NDArray[np.int64]) -> None:
        """Count symbols, given their weights by logits and by votes. Symbols without either count as unexplained."""
        share = voted.astype(_f32) / np.maximum(own + voted, 1).astype(_f32)
        np.add.at(self.explained, bucket, (share * _f32(1 << SHARE_BITS)).astype(np.int64))
        np.add.at(self.count, bucket, 1)


class Neighbours:
    """The latest 2^capacity_bits symbols of a block of `total` symbols, and their states. New ones replace the oldest.

    Args:
        width: width of a state, a multiple of 4.
        symbols: symbols of the alphabet.
        rows: most rows of a call of `predict`.
    """

    def __init__(self, parameters: NeighbourParameters, width: int, symbols: int, total: int, rows: int, threads: int) -> None:
        self.capacity = 1 << parameters.capacity_bits
        room = min(self.capacity, total)
        self._memory = Memory(np.zeros(packing.shape(room, width), np.uint8), np.zeros(room, _f32), np.zeros(room, np.int32))
        self._alphabet, self._threads = symbols, threads
        self._factor, self._ranges = factors(parameters, width)
        self._shares = Shares()
        self.seen = 0
        self._dots = np.empty((rows, packing.blocks(room) * packing.OUTPUTS), np.int32)
        self._voted, self._masses = np.empty((rows, room), np.int32), np.empty((rows, room), np.int64)
        self._bucket: NDArray[np.int64] | None = None  # None while there are no neighbours
        self._pending: list[tuple[Hidden, NDArray[np.int32], NDArray[np.int64] | None, Gradients]] = []

    @staticmethod
    def memory(parameters: NeighbourParameters, width: int, total: int, rows: int) -> int:
        """About how many bytes this takes."""
        room = min(1 << parameters.capacity_bits, total)
        return room * (width + 8) + rows * room * 16

    def fill_for_timing(self, seen: int, state: Hidden) -> None:
        """Fill with random symbols after random ones of these states, as if `seen` symbols had been coded: for timing what comes then."""
        random = np.random.default_rng(0)
        which, symbols = random.integers(len(state.q), size=seen), random.integers(self._alphabet, size=seen, dtype=np.int32)
        kernels.keep(state.q[which], state.unit[which], symbols, 0, self.capacity, self._memory)
        self.seen = seen

    def predict(self, state: Hidden) -> Votes:
        """Votes on the symbol that follows each of n states."""
        n, kept = len(state.q), min(self.seen, self.capacity)
        bucket = np.zeros(n, np.int64)
        votes = Votes(np.zeros(n, np.int64), self._voted, self._masses, np.empty(n, _f32))
        if kept:
            shared_product(WITHOUT, state.q, self._memory.keys[: packing.blocks(kept)], self._dots, self._threads)
            near = state.unit * self._factor
            kernels.vote(self._dots, kept, near, self._memory, self._alphabet, self._ranges, votes, bucket, self._threads)
        self._bucket = bucket if kept else None
        votes.odds[:] = self._shares.odds(bucket)
        return votes

    def note(self, state: Hidden, symbols: NDArray[np.int32], gradients: Gradients) -> None:
        """Take the symbols that followed the states of the last `predict`, int32 [n], and their weights."""
        self._pending.append((state, symbols, self._bucket, gradients))

    def update(self) -> None:
        """End a round: keep its states, oldest first."""
        for state, symbols, bucket, gradients in self._pending:
            if bucket is not None:
                self._shares.update(bucket, gradients.own, gradients.voted)
            kernels.keep(state.q, state.unit, symbols, self.seen, self.capacity, self._memory)
            self.seen += len(symbols)
        self._pending.clear()
