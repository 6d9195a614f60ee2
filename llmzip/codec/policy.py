"""Whether the model codes a block. What is decided here shapes the archive's bytes."""

from __future__ import annotations

from enum import Enum


class Policy(Enum):
    """How an encoder decides whether the model codes a block.

    Attributes:
        SMALLEST: the model codes a block if that is smaller, and is tried only where that is likely.
        MODEL: the model codes every block. For tests, and for archives that show every part of the format.
        PLAIN: no block is coded by a model.
    """

    SMALLEST = "smallest"
    MODEL = "model"
    PLAIN = "plain"
