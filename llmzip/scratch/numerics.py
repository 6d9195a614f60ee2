"""Constants of the network and the tables it reads. Changing any of them changes coded bits, so it needs another model ID."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

ORDERS = (1, 2, 3, 4, 5, 6, 7, 9, 12, 16, 24)  # bytes that the first contexts are made of
CONTEXTS = len(ORDERS) + 11
SHORT_ORDERS = 7  # contexts whose order tells the mixer how much of the last bytes was seen before
MATCHES = (5, 9, 20)  # bytes that must be the same, for each match
DIRECT = 3  # probabilities by the last 0, 1 and 2 bytes themselves
BIAS_INPUT = 0.5
INPUTS = 2 * CONTEXTS + 2 * len(MATCHES) + DIRECT + 1
COLUMNS = 16  # of sums that have an order
PADDED = (INPUTS + COLUMNS - 1) // COLUMNS * COLUMNS
SETS = 7  # sets of weights, each with a choice of its own
CHOICES = 512  # most of a set
FIRST_WEIGHT = 0.18
RATE, LAST_RATE, SLOWS = 0.014, 0.0021, 3000.0  # of the mixer's steps: at first more by RATE, which halves after SLOWS bytes
FINAL_SHARE = 0.3  # of these rates, for the last mixer
LIMIT = 15.99  # of log2(p / (1 - p))
NEAR = 0.02  # how far a curve's point moves
LEAST = 2.0**-13  # of a probability that is learned, and of its complement
COUNTED = 255  # occurrences after which a probability moves no slower
DIRECT_BITS, MATCH_BITS, CURVE_BITS = 22, 20, 16  # log2 of the sizes of tables
LEAST_BITS, MOST_BITS = 16, 22  # log2 of slots a context
LAST_LEVEL = 31  # of a match's length
LONGEST = 400  # bytes that are compared to find a match
MULTIPLIER, SPREAD, FINISH = 0x9E3779B1, 0x3D4D51CB, 0x85EBCA6B
SLOT_RATES = (40960, 25206, 18204, 14246, 11702, 9929, 8623, 6553)  # of 65536, by the bits that a slot has seen


def slot_bits(size: int) -> int:
    """log2 of the slots that each context has, for a block of `size` bytes."""
    return min(max((16 * size - 1).bit_length(), LEAST_BITS), MOST_BITS)


def stretched() -> NDArray[np.float32]:
    """log2(p / (1 - p)) of p = (i + 1/2) / 4096, to the nearest 1/4096, float32 [4096]."""
    return np.array([round(4096 * math.log2((2 * i + 1) / (8191 - 2 * i))) / 4096 for i in range(4096)], np.float32)


def rates() -> NDArray[np.float32]:
    """How far a probability moves that moved n times before, float32 [COUNTED + 1]."""
    n = np.arange(COUNTED + 1).astype(np.float32)
    return np.float32(1) / (n + np.float32(1.6))


def first_histories() -> NDArray[np.float32]:
    """What a history is taken to mean at first, float32 [256]. Its highest 1 is no bit of it; the later a bit, the more it counts."""
    p = np.full(256, 0.5, np.float32)
    share = np.float32(0.8)
    for history in range(2, 256):
        ones, all_, weight = np.float32(0.4), share, np.float32(1)
        for place in range(history.bit_length() - 1):
            if history >> place & 1:
                ones = ones + weight
            all_ = all_ + weight
            weight = weight * share
        p[history] = ones / all_
    return p
