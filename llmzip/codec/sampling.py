"""Codes a few pieces of a block, to find out whether the model should code all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from llmzip.parameters import FROZEN, Level

if TYPE_CHECKING:
    from llmzip.codec.loaded_models import LoadedModel

_PIECES, _PIECE = 4, 512  # number of pieces, and bytes of each
_WORTH = 98  # percent of what xz takes. A sample costs some 2% more than the whole block, as each piece begins without context


def pays(loaded: LoadedModel, level: Level, text: bytes, packed: int) -> bool:
    """Whether the model is likely to make a block smaller. The answer is the same on every machine: it depends on the length of a bitstream.

    Args:
        text: the text to code, at least _PIECES * _PIECE bytes.
        packed: bytes of the block without the model.
    """
    gap = len(text) // _PIECES
    starts = [n * gap + (gap - _PIECE) // 2 for n in range(_PIECES)]
    pieces = [loaded.alphabet.encode(text[start : start + _PIECE]) for start in starts]
    symbols = np.concatenate([piece[: min(map(len, pieces))] for piece in pieces])
    stream = loaded.coder(replace(loaded.record(level), adapter=FROZEN)).encode(symbols, _PIECES)
    coded = max(0, len(stream) - _PIECES)  # each lane's end takes about a byte
    size = int(loaded.alphabet.lengths()[symbols].sum())
    return 100 * coded * len(text) < _WORTH * packed * size
