"""Sections 6.6 to 6.8: what learns while decoding."""

from dataclasses import dataclass

import numpy as np
from float32 import f32, power_of_two, trunc
from frequencies import F
from predictor import product


@dataclass
class Votes:
    """Section 6.8: masses [A], integers, their odds and their bucket."""

    masses: np.ndarray
    odds: np.float32
    bucket: int


class Adapter:
    """Section 6.6: both parts and the rounds; with neither part it does nothing."""

    def __init__(self, record, lanes, vocab, width):
        learns = record.biases or record.neighbours
        self.steps = max(1, record.round // lanes) if learns else 0
        self.step, self.round = 0, []
        self.bias_part = Biases(*record.biases, self.steps * lanes, vocab) if record.biases else None
        self.neighbours = Neighbours(*record.neighbours, vocab + 256, width) if record.neighbours else None
        self.biases = self.bias_part.b if self.bias_part else np.zeros(vocab, np.float32)

    def votes(self, q, c):
        """Votes on the symbol whose vector and scale before the head are q [d] and c [1], or None."""
        return self.neighbours.votes(q, c[0]) if self.neighbours else None

    def note(self, s, coded, votes, q, c):
        """Keeps symbol s until the round ends, with what it was coded under."""
        if self.bias_part:
            self.bias_part.note(s, coded.w)
        if self.neighbours:
            self.round.append((s, int(coded.w[s]), int(coded.a[s]), votes, q, c[0]))

    def end_of_step(self):
        """After the last step of a round both parts are updated."""
        self.step += 1
        if self.steps and self.step % self.steps == 0:
            if self.bias_part:
                self.bias_part.update()
            if self.neighbours:
                self.neighbours.update(self.round)
            self.round = []


class Biases:
    """Section 6.7."""

    def __init__(self, rate, prior, symbols, vocab):
        self.rate, self.prior = f32(rate) / f32(16), f32(prior)
        self.H = next(h for h in range(64) if symbols <= 2 ** (h + 3))
        self.b, self.e = np.zeros(vocab, np.float32), np.zeros(vocab, np.float32)
        self.difference = np.zeros(vocab, np.int64)  # p(j) - n(j) * 2^(28 - H), so far

    def note(self, s, w):
        """Adds one symbol of the round to p and n."""
        r0 = ((F - len(w)) << 33) // int(w.sum())
        self.difference += (w[: len(self.b)] * r0 >> 33) >> self.H
        if s < len(self.b):
            self.difference[s] -= 2 ** (28 - self.H)

    def update(self):
        """The end of a round."""
        g = f32(self.difference) * f32(2.0 ** (self.H - 28))
        self.e += np.abs(g)
        self.b -= (g * self.rate) / (self.e + self.prior)
        self.difference[:] = 0


class Neighbours:
    """Section 6.8."""

    def __init__(self, capacity, sharpness, alphabet, width):
        self.capacity, self.alphabet = 2**capacity, alphabet
        self.scale = f32(sharpness) / f32(width)
        self.bucket_scale = f32(20) / f32(sharpness)
        self.count = 0  # symbols coded so far
        self.symbols = np.zeros(0, np.int64)
        self.vectors = np.zeros((0, width), np.float32)
        self.scales = np.zeros(0, np.float32)
        self.E, self.N = [2**14] * 16, [6] * 16

    def votes(self, q, c):
        """The votes on a symbol, or None while nothing is kept."""
        n = min(self.count, self.capacity)
        if n == 0:
            return None
        u = (f32(product(self.vectors[:n], q[None])[0]) * self.scales[:n]) * (c * self.scale)
        top = u.max()
        near = u - top > f32(-16)
        masses = np.zeros(self.alphabet, np.int64)
        np.add.at(masses, self.symbols[:n][near], power_of_two((u - top)[near], 143))
        k = int(min(max(trunc(top * self.bucket_scale) - 4, 0), 15))
        odds = min(f32(self.E[k]) / f32(self.N[k] * 2**16 - self.E[k]), f32(255))
        return Votes(masses, odds, k)

    def update(self, coded):
        """The end of a round: buckets first, then the symbols are kept."""
        for s, w, a, votes, q, c in coded:
            if votes is not None:
                self.E[votes.bucket] += int(trunc((f32(a) / f32(max(w + a, 1))) * f32(2**16)))
                self.N[votes.bucket] += 1
            self.keep(s, q, c)

    def keep(self, s, q, c):
        """Keeps one symbol, in place of the oldest if all places are taken."""
        if self.count == len(self.symbols) < self.capacity:
            more = min(max(1024, len(self.symbols)), self.capacity - len(self.symbols))
            self.symbols = np.append(self.symbols, np.zeros(more, np.int64))
            self.vectors = np.append(self.vectors, np.zeros((more, self.vectors.shape[1]), np.float32), axis=0)
            self.scales = np.append(self.scales, np.zeros(more, np.float32))
        at = self.count % self.capacity
        self.symbols[at], self.vectors[at], self.scales[at] = s, q, c
        self.count += 1
