"""What learns the document while coding it, on top of the frozen model. Nothing of it is transmitted.

Encoder and decoder update the same state from the same symbols, in rounds. Within a round the state does not change, so an encoder may code
all rows of a round at once. Each part has the same small interface: it predicts before rows are coded, and is updated after the round with
the coded symbols. All lanes of a block share one adapter. Rows are ordered by step, and by lane within a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from llmzip.adapter.bias import VocabularyBias
from llmzip.adapter.neighbours import Neighbours
from llmzip.adapter.observer import Observer
from llmzip.engine.hidden import Hidden
from llmzip.entropy import compiled_frequencies
from llmzip.entropy.frequencies import DRAWS, Gradients, Integers, Logits, Votes, no_votes, scratch, scratch_bytes
from llmzip.parameters import AdapterParameters

_Number = TypeVar("_Number", bound=np.generic)

_ROWS = 64  # most rows worked on at once, which bounds memory


@dataclass(frozen=True)
class Sizes:
    """Sizes of a block and its model.

    Attributes:
        vocab: logits in a row.
        symbols: symbols of the alphabet.
        width: width of a hidden state.
        lanes: rows in a step.
        total: symbols of the block.
    """

    vocab: int
    symbols: int
    width: int
    lanes: int
    total: int


def steps_a_round(parameters: AdapterParameters, lanes: int) -> int:
    """Steps between two updates."""
    return max(1, parameters.round_symbols // lanes)


class Adapter:
    """The parts that `parameters` switch on, for one block.

    `intervals` and `find` code the next rows: those of one or more whole steps of a round. `update` ends the round.

    Args:
        observer: sees all rows before they are encoded.
    """

    def __init__(self, parameters: AdapterParameters, sizes: Sizes, threads: int = 1, observer: Observer | None = None) -> None:
        self._sizes, self._observer = sizes, observer
        self.steps = steps_a_round(parameters, sizes.lanes)
        self.bias = VocabularyBias(parameters.bias, sizes.vocab, self.steps * sizes.lanes, threads)
        self._draws, self._coded = DRAWS if parameters.corrections else 0, 0
        self._drawn: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []
        self._scratch = scratch(threads, sizes.vocab, sizes.symbols)
        self.neighbours: Neighbours | None = None
        if parameters.neighbours:
            rows = min(_ROWS, self.steps * sizes.lanes)
            self.neighbours = Neighbours(parameters.neighbours, sizes.width, sizes.symbols, sizes.total, rows, threads)

    @staticmethod
    def memory(parameters: AdapterParameters, sizes: Sizes, threads: int) -> int:
        """About how many bytes an adapter takes."""
        rows = min(_ROWS, steps_a_round(parameters, sizes.lanes) * sizes.lanes)
        neighbours = Neighbours.memory(parameters.neighbours, sizes.width, sizes.total, rows) if parameters.neighbours else 0
        return scratch_bytes(threads, sizes.vocab, sizes.symbols) + neighbours

    @property
    def learns(self) -> bool:
        """Whether any part is switched on."""
        return self.bias.learns or self.neighbours is not None or self._draws > 0

    def intervals(self, logits: Logits, hidden: Hidden | None, coded: NDArray[np.int32]) -> tuple[Integers, Integers]:
        """Cumulative frequency and frequency of the symbols `coded`, int32 [n], under logits float32 [n, vocab].

        `hidden` are the states that the logits come from; needed if `learns`.
        """
        parts = [self._code(logits[at], _rows(hidden, at), coded[at]) for at in _slices(len(logits))]
        return _joined([start for start, _ in parts]), _joined([freq for _, freq in parts])

    def find(self, logits: Logits, hidden: Hidden | None, targets: Integers) -> tuple[NDArray[np.int32], Integers, Integers]:
        """The symbols whose intervals hold `targets`, int64 [n]; their cumulative frequencies and frequencies."""
        parts = [self._find(logits[at], _rows(hidden, at), targets[at]) for at in _slices(len(logits))]
        return _joined([found for found, _, _ in parts]), _joined([start for _, start, _ in parts]), _joined([freq for _, _, freq in parts])

    def _code(self, logits: Logits, hidden: Hidden | None, coded: NDArray[np.int32]) -> tuple[Integers, Integers]:
        votes, gradients = self._votes(hidden, len(logits)), self.bias.gradients(len(logits), self._draws, self._coded)
        if self._observer:
            self._observer.see(logits, self.bias.values, votes, self._sizes.symbols, coded)
        start, freq = compiled_frequencies.intervals(logits, self.bias.values, votes, self._sizes.symbols, coded, gradients, self._scratch)
        self._note(hidden, coded, gradients)
        return start, freq

    def _find(self, logits: Logits, hidden: Hidden | None, targets: Integers) -> tuple[NDArray[np.int32], Integers, Integers]:
        votes, gradients = self._votes(hidden, len(logits)), self.bias.gradients(len(logits), self._draws, self._coded)
        found, start, freq = compiled_frequencies.find(
            logits, self.bias.values, votes, self._sizes.symbols, targets, gradients, self._scratch
        )
        self._note(hidden, found, gradients)
        return found, start, freq

    def _votes(self, hidden: Hidden | None, rows: int) -> Votes:
        return self.neighbours.predict(hidden) if self.neighbours and hidden is not None else no_votes(rows)

    def _note(self, hidden: Hidden | None, coded: NDArray[np.int32], gradients: Gradients) -> None:
        """Keep what the round's update needs, and what learning through the model does."""
        self.bias.note(coded)
        self._coded += len(coded)
        if self._draws:
            self._drawn.append((gradients.drawn, coded))
        if self.neighbours and hidden is not None:
            self.neighbours.note(hidden, coded, gradients)

    def take_drawn(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Tokens drawn for each row by its probabilities without votes, int32 [n, DRAWS], and symbols coded, [n], since the last call."""
        drawn, coded = (np.concatenate(column) for column in zip(*self._drawn, strict=True))
        self._drawn.clear()
        return drawn, coded

    def update(self) -> None:
        """End a round."""
        self.bias.update()
        if self.neighbours:
            self.neighbours.update()


def _slices(rows: int) -> list[slice]:
    return [slice(i, min(i + _ROWS, rows)) for i in range(0, rows, _ROWS)]


def _rows(hidden: Hidden | None, at: slice) -> Hidden | None:
    return None if hidden is None else hidden.at(at)


def _joined(parts: list[NDArray[_Number]]) -> NDArray[_Number]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
