"""Logits, and what was learned on top of them, to integer frequencies. Each symbol has at least 1, and the total is exactly TOTAL.

Floats end here. A row of logits y (in log2 units) plus the bias b of each token becomes weights w = 2^(y + b - max) as integers up
to 2^30, by a straight line between powers of two; symbols beyond the logits (raw bytes) have weight 0. Votes are a second
opinion on a few symbols. The votes of a row are scaled so that together they weigh `odds` times as much as the logits, and are added. With W the
sum of all weights, V the number of symbols and r = floor((TOTAL - V) * 2^SHIFT / W),

    frequency = 1 + floor(w * r / 2^SHIFT),

and the first symbol of largest y + b gets what is missing from the total. The functions here are the definition;
`compiled_frequencies` computes the same without making whole rows of frequencies.

TOTAL is a little less than 2^TOTAL_BITS, by which the range coder divides its interval: GUARD of the parts belong to no symbol. An encoder
never uses them. A decoder that is out of step hits them sooner or later, and so notices (Boyd, Cleary, Irvine, Rinsma-Melchert and Witten,
"Integrating error detection into arithmetic coding", 1997).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmzip.entropy import exponential

TOTAL_BITS = 28
GUARD = 1 << 16  # a decoder out of step hits it every 4,096 symbols on average; it costs 0.00035 bits a symbol
TOTAL = (1 << TOTAL_BITS) - GUARD
WEIGHT_BITS = 30
SHIFT = 33
DRAWS = 32  # tokens drawn for each row, where the model learns
DRAW_BITS = 6  # places that the first drawn token may be at
GOLDEN = 40503  # the golden ratio, less 1, in units of 2^-16
FLOOR = np.float32(-40.0)  # of y - max: far below the smallest weight that is not 0
OFFSET = exponential.offset(WEIGHT_BITS)

Logits = NDArray[np.float32]  # [n, vocab]
Integers = NDArray[np.int64]  # [n]


class Votes(NamedTuple):
    """Votes for a few symbols in each of n rows. Kernels take it as it is.

    Attributes:
        counts: number of symbols with votes, int64 [n]; may be 0.
        symbols: int32 [n, largest count or more]; the first `counts` of each row are distinct.
        masses: mass of each, int64 [n, largest count or more], from 1 to 2^38.
        odds: weight of all votes of a row relative to its logits, float32 [n], at most MOST_ODDS.
    """

    counts: Integers
    symbols: NDArray[np.int32]
    masses: NDArray[np.int64]
    odds: NDArray[np.float32]


MOST_ODDS = 255.0  # keeps sums of weights below 2^63, for vocabularies up to 2^24


def no_votes(rows: int) -> Votes:
    """Votes for rows that have none."""
    return Votes(np.zeros(rows, np.int64), np.zeros((rows, 1), np.int32), np.zeros((rows, 1), np.int64), np.zeros(rows, np.float32))


class Gradients(NamedTuple):
    """What the coded symbols of n rows say about the adapter. `intervals` and `find` write it. Kernels take it as it is.

    Attributes:
        expected: probabilities without votes, summed over rows, int32 [threads, vocab], in units of 2^(shift - TOTAL_BITS); of size 0
            if they are not needed. The gradients of biases are these less what came.
        shift: bits dropped from each probability, so that sums fit.
        own: weight of the coded symbol of each row by logits, int64 [n].
        voted: its weight by votes, int64 [n].
        drawn: tokens of each row by the probabilities without votes, int32 [n, any]; see `draw_reference`.
        first: how many rows were coded before these.
    """

    expected: NDArray[np.int32]
    shift: int
    own: Integers
    voted: Integers
    drawn: NDArray[np.int32]
    first: int


def gradients_onto(expected: NDArray[np.int32], shift: int, rows: int, draws: int = 0, first: int = 0) -> Gradients:
    """Room for the gradients of `rows` rows, whose probabilities are added to `expected`; and for so many drawn tokens of each, `first` rows after the beginning."""
    return Gradients(expected, shift, np.empty(rows, np.int64), np.empty(rows, np.int64), np.empty((rows, draws), np.int32), first)


def no_gradients(rows: int) -> Gradients:
    """Room for rows that nothing is learned from: no probabilities are summed."""
    return gradients_onto(np.zeros((1, 0), np.int32), 0, rows)


class Scratch(NamedTuple):
    """Room that kernels work in, for one call after another of the same thread. To get it from the system each time would cost as much as they do.

    Attributes:
        w: weights of a row, uint32 [threads, vocab].
        added: weights by votes, int64 [threads, symbols]; 0 between calls.
        widths: sums of blocks of frequencies of a row, int64 [threads, blocks].
    """

    w: NDArray[np.uint32]
    added: NDArray[np.int64]
    widths: NDArray[np.int64]


BLOCK = 256  # frequencies whose sum is passed over at once


def scratch(threads: int, vocab: int, symbols: int) -> Scratch:
    """Room for so many threads."""
    return Scratch(
        np.empty((threads, vocab), np.uint32),
        np.zeros((threads, symbols), np.int64),
        np.empty((threads, symbols // BLOCK + 1), np.int64),
    )


def scratch_bytes(threads: int, vocab: int, symbols: int) -> int:
    """About how many bytes `scratch` takes."""
    return threads * (4 * vocab + 8 * symbols)


def weights(logits: Logits, bias: NDArray[np.float32], symbols: int) -> tuple[NDArray[np.int64], Integers]:
    """Weights int64 [n, symbols] of logits and bias [vocab] alone, and the first token of largest logit [n]."""
    y = logits + bias
    z = np.maximum(y - y.max(axis=1, keepdims=True), FLOOR)
    out = np.zeros((len(logits), symbols), dtype=np.int64)
    out[:, : logits.shape[1]] = exponential.power_of_two(z, WEIGHT_BITS)
    return out, y.argmax(axis=1)


def vote_weights(own: NDArray[np.int64], votes: Votes) -> NDArray[np.int64]:
    """What `votes` add to the weights `own`, int64 [n, symbols]."""
    out = np.zeros_like(own)
    for i, n in enumerate(votes.counts):
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
    """Frequencies int64 [n, symbols], each >= 1, each row summing to TOTAL."""
    w, best = weights(logits, bias, symbols)
    out = 1 + _shares(w + vote_weights(w, votes), symbols)
    out[np.arange(len(out)), best] += TOTAL - out.sum(axis=1)
    return out


def learn_reference(
    logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int, coded: NDArray[np.int32], shift: int
) -> tuple[NDArray[np.int64], Integers, Integers]:
    """`Gradients` of rows whose symbols are known: expected int64 [vocab], own [n], voted [n]."""
    w, _ = weights(logits, bias, symbols)
    rows = np.arange(len(coded))
    expected = (_shares(w, symbols)[:, : logits.shape[1]] >> shift).sum(axis=0)
    return expected, w[rows, coded], vote_weights(w, votes)[rows, coded]


def draw_reference(w: NDArray[np.int64], draws: int, first: int) -> NDArray[np.int32]:
    """Tokens at equal distances of the sum of weights w int64 [n, vocab], from low to high: int32 [n, draws].

    Row i begins at a distance of its own, a multiple of the golden ratio times `first` + i (systematic sampling, Madow and Madow 1944).
    """
    total = w.sum(axis=1)
    unit = total // (draws << DRAW_BITS)
    begin = ((np.arange(first, first + len(w), dtype=np.int64) * GOLDEN) >> (16 - DRAW_BITS)) & ((1 << DRAW_BITS) - 1)
    points = ((np.arange(draws, dtype=np.int64) << DRAW_BITS) + begin[:, None]) * unit[:, None]
    return np.stack([np.searchsorted(row.cumsum(), at, side="right") for row, at in zip(w, points, strict=True)]).astype(np.int32)


def intervals_reference(frequency: NDArray[np.int64], coded: NDArray[np.int32]) -> tuple[Integers, Integers]:
    """Cumulative frequency below, and frequency of, the symbol `coded` [n] in each row of frequencies."""
    rows = np.arange(len(frequency))
    return frequency.cumsum(axis=1)[rows, coded] - frequency[rows, coded], frequency[rows, coded]


def find_reference(frequency: NDArray[np.int64], targets: Integers) -> NDArray[np.int32]:
    """The symbol whose interval holds `targets` [n] in each row of frequencies."""
    found: NDArray[np.int32] = (frequency.cumsum(axis=1) <= targets[:, None]).sum(axis=1).astype(np.int32)
    return found
