"""What the network has learned, and where it keeps what it predicts from, as arrays that compiled code takes together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmzip.scratch import numerics as sn

Floats = NDArray[np.float32]
Counts = NDArray[np.int32]
Words = NDArray[np.uint32]


class State(NamedTuple):
    """Of one block, after some of its bytes and bits.

    Attributes:
        slots: of each context: 16 bits of probability, 8 of history, 8 of check; uint32 [CONTEXTS, 2^bits].
        history_p, history_n: what histories mean, float32 and int32 [CONTEXTS, 256].
        direct_p, direct_n: probabilities by the last bytes themselves, [DIRECT, 2^DIRECT_BITS].
        places: where each hash was seen last, int32 [matches, 2^MATCH_BITS].
        match_at, match_length: int64 [matches]; length 0 if there is none.
        match_p, match_n: how often predicted bits come, [matches, 64].
        weights: float32 [SETS, CHOICES, PADDED]; final: of the last mixer, float32 [256, SETS].
        curves: the last correction, float32 [2, 2^CURVE_BITS, 33].
        stretched, rates: tables.
        hashes: of the contexts, uint32 [CONTEXTS]; words: hashes of the present word, the two before it and of a line's punctuation.
        lines: where the present line and the one before it begin; the latter -1 if there is none; int64 [2].
        inputs: float32 [PADDED]; at: slots in use, int64 [CONTEXTS]; chosen: int64 [SETS], with what a byte adds to such places, by_byte, int64 [4]; sums: of the sets, float32 [SETS].
        direct_at: int64 [DIRECT]; match_in: entries of match_p in use or -1, int64 [matches].
        mixed: the last mixer's probability, float32 [1]; curve_at: numbers of the two curves, and their point that learns, int64 [3].
        parts: room of a sum, float32 [COLUMNS].
    """

    slots: Words
    history_p: Floats
    history_n: Counts
    direct_p: Floats
    direct_n: Counts
    places: Counts
    match_at: NDArray[np.int64]
    match_length: NDArray[np.int64]
    match_p: Floats
    match_n: Counts
    weights: Floats
    final: Floats
    curves: Floats
    stretched: Floats
    rates: Floats
    hashes: Words
    words: Words
    lines: NDArray[np.int64]
    inputs: Floats
    at: NDArray[np.int64]
    chosen: NDArray[np.int64]
    by_byte: NDArray[np.int64]
    sums: Floats
    direct_at: NDArray[np.int64]
    match_in: NDArray[np.int64]
    mixed: Floats
    curve_at: NDArray[np.int64]
    parts: Floats


def memory(size: int) -> int:
    """Bytes that the state for a block of `size` bytes takes."""
    slots = 4 * sn.CONTEXTS << sn.slot_bits(size)
    direct = 8 * sn.DIRECT << sn.DIRECT_BITS
    return slots + direct + (4 * len(sn.MATCHES) << sn.MATCH_BITS) + (4 * 2 * 33 << sn.CURVE_BITS) + 4 * sn.SETS * sn.CHOICES * sn.PADDED


def fresh(size: int, curve: Floats) -> State:
    """The state before the first byte of a block of `size` bytes. `curve`: the probabilities of -16, -15, ... 16, float32 [33]."""
    f32, i32, i64 = np.float32, np.int32, np.int64
    c, m, s = sn.CONTEXTS, len(sn.MATCHES), sn.SETS
    return State(
        slots=np.zeros((c, 1 << sn.slot_bits(size)), np.uint32),
        history_p=np.tile(sn.first_histories(), (c, 1)), history_n=np.zeros((c, 256), i32),
        direct_p=np.full((sn.DIRECT, 1 << sn.DIRECT_BITS), 0.5, f32), direct_n=np.zeros((sn.DIRECT, 1 << sn.DIRECT_BITS), i32),
        places=np.full((m, 1 << sn.MATCH_BITS), -1, i32), match_at=np.zeros(m, i64), match_length=np.zeros(m, i64),
        match_p=np.full((m, 64), 0.5, f32), match_n=np.zeros((m, 64), i32),
        weights=np.full((s, sn.CHOICES, sn.PADDED), sn.FIRST_WEIGHT, f32), final=np.full((256, s), f32(1) / f32(s), f32),
        curves=np.tile(curve, (2, 1 << sn.CURVE_BITS, 1)), stretched=sn.stretched(), rates=sn.rates(),
        hashes=np.zeros(c, np.uint32), words=np.zeros(4, np.uint32), lines=np.array([0, -1], i64),
        inputs=np.zeros(sn.PADDED, f32), at=np.zeros(c, i64), chosen=np.zeros(s, i64), by_byte=np.zeros(4, i64), sums=np.zeros(s, f32),
        direct_at=np.zeros(sn.DIRECT, i64), match_in=np.full(m, -1, i64), mixed=np.zeros(1, f32), curve_at=np.zeros(3, i64),
        parts=np.zeros(sn.COLUMNS, f32),
    )  # fmt: skip
