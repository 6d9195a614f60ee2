"""The intervals of `frequencies`, compiled: one symbol a row is found without computing the whole row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmzip.entropy.frequencies import BLOCK, Gradients, Integers, Logits, Votes
from llmzip.entropy.kernels import frequencies as kernels


class Rows(NamedTuple):
    """What kernels find out about each of n rows.

    Attributes:
        top, best: the largest sum of logit and bias, float32 [n], and the first symbol that has it.
        totals: sum of weights by logits.
        plain, r: ratios without votes, and with them, uint32 [n].
        added: weights of votes, int64 [n, votes].
        sums: of blocks of frequencies, less the 1 that every symbol has, int64 [n, blocks].
    """

    top: NDArray[np.float32]
    best: Integers
    totals: Integers
    plain: NDArray[np.uint32]
    r: NDArray[np.uint32]
    added: NDArray[np.int64]
    sums: NDArray[np.int64]


def _rows(n: int, votes: Votes, symbols: int) -> Rows:
    best, totals = np.empty((2, n), np.int64)
    plain, r = np.empty((2, n), np.uint32)
    added = np.empty((n, int(votes.counts.max(initial=0))), np.int64)
    return Rows(np.empty(n, np.float32), best, totals, plain, r, added, np.zeros((n, symbols // BLOCK + 1), np.int64))


def intervals(
    logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int, coded: NDArray[np.int32], gradients: Gradients
) -> tuple[Integers, Integers]:
    """Cumulative frequency below, and frequency of, the symbol `coded` [n] in each row; as many threads as `gradients` has parts."""
    n = len(coded)
    start, freq = np.empty(n, np.int64), np.empty(n, np.int64)
    kernels.intervals(logits, bias, votes, symbols, _rows(n, votes, symbols), coded, start, freq, gradients)
    return start, freq


def find(
    logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int, targets: Integers, gradients: Gradients
) -> tuple[NDArray[np.int32], Integers, Integers]:
    """The symbol whose interval holds `targets` [n] in each row, its cumulative frequency and its frequency; as many threads as `gradients` has parts."""
    n = len(targets)
    found = np.empty(n, np.int32)
    start, freq = np.empty(n, np.int64), np.empty(n, np.int64)
    kernels.find(logits, bias, votes, symbols, _rows(n, votes, symbols), targets, found, start, freq, gradients)
    return found, start, freq
