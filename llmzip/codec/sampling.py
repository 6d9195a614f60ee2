"""Codes a few pieces of a block, to find out whether the model should code all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from llmzip.parameters import FROZEN, Level

if TYPE_CHECKING:
    from llmzip.codec.any_model import LoadedModel

_PIECES, _PIECE = 4, 512  # number of pieces, and bytes of each
_WORTH = 98  # percent of what xz takes. A sample costs some 2% more than the whole block, as each piece begins without context


def pays(loaded: LoadedModel, level: Level, text: bytes, packed: int) -> bool:
    """Whether the model is likely to make a block smaller. The answer is the same on every machine: it depends on the length of a bitstream.

    Args:
        text: the text to code, at least _PIECES * _PIECE bytes.
        packed: bytes of the block without the model.
    """
    coded, size = cost(loaded, level, pieces(text, _PIECE))
    return 100 * coded * len(text) < _WORTH * packed * size


def pieces(text: bytes, size: int) -> list[bytes]:
    """Pieces of `size` bytes from all over a text; the text itself if it is not longer than all of them."""
    if len(text) <= _PIECES * size:
        return [text]
    gap = len(text) // _PIECES
    starts = [n * gap + (gap - size) // 2 for n in range(_PIECES)]
    return [text[start : start + size] for start in starts]


def cost(loaded: LoadedModel, level: Level, texts: list[bytes]) -> tuple[int, int]:
    """Code some texts at once, with the model as it is. Return how many bytes that takes, and of how many bytes: the longer texts are cut short."""
    symbols = [loaded.alphabet.encode(text) for text in texts]
    same = np.concatenate([s[: min(map(len, symbols))] for s in symbols])
    stream = loaded.coder(replace(loaded.record(level), adapter=FROZEN)).encode(same, len(texts))
    coded = max(0, len(stream) - len(texts))  # each lane's end takes about a byte
    return coded, int(loaded.alphabet.lengths()[same].sum())
