"""Logits, and what was learned on top of them, to integer frequencies: every symbol at least 1, the total exactly TOTAL.

Floats end here. A row of logits y (in log2 units) plus the bias b of each token becomes weights w = 2^(y + b - max) as integers up
to 2^30, by a straight line between powers of two; symbols beyond the logits (raw bytes) have weight 0. Votes are a second
opinion on a few symbols: those of a row are scaled so that together they weigh `odds` times what the logits weigh, and added. With W the
sum of all weights, V the number of symbols and r = floor((TOTAL - V) * 2^SHIFT / W),

    frequency = 1 + floor(w * r / 2^SHIFT),

and what is missing from the total goes to the first symbol of largest y + b. The functions in numpy are the
definition; the numba kernels must equal them.

TOTAL is a little less than the 2^TOTAL_BITS that the range coder divides its interval by: GUARD of them belong to no symbol. An encoder
never goes there; a decoder out of step does sooner or later, and so notices (Boyd, Cleary, Irvine, Rinsma-Melchert and Witten,
"Integrating error detection into arithmetic coding", 1997).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

TOTAL_BITS = 28
GUARD = 1 << 16  # a decoder out of step hits it once in 4,096 symbols on average; it costs 0.00035 bits a symbol
TOTAL = (1 << TOTAL_BITS) - GUARD
WEIGHT_BITS = 30
SHIFT = 33
_FLOOR = np.float32(-40.0)  # of y - max: far below the smallest weight that is not 0
_LINE = np.float32(2.0**23)
_BIAS = np.int32((127 + WEIGHT_BITS) << 23)

Logits = NDArray[np.float32]  # [n, vocab]
Integers = NDArray[np.int64]  # [n]


@dataclass(frozen=True)
class Votes:
    """A few symbols of each of n rows, with integers that say how much of the row's votes each gets.

    Attributes:
        count: symbols voted for, int64 [n]; where it is 0 there are no votes.
        symbols: int32 [n, most or more], the first `count` of each row distinct.
        masses: int64 [n, most or more], each from 1 to 2^38.
        odds: float32 [n], what all votes of a row weigh together, as a multiple of what its logits weigh; at most MOST_ODDS.
    """

    count: Integers
    symbols: NDArray[np.int32]
    masses: NDArray[np.int64]
    odds: NDArray[np.float32]


MOST_ODDS = 255.0  # keeps sums of weights below 2^55, for vocabularies up to 2^16


def no_votes(rows: int) -> Votes:
    """For rows without any."""
    return Votes(np.zeros(rows, np.int64), np.zeros((rows, 1), np.int32), np.zeros((rows, 1), np.int64), np.zeros(rows, np.float32))


@dataclass
class Lessons:
    """What the coded symbols teach, collected by `intervals` and `find`.

    Attributes:
        expected: int32 [threads, vocab], summed over rows: probabilities without votes, in units of 2^(shift - TOTAL_BITS); of size 0
            if nobody wants to know.
        shift: bits dropped of each probability, so that sums fit.
        own: weight of each row's coded symbol by logits, int64 [n].
        voted: and by votes, int64 [n].
    """

    expected: NDArray[np.int32] = field(default_factory=lambda: np.zeros((1, 0), np.int32))
    shift: int = 0
    own: Integers = field(default_factory=lambda: np.zeros(0, np.int64))
    voted: Integers = field(default_factory=lambda: np.zeros(0, np.int64))


def weights(logits: Logits, bias: NDArray[np.float32], symbols: int) -> tuple[NDArray[np.int64], Integers]:
    """Weights int64 [n, symbols] of logits and bias [vocab] alone, and the first token of largest logit [n]. The reference."""
    y = logits + bias
    z = np.maximum(y - y.max(axis=1, keepdims=True), _FLOOR)
    line = (z * _LINE).astype(np.int32) + _BIAS
    out = np.zeros((len(logits), symbols), dtype=np.int64)
    out[:, : logits.shape[1]] = line.view(np.float32).astype(np.int64)
    return out, y.argmax(axis=1)


def vote_weights(own: NDArray[np.int64], votes: Votes) -> NDArray[np.int64]:
    """What `votes` add to the weights `own`, int64 [n, symbols]. The reference."""
    out = np.zeros_like(own)
    for i, n in enumerate(votes.count):
        if n:
            mass = votes.masses[i, :n]
            scale = (votes.odds[i] * np.float32(own[i].sum())) / np.float32(mass.sum())
            out[i, votes.symbols[i, :n]] = (mass.astype(np.float32) * scale).astype(np.int64)
    return out


def _shares(w: NDArray[np.int64], symbols: int) -> NDArray[np.int64]:
    """floor(w * r / 2^SHIFT)."""
    r = ((TOTAL - symbols) << SHIFT) // w.sum(axis=1, keepdims=True)
    shares: NDArray[np.int64] = (w * r) >> SHIFT
    return shares


def frequencies(logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int) -> NDArray[np.int64]:
    """Frequencies int64 [n, symbols], each >= 1, each row summing to TOTAL. The reference."""
    w, best = weights(logits, bias, symbols)
    out = 1 + _shares(w + vote_weights(w, votes), symbols)
    out[np.arange(len(out)), best] += TOTAL - out.sum(axis=1)
    return out


def learn_reference(
    logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int, coded: NDArray[np.int32], shift: int
) -> tuple[NDArray[np.int64], Integers, Integers]:
    """`Lessons` of rows whose symbols are known: expected int64 [vocab], own [n], voted [n]."""
    w, _ = weights(logits, bias, symbols)
    rows = np.arange(len(coded))
    expected = (_shares(w, symbols)[:, : logits.shape[1]] >> shift).sum(axis=0)
    return expected, w[rows, coded], vote_weights(w, votes)[rows, coded]


def intervals_reference(frequency: NDArray[np.int64], coded: NDArray[np.int32]) -> tuple[Integers, Integers]:
    """Cumulative frequency below, and frequency of, the symbol `coded` [n] in each row of frequencies."""
    rows = np.arange(len(frequency))
    return frequency.cumsum(axis=1)[rows, coded] - frequency[rows, coded], frequency[rows, coded]


def find_reference(frequency: NDArray[np.int64], targets: Integers) -> NDArray[np.int32]:
    """The symbol whose interval holds `targets` [n] in each row of frequencies."""
    found: NDArray[np.int32] = (frequency.cumsum(axis=1) <= targets[:, None]).sum(axis=1).astype(np.int32)
    return found


_jit = nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"nnan", "nsz"})
_parallel = nb.njit(cache=True, nogil=True, parallel=True)
_BLOCK = 256
_U32, _U64 = np.uint32, np.uint64
_SHIFT64 = np.uint64(SHIFT)


@_jit
def _weigh(logits: Any, bias: Any, w: Any) -> Any:
    """Weights uint32 [vocab] of one row into w; returns their sum and the first token of largest logit."""
    n = logits.shape[0]
    as_float, line = w.view(np.float32), w.view(np.int32)
    top = logits[0] + bias[0]
    for j in range(n):
        y = logits[j] + bias[j]
        as_float[j] = y
        top = max(top, y)
    best = 0
    while as_float[best] != top:
        best += 1
    for j in range(n):
        line[j] = np.int32(max(as_float[j] - top, _FLOOR) * _LINE) + _BIAS
    total = np.int64(0)
    for j in range(n):
        v = _U32(np.int32(as_float[j]))
        w[j] = v
        total += np.int64(v)
    return total, best


@_jit
def _ratio(total: Any, symbols: Any) -> Any:
    return _U64(_U64(_U64(TOTAL - symbols) << _SHIFT64) // _U64(total))


@_jit
def _expect(w: Any, r: Any, shift: Any, expected: Any) -> None:
    bits = _U64(SHIFT + shift)
    for j in range(expected.shape[0]):
        expected[j] += np.int32((_U64(w[j]) * r) >> bits)


@_jit
def _sum(w: Any, r: Any) -> Any:
    total = _U64(0)
    for j in range(w.shape[0]):
        total += (_U64(w[j]) * r) >> _SHIFT64
    return np.int64(total)


@_jit
def _vote(voted: Any, masses: Any, odds: Any, total: Any, added: Any) -> Any:
    """Weights of the votes into added [symbols], which is 0 elsewhere; returns their sum."""
    mass = np.int64(0)
    for k in range(voted.shape[0]):
        mass += masses[k]
    scale = (odds * np.float32(total)) / np.float32(mass)
    extra = np.int64(0)
    for k in range(voted.shape[0]):
        a = np.int64(np.float32(masses[k]) * scale)
        added[voted[k]] = a
        extra += a
    return extra


@_jit
def _own(w: Any, s: Any) -> Any:
    return np.int64(w[s]) if s < w.shape[0] else np.int64(0)


@_jit
def _share(w: Any, r: Any) -> Any:
    return np.int64((_U64(w) * r) >> _SHIFT64)


@_jit
def _raised(w: Any, added: Any, r: Any, s: Any) -> Any:
    """By how much votes raise the frequency of symbol s."""
    own = _own(w, s)
    return _share(own + added[s], r) - _share(own, r)


@_parallel
def _intervals(
    logits: Any, bias: Any, count: Any, voted: Any, masses: Any, odds: Any, symbols: Any, coded: Any, start: Any, freq: Any,
    expected: Any, shift: Any, own: Any, vote: Any,
) -> None:  # fmt: skip
    n, vocab = logits.shape
    parts = expected.shape[0]
    for part in nb.prange(parts):
        w, added = np.empty(vocab, _U32), np.zeros(symbols, np.int64)
        for i in range(part * n // parts, (part + 1) * n // parts):
            total, best = _weigh(logits[i], bias, w)
            _expect(w, _ratio(total, symbols), shift, expected[part])
            v = voted[i, : count[i]]
            if count[i]:
                total += _vote(v, masses[i, : count[i]], odds[i], total, added)
            r = _ratio(total, symbols)
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
            own[i], vote[i] = _own(w, s), added[s]
            start[i] = below + (missing if best < s else 0)
            freq[i] = 1 + _share(own[i] + vote[i], r) + (missing if best == s else 0)
            for k in range(v.shape[0]):
                added[v[k]] = 0


@_parallel
def _find(
    logits: Any, bias: Any, count: Any, voted: Any, masses: Any, odds: Any, symbols: Any, targets: Any, found: Any, start: Any, freq: Any,
    expected: Any, shift: Any, own: Any, vote: Any,
) -> None:  # fmt: skip
    n, vocab = logits.shape
    parts = expected.shape[0]
    for part in nb.prange(parts):
        w, added, raised = np.empty(vocab, _U32), np.zeros(symbols, np.int64), np.zeros(symbols // _BLOCK + 1, np.int64)
        for i in range(part * n // parts, (part + 1) * n // parts):
            total, best = _weigh(logits[i], bias, w)
            _expect(w, _ratio(total, symbols), shift, expected[part])
            v = voted[i, : count[i]]
            if count[i]:
                total += _vote(v, masses[i, : count[i]], odds[i], total, added)
            r = _ratio(total, symbols)
            used = _sum(w, r) + symbols
            for k in range(v.shape[0]):
                more = _raised(w, added, r, v[k])
                used += more
                raised[v[k] // _BLOCK] += more
            missing = TOTAL - used
            raised[best // _BLOCK] += missing
            target = targets[i]
            low = np.int64(0)
            at = 0
            while True:  # by blocks, then by symbols
                end = min(at + _BLOCK, symbols)
                width = _sum(w[min(at, vocab) : min(end, vocab)], r) + (end - at) + raised[at // _BLOCK]
                if target < low + width or end == symbols:
                    break
                low += width
                at = end
            while True:
                mine = 1 + _share(_own(w, at) + added[at], r) + (missing if at == best else 0)
                if target < low + mine or at == symbols - 1:
                    break
                low += mine
                at += 1
            found[i], start[i], freq[i] = at, low, mine
            own[i], vote[i] = _own(w, at), added[at]
            raised[best // _BLOCK] = 0
            for k in range(v.shape[0]):
                added[v[k]] = 0
                raised[v[k] // _BLOCK] = 0


def intervals(
    logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int, coded: NDArray[np.int32], lessons: Lessons
) -> tuple[Integers, Integers]:
    """Cumulative frequency below, and frequency of, the symbol `coded` [n] in each row; as many threads as `lessons` has parts."""
    n = len(coded)
    start, freq = np.empty(n, np.int64), np.empty(n, np.int64)
    lessons.own, lessons.voted = np.empty(n, np.int64), np.empty(n, np.int64)
    given = (votes.count, votes.symbols, votes.masses, votes.odds)
    _intervals(logits, bias, *given, symbols, coded, start, freq, lessons.expected, lessons.shift, lessons.own, lessons.voted)
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
    _find(logits, bias, *given, symbols, targets, found, start, freq, lessons.expected, lessons.shift, lessons.own, lessons.voted)
    return found, start, freq
