"""Kernels of `compiled_range_coder`: the range coder of `range_coder` without a dozen array operations a step."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmzip.entropy.frequencies import TOTAL_BITS
from llmzip.entropy.range_coder import STATE_BITS
from llmzip.system.jit import compiled

_jit = compiled()
_MASK = (1 << STATE_BITS) - 1
_TOP = 1 << (STATE_BITS - 1)


@_jit
def _narrowed(width: Any, start: Any, freq: Any) -> Any:
    """How far the low end moves, the new width and the shift that brought it back above _TOP."""
    below = (width * start) >> TOTAL_BITS
    width = ((width * (start + freq)) >> TOTAL_BITS) - below
    shift = 0
    while width < _TOP:
        width <<= 1
        shift += 1
    return below, width, shift


@_jit
def encode(low: Any, width: Any, start: Any, freq: Any, out: Any, shifts: Any) -> None:
    """Steps [steps, lanes] of the first lanes."""
    for t in range(start.shape[0]):
        for i in range(start.shape[1]):
            below, width[i], shift = _narrowed(width[i], start[t, i], freq[t, i])
            value = low[i] + below
            out[t, i], shifts[t, i] = value >> (STATE_BITS - shift), shift
            low[i] = (value << shift) & _MASK


@_jit
def propagate(carry: Any, out: Any, shifts: Any) -> None:
    """Adds carries from the last step to the first."""
    for t in range(out.shape[0] - 1, -1, -1):
        for i in range(out.shape[1]):
            whole = out[t, i] + carry[i]
            carry[i] = whole >> shifts[t, i]
            out[t, i] = whole & ((1 << shifts[t, i]) - 1)


@_jit
def interleave(values: Any, counts: Any, lanes: Any, stream: Any) -> None:
    """Each lane's bits into `stream`, in the order of requests.

    values and counts: a lane's bits in its order, [lanes, requests]; the first request takes as many bits as the last
    entry holds, the others as many as the entry before their own, so that the reader is always one state ahead.
    """
    requests = values.shape[1]
    ready, have, at = np.zeros(lanes, np.uint64), np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
    position = 0
    for r in range(requests):
        for i in range(lanes):
            n = counts[i, r - 1] if r else STATE_BITS
            while have[i] < n:
                ready[i] = (ready[i] << np.uint64(counts[i, at[i]])) | np.uint64(values[i, at[i]])
                have[i] += counts[i, at[i]]
                at[i] += 1
            have[i] -= n
            bits = ready[i] >> np.uint64(have[i])
            ready[i] &= (np.uint64(1) << np.uint64(have[i])) - np.uint64(1)
            for b in range(n - 1, -1, -1):
                if (bits >> np.uint64(b)) & np.uint64(1):
                    stream[position >> 3] |= 128 >> (position & 7)
                position += 1


@_jit
def targets(code: Any, width: Any, out: Any) -> None:
    """See `range_coder.RangeDecoder.targets`."""
    for i in range(out.shape[0]):
        out[i] = min((((code[i] + 1) << TOTAL_BITS) - 1) // width[i], (1 << TOTAL_BITS) - 1)


@_jit
def advance(code: Any, width: Any, start: Any, freq: Any, stream: Any, position: Any, limit: Any) -> Any:
    """See `range_coder.RangeDecoder.advance`; returns the new position in the stream, in bits."""
    for i in range(start.shape[0]):
        below, width[i], shift = _narrowed(width[i], start[i], freq[i])
        at = min(position, limit)  # past the end there are only zeros
        byte = at >> 3
        window = np.int64(0)
        for j in range(5):
            window = window << 8 | stream[byte + j]
        bits = (window >> (40 - (at & 7) - shift)) & ((1 << shift) - 1)
        position += shift
        code[i] = (((code[i] - below) << shift) | bits) & _MASK  # only damage makes it longer
    return position
