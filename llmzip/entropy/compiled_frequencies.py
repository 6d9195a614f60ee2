"""The intervals of `frequencies`, compiled: one symbol a row is found without computing the whole row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmzip.entropy.frequencies import Gradients, Integers, Logits, Scratch, Votes
from llmzip.entropy.kernels import frequencies as kernels


def intervals(
    logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int, coded: NDArray[np.int32], gradients: Gradients, room: Scratch
) -> tuple[Integers, Integers]:
    """Cumulative frequency below, and frequency of, the symbol `coded` [n] in each row; as many threads as `gradients` has parts."""
    n = len(coded)
    start, freq = np.empty(n, np.int64), np.empty(n, np.int64)
    kernels.intervals(logits, bias, votes, symbols, coded, start, freq, gradients, room)
    return start, freq


def find(
    logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int, targets: Integers, gradients: Gradients, room: Scratch
) -> tuple[NDArray[np.int32], Integers, Integers]:
    """The symbol whose interval holds `targets` [n] in each row, its cumulative frequency and its frequency."""
    n = len(targets)
    found = np.empty(n, np.int32)
    start, freq = np.empty(n, np.int64), np.empty(n, np.int64)
    kernels.find(logits, bias, votes, symbols, targets, found, start, freq, gradients, room)
    return found, start, freq
