"""Logits to integer frequencies: every symbol at least 1, the total exactly 2^TOTAL_BITS.

Floats end here. A row of logits y (in log2 units) becomes weights w = 2^(y - max) as integers up to 2^30, by a straight
line between powers of two; symbols beyond the logits (raw bytes) have weight 0. With W the sum of the weights, V the
number of symbols and r = floor((2^TOTAL_BITS - V) * 2^SHIFT / W),

    frequency = 1 + floor(w * r / 2^SHIFT),

and what is missing from the total goes to the first symbol of largest logit. The functions in numpy are the
definition; the numba kernels must equal them.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

TOTAL_BITS = 28
WEIGHT_BITS = 30
SHIFT = 33
_FLOOR = np.float32(-40.0)  # of y - max: far below the smallest weight that is not 0
_LINE = np.float32(2.0**23)
_BIAS = np.int32((127 + WEIGHT_BITS) << 23)

Logits = NDArray[np.float32]  # [n, vocab]
Integers = NDArray[np.int64]  # [n]


def frequencies(logits: Logits, symbols: int) -> NDArray[np.int64]:
    """Frequencies int64 [n, symbols], each >= 1, each row summing to 2^TOTAL_BITS. The reference."""
    z = np.maximum(logits - logits.max(axis=1, keepdims=True), _FLOOR)
    line = (z * _LINE).astype(np.int32) + _BIAS
    weights = line.view(np.float32).astype(np.int64)
    total = weights.sum(axis=1, keepdims=True)
    r = (((1 << TOTAL_BITS) - symbols) << SHIFT) // total
    out = np.ones((len(logits), symbols), dtype=np.int64)
    out[:, : logits.shape[1]] += (weights * r) >> SHIFT
    rows = np.arange(len(logits))
    out[rows, logits.argmax(axis=1)] += (1 << TOTAL_BITS) - out.sum(axis=1)
    return out


def intervals_reference(logits: Logits, symbols: int, coded: NDArray[np.int32]) -> tuple[Integers, Integers]:
    """Cumulative frequency below, and frequency of, the symbol `coded` [n] in each row."""
    f = frequencies(logits, symbols)
    rows = np.arange(len(f))
    return f.cumsum(axis=1)[rows, coded] - f[rows, coded], f[rows, coded]


def find_reference(logits: Logits, symbols: int, targets: Integers) -> tuple[NDArray[np.int32], Integers, Integers]:
    """The symbol whose interval holds `targets` [n] in each row, its cumulative frequency and its frequency."""
    f = frequencies(logits, symbols)
    cumulative = f.cumsum(axis=1)
    found = (cumulative <= targets[:, None]).sum(axis=1)
    rows = np.arange(len(f))
    return found.astype(np.int32), cumulative[rows, found] - f[rows, found], f[rows, found]


_jit = nb.njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
_BLOCK = 256
_U32, _U64 = np.uint32, np.uint64
_SHIFT64 = np.uint64(SHIFT)


@_jit
def _weigh(logits: Any, symbols: Any, w: Any) -> Any:
    """Weights uint32 [vocab] of one row into w; returns (r, index of the largest logit, what is missing there)."""
    n = logits.shape[0]
    top = logits[0]
    for j in range(n):
        top = max(top, logits[j])
    best = 0
    while logits[best] != top:
        best += 1
    line = w.view(np.int32)
    as_float = w.view(np.float32)
    for j in range(n):
        line[j] = np.int32(max(logits[j] - top, _FLOOR) * _LINE) + _BIAS
    total = _U64(0)
    for j in range(n):
        v = _U32(np.int32(as_float[j]))
        w[j] = v
        total += _U64(v)
    r = _U64((_U64((1 << TOTAL_BITS) - symbols) << _SHIFT64) // total)
    used = _U64(0)
    for j in range(n):
        used += (_U64(w[j]) * r) >> _SHIFT64
    return r, best, np.int64(1 << TOTAL_BITS) - np.int64(used) - symbols


@nb.njit(cache=True, nogil=True, parallel=True)
def _intervals(logits: Any, symbols: Any, coded: Any, start: Any, freq: Any, parts: Any) -> None:
    n, vocab = logits.shape
    for part in nb.prange(parts):
        w = np.empty(vocab, _U32)
        for i in range(part * n // parts, (part + 1) * n // parts):
            r, best, missing = _weigh(logits[i], symbols, w)
            s = coded[i]
            below = _U64(0)
            for j in range(min(s, vocab)):
                below += (_U64(w[j]) * r) >> _SHIFT64
            start[i] = np.int64(below) + s + (missing if best < s else 0)
            own = np.int64((_U64(w[s]) * r) >> _SHIFT64) if s < vocab else 0
            freq[i] = 1 + own + (missing if best == s else 0)


@nb.njit(cache=True, nogil=True, parallel=True)
def _find(logits: Any, symbols: Any, targets: Any, found: Any, start: Any, freq: Any, parts: Any) -> None:
    n, vocab = logits.shape
    for part in nb.prange(parts):
        w = np.empty(vocab, _U32)
        for i in range(part * n // parts, (part + 1) * n // parts):
            r, best, missing = _weigh(logits[i], symbols, w)
            target = targets[i]
            low = np.int64(0)
            at = 0
            while True:  # by blocks, then by symbols
                end = min(at + _BLOCK, symbols)
                below = _U64(0)
                for j in range(at, min(end, vocab)):
                    below += (_U64(w[j]) * r) >> _SHIFT64
                width = np.int64(below) + (end - at) + (missing if at <= best < end else 0)
                if target < low + width or end == symbols:
                    break
                low += width
                at = end
            while True:
                own = np.int64((_U64(w[at]) * r) >> _SHIFT64) if at < vocab else np.int64(0)
                own += 1 + (missing if at == best else 0)
                if target < low + own or at == symbols - 1:
                    break
                low += own
                at += 1
            found[i], start[i], freq[i] = at, low, own


def intervals(logits: Logits, symbols: int, coded: NDArray[np.int32], threads: int = 1) -> tuple[Integers, Integers]:
    """`intervals_reference`, fast."""
    start, freq = np.empty(len(coded), np.int64), np.empty(len(coded), np.int64)
    _intervals(logits, symbols, coded, start, freq, threads)
    return start, freq


def find(logits: Logits, symbols: int, targets: Integers, threads: int = 1) -> tuple[NDArray[np.int32], Integers, Integers]:
    """`find_reference`, fast."""
    found = np.empty(len(targets), np.int32)
    start, freq = np.empty(len(targets), np.int64), np.empty(len(targets), np.int64)
    _find(logits, symbols, targets, found, start, freq, threads)
    return found, start, freq
