"""What may watch an encoder at work. Watching takes time and changes no bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from llmzip.codec import LoadedModel
    from llmzip.container import CodedBlock
    from llmzip.frequencies import Logits, Votes


class Observer(Protocol):
    """Watches one block under one adapter."""

    def see(self, logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int, coded: NDArray[np.int32]) -> None:
        """Rows about to be coded, by step and by lane within it; the arguments are those of `frequencies.intervals`."""


class Account(Protocol):
    """Watches a codec.

    Attributes:
        thorough: whether the model is to code even blocks that are seen at once to be better off without it.
        archive: bytes of everything written, which the codec adds up.
    """

    thorough: bool
    archive: int

    def page(self) -> Any:
        """An `Observer` for a block that may not count in the end, as several ways may be tried."""

    def keep(self, page: Any, block: CodedBlock, model: LoadedModel) -> None:
        """The page of the way that was taken, what came out, and the model that coded it."""
