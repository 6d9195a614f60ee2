"""Kernels of `likeliest`: whole rows of frequencies, and the largest of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmzip.entropy.frequencies import TOTAL
from llmzip.entropy.kernels.frequencies import first_of, largest_sum, own_weight, ratio, share_of, vote_weights
from llmzip.system.jit import compiled

_jit = compiled(error_model="numpy")


@_jit
def _spread(logits: Any, bias: Any, votes: Any, i: Any, row: Any) -> None:
    """All frequencies of row i into row [symbols]."""
    x, symbols = logits[i], row.shape[0]
    top = largest_sum(x, bias)
    best = first_of(x, bias, top, 0)
    total = np.int64(0)
    for s in range(symbols):
        row[s] = own_weight(x, bias, top, s)
        total += row[s]
    added = np.empty(votes.counts[i], np.int64)
    if votes.counts[i]:
        total += vote_weights(votes, i, total, added)
    for k in range(votes.counts[i]):
        row[votes.symbols[i, k]] += added[k]
    r, used = ratio(total, symbols), np.int64(0)
    for s in range(symbols):
        row[s] = 1 + share_of(row[s], r)
        used += row[s]
    row[best] += TOTAL - used


@_jit
def _largest(row: Any, found: Any, freq: Any) -> None:
    """The largest values of row, largest first, of equal ones the first first; freq is 0 before."""
    last = freq.shape[0] - 1
    for s in range(row.shape[0]):
        if row[s] > freq[last]:
            k = last
            while k > 0 and freq[k - 1] < row[s]:
                found[k], freq[k] = found[k - 1], freq[k - 1]
                k -= 1
            found[k], freq[k] = s, row[s]


@_jit
def likeliest(logits: Any, bias: Any, votes: Any, symbols: Any, found: Any, freq: Any) -> None:
    """See `likeliest.likeliest`."""
    row = np.empty(symbols, np.int64)
    for i in range(logits.shape[0]):
        _spread(logits, bias, votes, i, row)
        _largest(row, found[i], freq[i])
