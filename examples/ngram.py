"""A predictor for `llmzip measure --predictor examples/ngram.py:NGram`: bytes by counts of what followed the last 1 to 5 bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ORDERS = (5, 4, 3, 2, 1, 0)  # bytes of context


class NGram:
    """Predicts each byte from the bytes before it, and learns from every byte that it sees."""

    def __init__(self) -> None:
        self._counts: dict[bytes, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self._seen = b""

    def encode(self, content: bytes) -> Sequence[int]:
        """A symbol a byte."""
        return content

    def decode(self, symbols: Sequence[int]) -> bytes:
        """The bytes."""
        return bytes(symbols)

    def predict(self) -> NDArray[np.float64]:
        """Logits: longer contexts share what is likely among what followed them, and leave the rest to shorter ones (PPM's method C)."""
        share, chances = 1.0, np.full(256, 0.0)
        for order in ORDERS:
            if followed := self._counts.get(self._context(order)):
                kinds, total = len(followed), sum(followed.values())
                for byte, count in followed.items():
                    chances[byte] += share * count / (total + kinds)
                share *= kinds / (total + kinds)
        return np.log(chances + share / 256)

    def see(self, symbol: int) -> None:
        """Count the byte in all its contexts."""
        for order in ORDERS:
            self._counts[self._context(order)][symbol] += 1
        self._seen = (self._seen + bytes([symbol]))[-max(ORDERS) :]

    def _context(self, order: int) -> bytes:
        return bytes([order]) + self._seen[len(self._seen) - order :] if len(self._seen) >= order else b"none"
