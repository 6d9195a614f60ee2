"""Frequencies: floor 1, exact total, and the fast kernels equal to the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmzip.entropy import compiled_frequencies as compiled
from llmzip.entropy import frequencies as fq
from tests.support.profiles import examples

TOTAL = fq.TOTAL


def rows(seed: int, n: int, vocab: int, spread: float) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((n, vocab)) * spread).astype(np.float32)


def some_votes(rng: np.random.Generator, n: int, symbols: int) -> fq.Votes:
    """For about half of the rows; some of the symbols raw bytes, odds from hardly any to the most."""
    most = min(symbols, 12)
    count = rng.integers(0, most + 1, n) * rng.integers(0, 2, n)
    voted = np.stack([rng.permutation(symbols)[:most] for _ in range(n)]).astype(np.int32)
    masses = rng.integers(1, 1 << rng.integers(1, 38), (n, most))
    odds = np.minimum(2.0 ** rng.integers(-20, 9, n), fq.MOST_ODDS).astype(np.float32)
    return fq.Votes(count, voted, masses, odds)


def frozen(logits: np.ndarray, symbols: int) -> np.ndarray:
    return fq.frequencies(logits, np.zeros(logits.shape[1], np.float32), fq.no_votes(len(logits)), symbols)


@given(st.integers(0, 1 << 30), st.integers(1, 700), st.sampled_from([0.0, 0.1, 3.0, 20.0, 1e4]), st.integers(0, 300), st.integers(0, 9))
@settings(max_examples=examples(80), deadline=None)
def test_floor_total_and_kernels(seed: int, vocab: int, spread: float, extra: int, shift: int) -> None:
    rng = np.random.default_rng(seed + 1)
    logits, symbols, n = rows(seed, 4, vocab, spread), vocab + extra, 4
    bias = (rng.standard_normal(vocab) * rng.choice([0, 1, 30])).astype(np.float32)
    votes = some_votes(rng, n, symbols)
    f = fq.frequencies(logits, bias, votes, symbols)
    assert f.min() >= 1
    assert (f.sum(axis=1) == TOTAL).all()
    coded = rng.integers(0, symbols, n).astype(np.int32)
    coded[0] = votes.symbols[0, 0]
    start, freq = fq.intervals_reference(f, coded)
    room = fq.scratch(2, vocab, symbols)
    for known in (True, False):
        for at in (start, start + freq - 1, np.zeros(n, np.int64), np.full(n, TOTAL - 1)):
            gradients = fq.gradients_onto(np.zeros((2, vocab), np.int32), shift, len(coded), 7, 40)
            if known:
                got = (coded, *compiled.intervals(logits, bias, votes, symbols, coded, gradients, room))
            else:
                got = compiled.find(logits, bias, votes, symbols, at, gradients, room)
            found = coded if known else fq.find_reference(f, at)
            for a, b in zip(got, (found, *fq.intervals_reference(f, found)), strict=True):
                assert (a == b).all()  # type: ignore[attr-defined]
            expected, own, voted = fq.learn_reference(logits, bias, votes, symbols, found, shift)
            if 4 * TOTAL >> shift < 1 << 31:
                assert (gradients.expected.sum(axis=0) == expected).all()
            assert (gradients.own == own).all()
            assert (gradients.voted == voted).all()
            assert (gradients.drawn == fq.draw_reference(fq.weights(logits, bias, vocab)[0], 7, 40)).all()


def test_tokens_are_drawn_by_their_probabilities() -> None:
    w = np.array([[0, 600, 0, 300, 100], [1, 0, 0, 0, 0]]) << 14
    drawn = fq.draw_reference(w, 10, 0)
    assert np.bincount(drawn[0], minlength=5).tolist() == [0, 6, 0, 3, 1]
    assert (drawn[1] == 0).all()
    begun = np.concatenate([fq.draw_reference(w[:1], 3, i) for i in range(200)])  # rows begin at different places
    assert np.abs(np.bincount(begun.reshape(-1), minlength=5) / 600 - w[0] / w[0].sum()).max() < 0.02


@pytest.mark.parametrize("vocab", [49152, 262144, 262145])
def test_real_vocabulary_sizes(vocab: int) -> None:
    rng, symbols = np.random.default_rng(8), vocab + 256
    logits, bias, votes = rows(7, 3, vocab, 5.0), rows(8, 1, vocab, 1.0)[0], some_votes(rng, 3, symbols)
    f = fq.frequencies(logits, bias, votes, symbols)
    coded = np.array([0, vocab - 1, vocab + 255], dtype=np.int32)
    want, room = fq.intervals_reference(f, coded), fq.scratch(1, vocab, symbols)
    for _ in range(2):  # the room can be used again
        assert np.array_equal(compiled.intervals(logits, bias, votes, symbols, coded, fq.no_gradients(len(coded)), room), want)
        assert np.array_equal(compiled.find(logits, bias, votes, symbols, want[0], fq.no_gradients(len(coded)), room)[0], coded)


def test_ties_and_literal_values() -> None:
    f = frozen(np.array([[0.0, 0.0, -1.0, -1.5]], dtype=np.float32), 6)
    assert f.tolist() == [[93346059, 93346058, 46673029, 35004772, 1, 1]]


def test_literal_votes() -> None:
    """Four equal logits, and votes that weigh as much as all of them: three quarters to a raw byte, a quarter to the third token."""
    logits, bias = np.zeros((1, 4), np.float32), np.zeros(4, np.float32)
    votes = fq.Votes(np.array([2]), np.array([[5, 2]], np.int32), np.array([[3, 1]]), np.ones(1, np.float32))
    w = fq.weights(logits, bias, 6)[0]
    assert w.tolist() == [[1 << 30] * 4 + [0, 0]]
    assert fq.vote_weights(w, votes).tolist() == [[0, 0, 1 << 30, 0, 0, 3 << 30]]
    assert fq.frequencies(logits, bias, votes, 6).tolist() == [[33546242, 33546240, 67092479, 33546240, 1, 100638718]]


def test_bias_is_added_to_logits() -> None:
    logits, bias = rows(1, 5, 50, 3.0), rows(2, 1, 50, 3.0)[0]
    assert (fq.frequencies(logits, bias, fq.no_votes(5), 60) == frozen(logits + bias, 60)).all()


def test_close_to_softmax() -> None:
    logits = rows(3, 50, 1000, 4.0)
    p = np.exp2(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    q = frozen(logits, 1256) / TOTAL
    loss = (p * np.log2(p / q[:, :1000])).sum(axis=1)
    assert 0 <= loss.max() < 0.005  # bits a symbol, the straight line included


@pytest.mark.parametrize("vocab", [49152, 262144])
@pytest.mark.parametrize("spread", [0.0, 8.0])
def test_most_odds_keep_the_total(spread: float, vocab: int) -> None:
    """The heaviest votes over the flattest logits: sums stay within 64 bits."""
    symbols = vocab + 256
    logits = rows(5, 2, vocab, spread)
    votes = fq.Votes(
        np.array([1, 1]), np.array([[symbols - 1], [0]], np.int32), np.full((2, 1), 1 << 38), np.full(2, fq.MOST_ODDS, np.float32)
    )
    none = np.zeros(vocab, np.float32)
    f = fq.frequencies(logits, none, votes, symbols)
    assert (f.sum(axis=1) == TOTAL).all()
    assert f[0, symbols - 1] > 0.95 * TOTAL
    coded = np.array([symbols - 1, 5], np.int32)
    got = compiled.intervals(logits, none, votes, symbols, coded, fq.no_gradients(len(coded)), fq.scratch(1, vocab, symbols))
    assert np.array_equal(got, fq.intervals_reference(f, coded))
