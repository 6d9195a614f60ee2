"""Kernels of `compiled_frequencies`: intervals of one symbol a row, found without making the row.

Threads share the rows. Each takes a few rows through three passes: the largest logit, the sum of weights, the sums of frequencies. A pass takes some
columns of all its rows at once, so that their biases stay in the fastest cache. The last pass computes weights again, which costs less than
to keep them.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from llmzip.entropy.frequencies import BLOCK, FLOOR, OFFSET, SHIFT, TOTAL
from llmzip.entropy.kernels.exponential import float_from_bits, power_pattern
from llmzip.entropy.kernels.maxima import WIDTH, largest_sums
from llmzip.system.jit import compiled

_jit = compiled(error_model="numpy", fastmath={"nnan", "nsz"})
_parallel = compiled(error_model="numpy", parallel=True, fastmath={"nnan", "nsz"})
_COLUMNS = 8 * BLOCK  # that a thread takes through all rows
_TOGETHER = 1 << 19  # logits worked on together, rows times columns
_U32, _U64 = np.uint32, np.uint64
_SHIFT64 = np.uint64(SHIFT)


@_jit
def largest_sum(x, b):
    """Largest of x + b, both float32 [n]."""
    n = x.shape[0]
    whole = n // WIDTH
    top = largest_sums(x.ctypes.data, b.ctypes.data, whole)
    for j in range(whole * WIDTH, n):
        top = max(top, x[j] + b[j])
    return top


@_jit
def _weigh(x, b, top, w):
    """Weights w uint32 [n] of logits x and biases b float32 [n], of a row whose largest sum is `top`."""
    for j in range(w.shape[0]):
        w[j] = _U32(np.int32(float_from_bits(power_pattern(max((x[j] + b[j]) - top, FLOOR), OFFSET))))


@_jit
def _sum(w):
    total = _U64(0)
    for j in range(w.shape[0]):
        total += _U64(w[j])
    return total


@_jit
def _sum_shares(w, r):
    """Sum of `share_of` weights; it is less than TOTAL."""
    wide, total = _U64(r), _U32(0)
    for j in range(w.shape[0]):
        total += _U32((_U64(w[j]) * wide) >> _SHIFT64)
    return total


@_jit
def _expect(w, r, bits, expected):
    """Adds `share_of` weights, in coarser units, to expected int32 [n]."""
    wide, shift = _U64(r), _U64(bits)
    for j in range(w.shape[0]):
        expected[j] += np.int32((_U64(w[j]) * wide) >> shift)


@_jit
def ratio(total, symbols):
    """r of a row: what a weight is multiplied by to be a frequency, in units of 2^-SHIFT. It is below 2^32, as the largest weight is 2^30."""
    return _U32(_U64(_U64(TOTAL - symbols) << _SHIFT64) // _U64(total))


@_jit
def share_of(w, r):
    """A weight as a frequency, without the 1 that every symbol has."""
    return np.int64((_U64(w) * _U64(r)) >> _SHIFT64)


@_jit
def own_weight(x, b, top, s):
    """Weight of symbol s by logits x and biases b [vocab]: 0 beyond the vocabulary."""
    if s >= b.shape[0]:
        return np.int64(0)
    return np.int64(np.int32(float_from_bits(power_pattern(max((x[s] + b[s]) - top, FLOOR), OFFSET))))


@_jit
def first_of(x, b, top, start):
    """The first symbol from `start` on whose sum of logit and bias is `top`."""
    while x[start] + b[start] != top:
        start += 1
    return start


@_jit
def vote_weights(votes, i, total, added):
    """Weights of the votes of row i, which has some, into added [counts]; returns their sum."""
    mass = np.int64(0)
    for k in range(votes.counts[i]):
        mass += votes.masses[i, k]
    scale = (votes.odds[i] * np.float32(total)) / np.float32(mass)
    extra = np.int64(0)
    for k in range(votes.counts[i]):
        a = np.int64(np.float32(votes.masses[i, k]) * scale)
        added[k] = a
        extra += a
    return extra


@_jit
def _find_tops(logits, bias, begin, end, rows):
    for i in range(begin, end):
        rows.top[i], rows.best[i] = np.float32(-np.inf), 0
    for first in range(0, bias.shape[0], _COLUMNS):
        b = bias[first : first + _COLUMNS]
        for i in range(begin, end):
            y = largest_sum(logits[i, first : first + _COLUMNS], b)
            if y > rows.top[i]:
                rows.top[i], rows.best[i] = y, first
    for i in range(begin, end):
        rows.best[i] = first_of(logits[i], bias, rows.top[i], rows.best[i])


@_jit
def _find_totals(logits, bias, begin, end, rows, w):
    vocab = bias.shape[0]
    for i in range(begin, end):
        rows.totals[i] = 0
    for column in range(0, vocab, _COLUMNS):
        for i in range(begin, end):
            top, total = rows.top[i], _U64(0)
            for first in range(column, min(column + _COLUMNS, vocab), BLOCK):
                some = w[: min(BLOCK, vocab - first)]
                _weigh(logits[i, first:], bias[first:], top, some)
                total += _sum(some)
            rows.totals[i] += np.int64(total)


@_jit
def _find_ratios(votes, symbols, begin, end, rows):
    for i in range(begin, end):
        rows.plain[i] = ratio(rows.totals[i], symbols)
        more = vote_weights(votes, i, rows.totals[i], rows.added[i]) if votes.counts[i] else np.int64(0)
        rows.r[i] = ratio(rows.totals[i] + more, symbols)


@_jit
def _find_sums(logits, bias, begin, end, rows, expected, bits, w):
    """Sums of blocks without votes, and probabilities onto expected."""
    vocab = bias.shape[0]
    for column in range(0, vocab, _COLUMNS):
        for i in range(begin, end):
            top, r, plain = rows.top[i], rows.r[i], rows.plain[i]
            for first in range(column, min(column + _COLUMNS, vocab), BLOCK):
                some = w[: min(BLOCK, vocab - first)]
                _weigh(logits[i, first:], bias[first:], top, some)
                rows.sums[i, first // BLOCK] = _sum_shares(some, r)
                if expected.shape[0]:
                    _expect(some, plain, bits, expected[first:])


@_jit
def _open(logits, bias, votes, symbols, begin, end, rows, expected, shift):
    """Fills `rows` from `begin` to `end`, a few at a time, so that the logits of these stay in a cache."""
    together, w = max(1, _TOGETHER // bias.shape[0]), np.empty(BLOCK, np.uint32)
    for first in range(begin, end, together):
        last = min(first + together, end)
        _find_tops(logits, bias, first, last, rows)
        _find_totals(logits, bias, first, last, rows, w)
        _find_ratios(votes, symbols, first, last, rows)
        _find_sums(logits, bias, first, last, rows, expected, SHIFT + shift, w)


@_jit
def _raise(x, bias, votes, i, rows, s):
    """Adds the votes of row i, whose logits are x, to its sums; returns how much symbols below s gain, and the weight that s gains."""
    below, own, r = np.int64(0), np.int64(0), rows.r[i]
    for k in range(votes.counts[i]):
        v = votes.symbols[i, k]
        w = own_weight(x, bias, rows.top[i], v)
        more = share_of(w + rows.added[i, k], r) - share_of(w, r)
        rows.sums[i, v // BLOCK] += more
        if v < s:
            below += more
        if v == s:
            own = rows.added[i, k]
    return below, own


@_jit
def _below(x, bias, i, rows, s):
    """Sum of the frequencies of row i below symbol s, without votes and without the 1 that every symbol has."""
    s = min(s, bias.shape[0])
    at = s // BLOCK * BLOCK
    w = np.empty(s - at, np.uint32)
    _weigh(x[at:], bias[at:], rows.top[i], w)
    return rows.sums[i, : at // BLOCK].sum() + np.int64(_sum_shares(w, rows.r[i]))


@_parallel
def intervals(logits, bias, votes, symbols, rows, coded, start, freq, gradients):
    """See `compiled_frequencies.intervals`; as many threads as `gradients.expected` has parts."""
    n = logits.shape[0]
    expected, shift, own, voted = gradients
    parts = expected.shape[0]
    for part in nb.prange(parts):
        begin, end = part * n // parts, (part + 1) * n // parts
        _open(logits, bias, votes, symbols, begin, end, rows, expected[part], shift)
        for i in range(begin, end):
            x, r, s = logits[i], rows.r[i], np.int64(coded[i])
            below = _below(x, bias, i, rows, s) + s
            more, vote = _raise(x, bias, votes, i, rows, s)
            missing = TOTAL - (rows.sums[i].sum() + symbols)
            own[i], voted[i] = own_weight(x, bias, rows.top[i], s), vote
            start[i] = below + more + (missing if rows.best[i] < s else 0)
            freq[i] = 1 + share_of(own[i] + vote, r) + (missing if rows.best[i] == s else 0)


@_jit
def _search(x, bias, votes, symbols, i, rows, target):
    """The symbol of row i whose interval holds `target`, where that begins, its frequency, and its weights: by blocks, then by symbols."""
    _raise(x, bias, votes, i, rows, np.int64(0))
    missing = TOTAL - (rows.sums[i].sum() + symbols)
    rows.sums[i, rows.best[i] // BLOCK] += missing
    low, first = np.int64(0), 0
    while True:
        end = min(first + BLOCK, symbols)
        width = rows.sums[i, first // BLOCK] + (end - first)
        if target < low + width or end == symbols:
            break
        low += width
        first = end
    added = np.zeros(BLOCK, np.int64)
    for k in range(votes.counts[i]):
        if first <= votes.symbols[i, k] < first + BLOCK:
            added[votes.symbols[i, k] - first] = rows.added[i, k]
    at = first
    while True:
        own, vote = own_weight(x, bias, rows.top[i], at), added[at - first]
        mine = 1 + share_of(own + vote, rows.r[i]) + (missing if at == rows.best[i] else 0)
        if target < low + mine or at == symbols - 1:
            return at, low, mine, own, vote
        low += mine
        at += 1


@_parallel
def find(logits, bias, votes, symbols, rows, targets, found, start, freq, gradients):
    """See `compiled_frequencies.find`; as many threads as `gradients.expected` has parts."""
    n = logits.shape[0]
    expected, shift, own, voted = gradients
    parts = expected.shape[0]
    for part in nb.prange(parts):
        begin, end = part * n // parts, (part + 1) * n // parts
        _open(logits, bias, votes, symbols, begin, end, rows, expected[part], shift)
        for i in range(begin, end):
            found[i], start[i], freq[i], own[i], voted[i] = _search(logits[i], bias, votes, symbols, i, rows, targets[i])
