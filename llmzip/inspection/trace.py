"""Observes an encoder, and keeps the cost of every symbol and the best guesses in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmzip.coding.lanes import LaneLayout
from llmzip.entropy import compiled_frequencies
from llmzip.entropy.frequencies import Logits, Votes, no_gradients, scratch
from llmzip.entropy.likeliest import likeliest

if TYPE_CHECKING:
    from llmzip.archive.records import CodedBlock
    from llmzip.codec.any_model import LoadedModel


class Rows(NamedTuple):
    """n symbols int32 [n], their frequencies int64 [n], the best guesses int32 [n, k], and the frequencies of these int64 [n, k]."""

    symbols: NDArray[np.int32]
    freq: NDArray[np.int64]
    guesses: NDArray[np.int32]
    guessed: NDArray[np.int64]


def joined(parts: list[Rows], most: int) -> Rows:
    """Concatenate rows, with `most` guesses each."""
    none = Rows(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros((0, most), np.int32), np.zeros((0, most), np.int64))
    return Rows(*(np.concatenate(columns) for columns in zip(none, *parts, strict=True)))


class Attempt:
    """An `adapter.observer.Observer` of one block; its rows come by step, and by lane within it."""

    def __init__(self, most: int) -> None:
        self._most, self._parts = most, list[Rows]()

    def see(self, logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int, coded: NDArray[np.int32]) -> None:
        """Keep rows that are about to be coded."""
        room = scratch(1, logits.shape[1], symbols)
        _, freq = compiled_frequencies.intervals(logits, bias, votes, symbols, coded, no_gradients(len(coded)), room)
        self._parts.append(Rows(coded, freq, *likeliest(logits, bias, votes, symbols, self._most)))

    def in_text_order(self, lanes: int) -> Rows:
        """All rows in the order of the text, which was cut into `lanes`."""
        rows = joined(self._parts, self._most)
        layout = LaneLayout(len(rows.symbols), lanes)
        grid = layout.to_grid(np.arange(layout.symbols, dtype=np.int32))
        full = layout.full_steps
        place = np.concatenate([grid[:, :full].T.reshape(-1), grid[: layout.symbols % lanes, full:].reshape(-1)])
        order = np.empty_like(place)
        order[place] = np.arange(len(place), dtype=np.int32)
        return Rows(*(column[order] for column in rows))


class Trace:
    """A `codec.observer.Account` of all blocks, each coded by the model even where the archive can do without.

    Attributes:
        blocks: what was kept of each, in text order.
        lanes: of each block.
        stream: bytes of bitstreams.
        model: the one that coded them.
    """

    thorough, compares = True, False

    def __init__(self, most: int) -> None:
        self._most, self.blocks, self.lanes = most, list[Rows](), list[int]()
        self.stream = self.archive = 0
        self.model: LoadedModel | None = None

    def attempt(self) -> Attempt:
        """A fresh observer for one coding attempt."""
        return Attempt(self._most)

    def keep(self, attempt: Attempt, block: CodedBlock, model: LoadedModel, frozen: Attempt | None) -> None:
        """Keep what the observer of the chosen attempt saw."""
        self.blocks.append(attempt.in_text_order(block.lanes))
        self.lanes.append(block.lanes)
        self.stream += len(block.stream)
        self.model = model

    def rows(self) -> Rows:
        """All symbols in the order of the text."""
        return joined(self.blocks, self._most)
