"""Kernels of `compiled_frequencies`: intervals of one symbol a row, found without making the row."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from llmzip.entropy.frequencies import BLOCK, FLOOR, OFFSET, SHIFT, TOTAL
from llmzip.entropy.kernels.exponential import float_from_bits, power_pattern
from llmzip.entropy.kernels.maxima import WIDTH, largest_sums
from llmzip.system.jit import compiled

_jit = compiled(error_model="numpy", fastmath={"nnan", "nsz"})
_parallel = compiled(parallel=True)
_U32, _U64 = np.uint32, np.uint64
_SHIFT64 = np.uint64(SHIFT)


@_jit
def _sums(logits: Any, bias: Any, sums: Any) -> Any:
    """logits + bias of one row into sums, all float32 [vocab]; returns the largest."""
    n = logits.shape[0]
    blocks = n // WIDTH
    top = largest_sums(logits.ctypes.data, bias.ctypes.data, sums.ctypes.data, blocks)
    for j in range(blocks * WIDTH, n):
        sums[j] = logits[j] + bias[j]
        top = max(top, sums[j])
    return top


@_jit
def _powers(w: Any, top: Any) -> Any:
    """Turns the float32s that w uint32 [n] holds into weights; returns the sum of these."""
    as_float, as_int = w.view(np.float32), w.view(np.int32)
    for j in range(w.shape[0]):
        as_int[j] = np.int32(float_from_bits(power_pattern(max(as_float[j] - top, FLOOR), OFFSET)))
    total = np.int64(0)
    for j in range(w.shape[0]):
        total += np.int64(w[j])
    return total


@_jit
def weigh(logits: Any, bias: Any, w: Any) -> Any:
    """Weights uint32 [vocab] of one row into w; returns their sum and the first token of largest logit."""
    sums = w.view(np.float32)
    top = _sums(logits, bias, sums)
    best, total = 0, np.int64(0)
    while sums[best] != top:
        best += 1
    for first in range(0, w.shape[0], BLOCK):  # what was just written is read from the fastest cache
        total += _powers(w[first : first + BLOCK], top)
    return total, best


@_jit
def ratio(total: Any, symbols: Any) -> Any:
    """r of a row: what a weight is multiplied by to be a frequency, in units of 2^-SHIFT. It fits 32 bits, as the largest weight is 2^30."""
    return _U32(_U64(_U64(TOTAL - symbols) << _SHIFT64) // _U64(total))


@_jit
def _expect(w: Any, r: Any, shift: Any, expected: Any) -> None:
    wide, bits = _U64(r), _U64(SHIFT + shift)
    for j in range(expected.shape[0]):
        expected[j] += np.int32((_U64(w[j]) * wide) >> bits)


@_jit
def _sum(w: Any, r: Any) -> Any:
    wide, total = _U64(r), _U64(0)
    for j in range(w.shape[0]):
        total += (_U64(w[j]) * wide) >> _SHIFT64
    return np.int64(total)


@_jit
def vote_weights(votes: Any, i: Any, total: Any, added: Any) -> Any:
    """Weights of the votes of row i, which has some, into added [symbols], which is 0 elsewhere; returns their sum."""
    mass = np.int64(0)
    for k in range(votes.counts[i]):
        mass += votes.masses[i, k]
    scale = (votes.odds[i] * np.float32(total)) / np.float32(mass)
    extra = np.int64(0)
    for k in range(votes.counts[i]):
        a = np.int64(np.float32(votes.masses[i, k]) * scale)
        added[votes.symbols[i, k]] = a
        extra += a
    return extra


@_jit
def own_weight(w: Any, s: Any) -> Any:
    """Weight of symbol s by logits: 0 beyond the vocabulary."""
    return np.int64(w[s]) if s < w.shape[0] else np.int64(0)


@_jit
def share_of(w: Any, r: Any) -> Any:
    """A weight as a frequency, without the 1 that every symbol has."""
    return np.int64((_U64(w) * _U64(r)) >> _SHIFT64)


@_jit
def _raised(w: Any, added: Any, r: Any, s: Any) -> Any:
    """By how much votes raise the frequency of symbol s."""
    own = own_weight(w, s)
    return share_of(own + added[s], r) - share_of(own, r)


@_jit
def _open(logits: Any, bias: Any, votes: Any, i: Any, symbols: Any, w: Any, added: Any, expected: Any, shift: Any) -> Any:
    """Weights of row i into w, those of its votes into added, its probabilities onto expected; returns r and the best token."""
    total, best = weigh(logits[i], bias, w)
    _expect(w, ratio(total, symbols), shift, expected)
    if votes.counts[i]:
        total += vote_weights(votes, i, total, added)
    return ratio(total, symbols), best


@_parallel
def intervals(logits: Any, bias: Any, votes: Any, symbols: Any, coded: Any, start: Any, freq: Any, gradients: Any, room: Any) -> None:
    """See `compiled_frequencies.intervals`; as many threads as `gradients.expected` has parts."""
    n, vocab = logits.shape
    expected, shift, own, vote = gradients
    parts = expected.shape[0]
    for part in nb.prange(parts):
        w, added = room.w[part], room.added[part]
        for i in range(part * n // parts, (part + 1) * n // parts):
            v = votes.symbols[i, : votes.counts[i]]
            r, best = _open(logits, bias, votes, i, symbols, w, added, expected[part], shift)
            s = coded[i]
            low = min(s, vocab)
            below = _sum(w[:low], r)
            used = below + _sum(w[low:], r) + symbols
            below += s
            for k in range(v.shape[0]):
                more = _raised(w, added, r, v[k])
                used += more
                if v[k] < s:
                    below += more
            missing = TOTAL - used
            own[i], vote[i] = own_weight(w, s), added[s]
            start[i] = below + (missing if best < s else 0)
            freq[i] = 1 + share_of(own[i] + vote[i], r) + (missing if best == s else 0)
            for k in range(v.shape[0]):
                added[v[k]] = 0


@_parallel
def find(
    logits: Any, bias: Any, votes: Any, symbols: Any, targets: Any, found: Any, start: Any, freq: Any, gradients: Any, room: Any
) -> None:  # fmt: skip
    """See `compiled_frequencies.find`; as many threads as `gradients.expected` has parts."""
    n, vocab = logits.shape
    expected, shift, own, vote = gradients
    parts = expected.shape[0]
    for part in nb.prange(parts):
        w, added, raised = room.w[part], room.added[part], room.raised[part]
        for i in range(part * n // parts, (part + 1) * n // parts):
            v = votes.symbols[i, : votes.counts[i]]
            r, best = _open(logits, bias, votes, i, symbols, w, added, expected[part], shift)
            used = _sum(w, r) + symbols
            for k in range(v.shape[0]):
                more = _raised(w, added, r, v[k])
                used += more
                raised[v[k] // BLOCK] += more
            missing = TOTAL - used
            raised[best // BLOCK] += missing
            target = targets[i]
            low = np.int64(0)
            at = 0
            while True:  # by blocks, then by symbols
                end = min(at + BLOCK, symbols)
                width = _sum(w[min(at, vocab) : min(end, vocab)], r) + (end - at) + raised[at // BLOCK]
                if target < low + width or end == symbols:
                    break
                low += width
                at = end
            while True:
                mine = 1 + share_of(own_weight(w, at) + added[at], r) + (missing if at == best else 0)
                if target < low + mine or at == symbols - 1:
                    break
                low += mine
                at += 1
            found[i], start[i], freq[i] = at, low, mine
            own[i], vote[i] = own_weight(w, at), added[at]
            raised[best // BLOCK] = 0
            for k in range(v.shape[0]):
                added[v[k]] = 0
                raised[v[k] // BLOCK] = 0
