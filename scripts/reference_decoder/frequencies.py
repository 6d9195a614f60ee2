"""Section 6.5: from logits to frequencies."""

from dataclasses import dataclass

import numpy as np
from float32 import f32, power_of_two, trunc

T = 2**28
F = T - 2**16


@dataclass
class Coded:
    """Section 6.5: the frequencies f of all symbols, and what the adapter needs: w and a of all symbols."""

    f: np.ndarray
    w: np.ndarray
    a: np.ndarray


def frequencies(logits, biases, votes, alphabet):
    """Section 6.5. `biases` are float32 [V]; `votes` are those of section 6.8, or None."""
    y = logits + biases
    top = y.max()
    w, a = np.zeros(alphabet, np.int64), np.zeros(alphabet, np.int64)
    w[: len(y)] = power_of_two(np.maximum(y - top, f32(-40)), 157)
    if votes is not None:
        k = (votes.odds * f32(w.sum())) / f32(votes.masses.sum())
        a = trunc(f32(votes.masses) * k)
    r = ((F - alphabet) << 33) // int((w + a).sum())
    f = 1 + ((w + a) * r >> 33)
    f[int(np.argmax(y))] += F - f.sum()
    return Coded(f, w, a)
