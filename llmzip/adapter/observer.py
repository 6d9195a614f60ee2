"""What may watch rows as an encoder codes them. Watching takes time and changes no bit."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmzip.entropy.frequencies import Logits, Votes


class Observer(Protocol):
    """Watches one block under one adapter."""

    def see(self, logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int, coded: NDArray[np.int32]) -> None:
        """Rows about to be coded, by step and by lane within it; the arguments are those of `frequencies.intervals`."""
