"""Kernels of `likeliest`: whole rows of frequencies, and the largest of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmzip.entropy.frequencies import TOTAL
from llmzip.entropy.kernels.frequencies import own_weight, ratio, share_of, vote_weights, weigh
from llmzip.system.jit import compiled

_jit = compiled(error_model="numpy")


@_jit
def _spread(logits: Any, bias: Any, votes: Any, i: Any, w: Any, added: Any, row: Any) -> None:
    """All frequencies of row i into row [symbols]; added [symbols] is 0 before and after."""
    total, best = weigh(logits[i], bias, w)
    if votes.counts[i]:
        total += vote_weights(votes, i, total, added)
    symbols = row.shape[0]
    r = ratio(total, symbols)
    used = np.int64(0)
    for s in range(symbols):
        row[s] = 1 + share_of(own_weight(w, s) + added[s], r)
        used += row[s]
    row[best] += TOTAL - used
    for k in range(votes.counts[i]):
        added[votes.symbols[i, k]] = 0


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
    w, added, row = np.empty(logits.shape[1], np.uint32), np.zeros(symbols, np.int64), np.empty(symbols, np.int64)
    for i in range(logits.shape[0]):
        _spread(logits, bias, votes, i, w, added, row)
        _largest(row, found[i], freq[i])
