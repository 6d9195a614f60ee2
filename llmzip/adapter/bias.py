"""One learned bias for each token of the vocabulary: which words this document uses, and which it does not.

The gradient of the cost with respect to a token's bias is the probability that the token was given, minus 1 if the token came; an integer here.
A bias moves against the gradient, at a pace that falls with the gradients seen so far. This is AdaGrad (Duchi, Hazan and Singer 2011) with
magnitudes in place of squares, which needs no root. With g the gradient of a round,

    seen = seen + |g|,   bias = bias - (g * rate) / (seen + prior)

and each operation is rounded on its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmzip.adapter.kernels import bias as kernels
from llmzip.entropy.frequencies import TOTAL_BITS, Gradients, gradients_onto
from llmzip.parameters import BiasParameters

_f32 = np.float32


class VocabularyBias:
    """Biases of `vocab` tokens. Without parameters they stay 0.

    Args:
        rows: most symbols of a round.
        threads: number of parts in which gradients are collected.

    Attributes:
        values: float32 [vocab], in units of log2.
    """

    def __init__(self, parameters: BiasParameters | None, vocab: int, rows: int, threads: int) -> None:
        self.values = np.zeros(vocab, _f32)
        self.learns = parameters is not None
        self.shift = max(0, (rows - 1).bit_length() - 3)  # so that sums over a round stay below 2^31
        self.expected = np.zeros((threads, vocab if self.learns else 0), np.int32)
        if parameters:
            self._rate, self._prior = _f32(parameters.rate / 16), _f32(parameters.prior)
            self._seen = np.zeros(vocab, _f32)

    def gradients(self, rows: int, draws: int = 0, first: int = 0) -> Gradients:
        """Where the next rows leave their gradients; draws and first: as in `gradients_onto`."""
        return gradients_onto(self.expected, self.shift, rows, draws, first)

    def note(self, symbols: NDArray[np.int32]) -> None:
        """Take symbols that were coded, int32 [n]. Raw bytes have no bias."""
        if self.learns:
            came = symbols[symbols < len(self.values)]
            np.subtract.at(self.expected[0], came, np.int32(1 << (TOTAL_BITS - self.shift)))

    def update(self) -> None:
        """End a round."""
        if self.learns:
            unit = _f32(2.0 ** (self.shift - TOTAL_BITS))
            kernels.update(self.expected, unit, self._rate, self._prior, self._seen, self.values)


def update_reference(gradient: NDArray[np.int64], shift: int, p: BiasParameters, seen: Any, values: Any) -> None:
    """The definition of a round's update: gradient int64 [vocab] in units of 2^(shift - TOTAL_BITS)."""
    g = gradient.astype(_f32) * _f32(2.0 ** (shift - TOTAL_BITS))
    seen += np.abs(g)
    values -= (g * _f32(p.rate / 16)) / (seen + _f32(p.prior))
