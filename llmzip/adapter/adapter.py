"""What learns the document while coding it, on top of the frozen model: nothing of it is transmitted.

Encoder and decoder update the same state from the same symbols, in rounds: within a round the state stands still, so that an
encoder may do all its rows at once. Each part has the same small interface: before a round's rows are coded it predicts, after
the round it is updated with what was coded. All lanes of a block share one adapter; rows come by step, and by lane within it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmzip.adapter.bias import VocabularyBias
from llmzip.adapter.neighbours import Neighbours, State
from llmzip.adapter.observer import Observer
from llmzip.entropy import compiled_frequencies
from llmzip.entropy.frequencies import Integers, Lessons, Logits, Votes, no_votes
from llmzip.parameters import AdapterParameters

_ROWS = 64  # rows worked on at once, at most: bounds memory


@dataclass(frozen=True)
class Sizes:
    """Of a block, as far as they matter here.

    Attributes:
        vocab: logits of a row.
        symbols: of the alphabet.
        width: of a hidden state.
        lanes: rows of a step.
        total: symbols in the block.
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

    `intervals` and `find` code the next rows, of one or more whole steps of a round; `update` ends the round.

    Args:
        observer: sees all rows before they are coded, when encoding.
    """

    def __init__(self, parameters: AdapterParameters, sizes: Sizes, threads: int = 1, observer: Observer | None = None) -> None:
        self._sizes, self._observer = sizes, observer
        self.steps = steps_a_round(parameters, sizes.lanes)
        self.bias = VocabularyBias(parameters.bias, sizes.vocab, self.steps * sizes.lanes, threads)
        self.neighbours: Neighbours | None = None
        if parameters.neighbours:
            rows = min(_ROWS, self.steps * sizes.lanes)
            self.neighbours = Neighbours(parameters.neighbours, sizes.width, sizes.symbols, sizes.total, rows, threads)

    @staticmethod
    def memory(parameters: AdapterParameters, sizes: Sizes) -> int:
        """Bytes it takes, about, with the logits of a round."""
        rows = steps_a_round(parameters, sizes.lanes) * sizes.lanes
        logits = 4 * sizes.vocab * rows
        neighbours = Neighbours.memory(parameters.neighbours, sizes.width, sizes.total, min(_ROWS, rows)) if parameters.neighbours else 0
        return logits + neighbours

    @property
    def learns(self) -> bool:
        """Whether any part is switched on."""
        return self.bias.learns or self.neighbours is not None

    def intervals(self, logits: Logits, hidden: State | None, coded: NDArray[np.int32]) -> tuple[Integers, Integers]:
        """Cumulative frequency and frequency of the symbols `coded`, int32 [n], under logits float32 [n, vocab].

        `hidden` are the states the logits come from; needed if `learns`.
        """
        parts = [self._some(logits[at], _rows(hidden, at), coded[at], None) for at in _slices(len(logits))]
        return _joined(parts, 1), _joined(parts, 2)

    def find(self, logits: Logits, hidden: State | None, targets: Integers) -> tuple[NDArray[np.int32], Integers, Integers]:
        """The symbols whose intervals hold `targets`, int64 [n]; their cumulative frequencies and frequencies."""
        parts = [self._some(logits[at], _rows(hidden, at), None, targets[at]) for at in _slices(len(logits))]
        return _joined(parts, 0), _joined(parts, 1), _joined(parts, 2)

    def _some(self, logits: Logits, hidden: State | None, coded: NDArray[np.int32] | None, targets: Integers | None) -> Any:
        votes = no_votes(len(logits))
        if self.neighbours and hidden is not None:
            votes = self.neighbours.predict(hidden)
        lessons = self.bias.lessons()
        found, start, freq = self._code(logits, votes, lessons, coded, targets)
        self.bias.note(found)
        if self.neighbours and hidden is not None:
            self.neighbours.note(hidden, found, lessons)
        return found, start, freq

    def _code(self, logits: Logits, votes: Votes, lessons: Lessons, coded: NDArray[np.int32] | None, targets: Integers | None) -> Any:
        if coded is not None:
            if self._observer:
                self._observer.see(logits, self.bias.values, votes, self._sizes.symbols, coded)
            return (coded, *compiled_frequencies.intervals(logits, self.bias.values, votes, self._sizes.symbols, coded, lessons))
        assert targets is not None
        return compiled_frequencies.find(logits, self.bias.values, votes, self._sizes.symbols, targets, lessons)

    def update(self) -> None:
        """Ends a round."""
        self.bias.update()
        if self.neighbours:
            self.neighbours.update()


def _slices(rows: int) -> list[slice]:
    return [slice(i, min(i + _ROWS, rows)) for i in range(0, rows, _ROWS)]


def _rows(hidden: State | None, at: slice) -> State | None:
    return None if hidden is None else State(hidden.q[at], hidden.scale[at])


def _joined(parts: list[Any], which: int) -> Any:
    return parts[0][which] if len(parts) == 1 else np.concatenate([part[which] for part in parts])
