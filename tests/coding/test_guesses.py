"""Guesses of the next symbols: they save calls of the model and change no symbol."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from llmzip.coding.block_coder import BlockCoder
from llmzip.coding.guesses import MOST_LANES, Guesses
from llmzip.coding.session import PredictionSession
from llmzip.engine.build import build
from llmzip.models.convert import IntegerModel
from llmzip.parameters import LEVELS, AttentionSpan

SPAN = AttentionSpan(window=64, sinks=4, local=False)


def repeating(n: int, vocab: int, seed: int = 3) -> NDArray[np.int32]:
    """Phrases that come again and again, with a new symbol here and there."""
    rng = np.random.default_rng(seed)
    phrases = [rng.integers(0, vocab, rng.integers(3, 40)) for _ in range(6)]
    parts = [p for _ in range(n) for p in (phrases[rng.integers(6)], rng.integers(0, vocab + 256, rng.integers(0, 3)))]
    return np.concatenate(parts)[:n].astype(np.int32)


def as_if_free(guesses: Guesses) -> Guesses:
    """Guesses that never find a further step too dear."""
    guesses._price = lambda: 0.0  # type: ignore[method-assign]
    return guesses


@pytest.mark.parametrize("lanes", [1, 2, MOST_LANES])
def test_decoding_with_guesses_gives_the_same_symbols(lanes: int, tiny_model: IntegerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the window, so keys and values slide between a guess and its taking back."""
    monkeypatch.setattr("llmzip.coding.block_coder.Guesses", lambda grid: as_if_free(Guesses(grid)))
    calls: list[int] = []
    advance = PredictionSession._advance_guessed

    def counted(self: PredictionSession, *args: object) -> int:
        calls.append(advance(self, *args))  # type: ignore[arg-type]
        return calls[-1]

    monkeypatch.setattr(PredictionSession, "_advance_guessed", counted)
    vocab = tiny_model.config.vocab
    symbols = repeating(1500, vocab)
    coder = BlockCoder(build(tiny_model, "cpu", 2), vocab + 256, SPAN, LEVELS[6].adapter, threads=2)
    stream = coder.encode(symbols, lanes)
    assert np.array_equal(coder.decode(stream, len(symbols), lanes), symbols)
    assert sum(calls) == -(-len(symbols) // lanes)
    assert max(calls) > 4
    assert len(calls) < (0.5 if lanes == 1 else 1.0) * sum(calls)
    coder.guess = False
    calls.clear()
    assert np.array_equal(coder.decode(stream, len(symbols), lanes), symbols)
    assert not calls


def test_what_came_before_is_guessed() -> None:
    grid = np.zeros((1, 40), np.int32)
    grid[0, :9] = [7, 8, 9, 5, 6, 1, 7, 8, 9]
    guesses = as_if_free(Guesses(grid))
    for step in range(9):
        guesses.take(step, 1)
    assert guesses.ahead(9, 1, 5).tolist() == [[5, 6, 1, 7, 8]]
    assert guesses.ahead(9, 1, 2).tolist() == [[5, 6]]
    assert guesses.ahead(9, 1, 0).shape == (1, 0)


def test_a_guess_goes_on_into_itself() -> None:
    grid = np.zeros((1, 40), np.int32)
    grid[0, :5] = [1, 2, 3, 2, 3]
    guesses = as_if_free(Guesses(grid))
    for step in range(5):
        guesses.take(step, 1)
    assert guesses.ahead(5, 1, 6).tolist() == [[2, 3, 2, 3, 2, 3]]


def test_lanes_copy_from_each_other_only_what_is_decoded() -> None:
    grid = np.zeros((2, 60), np.int32)
    grid[0, :20], grid[1, :20] = np.arange(100, 120), np.arange(200, 220)
    grid[1, 17:20] = [101, 102, 103]
    guesses = as_if_free(Guesses(grid))
    for step in range(20):
        guesses.take(step, 2)
    assert [copy.source for copy in guesses._lanes] == [-1, 4]
    grid[0, 20:23] = [212, 213, 214]
    for step in range(20, 23):
        guesses.take(step, 1)
    assert guesses._lanes[0].source == 60 + 15


def test_dear_or_wrong_guesses_are_not_made() -> None:
    grid = np.tile(np.array([1, 2, 3, 4], np.int32), (1, 50))
    guesses = Guesses(grid)
    for step in range(100):
        guesses.take(step, 1)
    assert guesses.ahead(100, 1, 7).shape[1] == 7
    guesses.took(1, 1.0)
    guesses.took(8, 8.0)  # as much as one by one
    assert guesses.ahead(100, 1, 7).shape[1] == 0
    rng = np.random.default_rng(1)
    grid = rng.integers(0, 3, (1, 2000)).astype(np.int32)  # matches everywhere, which say nothing
    guesses = Guesses(grid)
    guesses.took(1, 1.0)
    guesses.took(2, 1.6)
    for step in range(1999):
        guesses.take(step, 1)
    assert guesses.ahead(1999, 1, 7).shape[1] == 0


def test_many_lanes_are_not_guessed() -> None:
    grid = np.ones((MOST_LANES + 1, 50), np.int32)
    guesses = Guesses(grid)
    for step in range(20):
        guesses.take(step, MOST_LANES + 1)
    assert guesses.ahead(20, MOST_LANES + 1, 7).shape == (MOST_LANES + 1, 0)
