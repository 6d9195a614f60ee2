"""Frequencies: floor 1, exact total, and the fast kernels equal to the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmzip import frequencies as fq

TOTAL = 1 << fq.TOTAL_BITS


def rows(seed: int, n: int, vocab: int, spread: float) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((n, vocab)) * spread).astype(np.float32)


@given(st.integers(0, 1 << 30), st.integers(1, 700), st.sampled_from([0.0, 0.1, 3.0, 20.0, 1e4]), st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_floor_total_and_kernels(seed: int, vocab: int, spread: float, extra: int) -> None:
    logits, symbols = rows(seed, 4, vocab, spread), vocab + extra
    f = fq.frequencies(logits, symbols)
    assert f.min() >= 1
    assert (f.sum(axis=1) == TOTAL).all()
    coded = np.random.default_rng(seed + 1).integers(0, symbols, 4).astype(np.int32)
    start, freq = fq.intervals(logits, symbols, coded, threads=2)
    expected = fq.intervals_reference(logits, symbols, coded)
    assert (start == expected[0]).all()
    assert (freq == expected[1]).all()
    for targets in (start, start + freq - 1, np.zeros(4, np.int64), np.full(4, TOTAL - 1)):
        for got, want in zip(fq.find(logits, symbols, targets, 2), fq.find_reference(logits, symbols, targets), strict=True):
            assert (got == want).all()


def test_real_vocabulary_size() -> None:
    logits = rows(7, 3, 49152, 5.0)
    coded = np.array([0, 49151, 49152 + 255], dtype=np.int32)
    assert all(
        (a == b).all() for a, b in zip(fq.intervals(logits, 49408, coded), fq.intervals_reference(logits, 49408, coded), strict=True)
    )


def test_ties_and_literal_values() -> None:
    f = fq.frequencies(np.array([[0.0, 0.0, -1.0, -1.5]], dtype=np.float32), 6)
    assert f[0, 0] > f[0, 1] > f[0, 2] > f[0, 3] > 1  # the first of the largest takes the remainder
    assert f[0, 4:].tolist() == [1, 1]
    assert f[0, 1] == pytest.approx(TOTAL / (1 + 1 + 0.5 + 0.375), rel=1e-6)  # 2^-1.5 on the line is 0.375


def test_close_to_softmax() -> None:
    logits = rows(3, 50, 1000, 4.0)
    p = np.exp2(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    q = fq.frequencies(logits, 1256) / TOTAL
    loss = (p * np.log2(p / q[:, :1000])).sum(axis=1)
    assert 0 <= loss.max() < 0.005  # bits a symbol, the straight line included
