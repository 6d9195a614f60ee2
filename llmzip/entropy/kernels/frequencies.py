"""Kernels of `compiled_frequencies`: intervals of one symbol a row, found without making the row."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from llmzip.entropy.frequencies import BLOCK, DRAW_BITS, FLOOR, GOLDEN, OFFSET, SHIFT, TOTAL
from llmzip.entropy.kernels.blocks import LANES, holds, share_and_expect_vectors, share_vectors, weigh_vectors
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
def _first(sums: Any, top: Any) -> Any:
    """Index of the first of sums that equals top, which is one of them."""
    at = 0
    while at + BLOCK <= sums.shape[0] and not holds(sums.ctypes.data + 4 * at, BLOCK // LANES, top):
        at += BLOCK
    while sums[at] != top:
        at += 1
    return at


@_jit
def weigh(logits: Any, bias: Any, w: Any) -> Any:
    """Weights uint32 [vocab] of one row into w; returns their sum and the first token of largest logit."""
    sums = w.view(np.float32)
    top = _sums(logits, bias, sums)
    best = _first(sums, top)
    vectors = w.shape[0] // LANES
    total = weigh_vectors(w.ctypes.data, vectors, top)
    as_int = w.view(np.int32)
    for j in range(vectors * LANES, w.shape[0]):
        as_int[j] = np.int32(float_from_bits(power_pattern(max(sums[j] - top, FLOOR), OFFSET)))
        total += np.int64(w[j])
    return total, best


@_jit
def draw(w: Any, total: Any, row: Any, drawn: Any) -> None:
    """`draw_reference` of one row of weights uint32 [vocab], which sum to `total`, into drawn int32 [any]."""
    draws = drawn.shape[0]
    unit = total // (draws << DRAW_BITS)
    begin = ((row * GOLDEN) >> (16 - DRAW_BITS)) & ((1 << DRAW_BITS) - 1)
    at, below, k = 0, np.int64(0), 0
    while k < draws:
        point = ((k << DRAW_BITS) + begin) * unit
        while at + BLOCK <= w.shape[0]:
            block, width = w[at : at + BLOCK], np.int64(0)
            for j in range(BLOCK):
                width += np.int64(block[j])
            if below + width > point:
                break
            below += width
            at += BLOCK
        low, j = below, at
        while low + np.int64(w[j]) <= point:
            low += np.int64(w[j])
            j += 1
        end = low + np.int64(w[j])
        while k < draws and ((k << DRAW_BITS) + begin) * unit < end:  # one token may be drawn several times
            drawn[k] = j
            k += 1


@_jit
def ratio(total: Any, symbols: Any) -> Any:
    """r of a row: what a weight is multiplied by to be a frequency, in units of 2^-SHIFT. It fits 32 bits, as the largest weight is 2^30."""
    return _U32(_U64(_U64(TOTAL - symbols) << _SHIFT64) // _U64(total))


@_jit
def _sum_blocks(w: Any, r: Any, plain: Any, shift: Any, expected: Any, symbols: Any, widths: Any) -> Any:
    """Frequencies by weights alone, summed by blocks of BLOCK symbols, into widths; adds probabilities by `plain` to expected, if that has room. Returns the sum of all."""
    vocab, learns, used = w.shape[0], expected.shape[0] > 0, np.int64(0)
    weights, probabilities = w.ctypes.data, expected.ctypes.data
    bits = _U64(SHIFT + shift)
    for block in range((symbols + BLOCK - 1) // BLOCK):
        first, end = block * BLOCK, min((block + 1) * BLOCK, vocab)
        vectors = max(0, end - first) // LANES
        if learns:
            width = share_and_expect_vectors(weights + 4 * first, vectors, r, plain, np.int64(shift), probabilities + 4 * first)
        else:
            width = share_vectors(weights + 4 * first, vectors, r)
        for j in range(first + vectors * LANES, end):
            width += share_of(w[j], r)
            if learns:
                expected[j] += np.int32((_U64(w[j]) * _U64(plain)) >> bits)
        width += min(symbols - first, BLOCK)  # the 1 that each has
        widths[block] = width
        used += width
    return used


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
def _add_votes(votes: Any, i: Any, w: Any, added: Any, r: Any, widths: Any) -> Any:
    """Adds what votes raise in row i to the sums of blocks; returns the sum of that."""
    more = np.int64(0)
    for k in range(votes.counts[i]):
        s = votes.symbols[i, k]
        raised = _raised(w, added, r, s)
        widths[s // BLOCK] += raised
        more += raised
    return more


@_jit
def _open(
    logits: Any,
    bias: Any,
    votes: Any,
    i: Any,
    symbols: Any,
    w: Any,
    added: Any,
    widths: Any,
    expected: Any,
    shift: Any,
    drawn: Any,
    row: Any,
) -> Any:
    """A row of frequencies, as weights in w and added, and sums of blocks in widths. Its probabilities without votes are added to expected, and tokens are drawn by them.

    Returns r, the token that gets what the others leave of TOTAL, and how much that is.
    """
    total, best = weigh(logits[i], bias, w)
    if drawn.shape[1]:
        draw(w, total, row, drawn[i])
    plain = r = ratio(total, symbols)
    if votes.counts[i]:
        total += vote_weights(votes, i, total, added)
        r = ratio(total, symbols)
    used = _sum_blocks(w, r, plain, shift, expected, symbols, widths)
    used += _add_votes(votes, i, w, added, r, widths)
    missing = TOTAL - used
    widths[best // BLOCK] += missing
    return r, best, missing


@_jit
def _frequency(w: Any, added: Any, r: Any, s: Any, best: Any, missing: Any) -> Any:
    """Of symbol s in an open row."""
    return 1 + share_of(own_weight(w, s) + added[s], r) + (missing if s == best else 0)


@_parallel
def intervals(logits: Any, bias: Any, votes: Any, symbols: Any, coded: Any, start: Any, freq: Any, gradients: Any, room: Any) -> None:
    """See `compiled_frequencies.intervals`; as many threads as `gradients.expected` has parts."""
    n = logits.shape[0]
    expected, shift, own, vote, drawn, before = gradients
    parts = expected.shape[0]
    for part in nb.prange(parts):
        w, added, widths = room.w[part], room.added[part], room.widths[part]
        for i in range(part * n // parts, (part + 1) * n // parts):
            r, best, missing = _open(logits, bias, votes, i, symbols, w, added, widths, expected[part], shift, drawn, before + i)
            s = coded[i]
            low = np.int64(0)
            for block in range(s // BLOCK):
                low += widths[block]
            for j in range(s // BLOCK * BLOCK, s):
                low += _frequency(w, added, r, j, best, missing)
            start[i], freq[i] = low, _frequency(w, added, r, s, best, missing)
            own[i], vote[i] = own_weight(w, s), added[s]
            for k in range(votes.counts[i]):
                added[votes.symbols[i, k]] = 0


@_parallel
def find(
    logits: Any, bias: Any, votes: Any, symbols: Any, targets: Any, found: Any, start: Any, freq: Any, gradients: Any, room: Any
) -> None:  # fmt: skip
    """See `compiled_frequencies.find`; as many threads as `gradients.expected` has parts."""
    n = logits.shape[0]
    expected, shift, own, vote, drawn, before = gradients
    parts = expected.shape[0]
    for part in nb.prange(parts):
        w, added, widths = room.w[part], room.added[part], room.widths[part]
        for i in range(part * n // parts, (part + 1) * n // parts):
            r, best, missing = _open(logits, bias, votes, i, symbols, w, added, widths, expected[part], shift, drawn, before + i)
            target, low, at = targets[i], np.int64(0), 0
            while at + BLOCK < symbols and target >= low + widths[at // BLOCK]:
                low += widths[at // BLOCK]
                at += BLOCK
            mine = _frequency(w, added, r, at, best, missing)
            while at < symbols - 1 and target >= low + mine:
                low += mine
                at += 1
                mine = _frequency(w, added, r, at, best, missing)
            found[i], start[i], freq[i] = at, low, mine
            own[i], vote[i] = own_weight(w, at), added[at]
            for k in range(votes.counts[i]):
                added[votes.symbols[i, k]] = 0
