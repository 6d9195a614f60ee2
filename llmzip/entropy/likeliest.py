"""The likeliest symbols of each row, with exactly the frequencies that the coder gives them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmzip.entropy.frequencies import Logits, Votes
from llmzip.entropy.kernels import likeliest as kernels


def likeliest(
    logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int, most: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The `most` symbols of largest frequency, int32 [n, most], largest first, and their frequencies, int64 [n, most].

    They are those of `frequencies.frequencies`; of equally frequent symbols the first comes first.
    """
    found, freq = np.zeros((len(logits), most), np.int32), np.zeros((len(logits), most), np.int64)
    kernels.likeliest(logits, bias, votes, symbols, found, freq)
    return found, freq
