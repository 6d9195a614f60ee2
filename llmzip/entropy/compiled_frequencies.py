"""The intervals of `frequencies` compiled by numba: those of one symbol a row, found without making the row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmzip.entropy.frequencies import Integers, Lessons, Logits, Votes
from llmzip.entropy.kernels import frequencies as kernels


def intervals(
    logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int, coded: NDArray[np.int32], lessons: Lessons
) -> tuple[Integers, Integers]:
    """Cumulative frequency below, and frequency of, the symbol `coded` [n] in each row; as many threads as `lessons` has parts."""
    n = len(coded)
    start, freq = np.empty(n, np.int64), np.empty(n, np.int64)
    lessons.own, lessons.voted = np.empty(n, np.int64), np.empty(n, np.int64)
    given = (votes.count, votes.symbols, votes.masses, votes.odds)
    kernels.intervals(logits, bias, *given, symbols, coded, start, freq, lessons.expected, lessons.shift, lessons.own, lessons.voted)
    return start, freq


def find(
    logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int, targets: Integers, lessons: Lessons
) -> tuple[NDArray[np.int32], Integers, Integers]:
    """The symbol whose interval holds `targets` [n] in each row, its cumulative frequency and its frequency."""
    n = len(targets)
    found = np.empty(n, np.int32)
    start, freq = np.empty(n, np.int64), np.empty(n, np.int64)
    lessons.own, lessons.voted = np.empty(n, np.int64), np.empty(n, np.int64)
    given = (votes.count, votes.symbols, votes.masses, votes.odds)
    kernels.find(logits, bias, *given, symbols, targets, found, start, freq, lessons.expected, lessons.shift, lessons.own, lessons.voted)
    return found, start, freq
