"""What coders use of a transformer, wherever and however it computes."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llmzip.engine.cache import KVCache
from llmzip.engine.corrections import Corrections
from llmzip.engine.hidden import Hidden
from llmzip.models.config import ModelConfig
from llmzip.models.convert import IntegerModel
from llmzip.parameters import AttentionSpan


class Engine(Protocol):
    """The frozen transformer in exact arithmetic: tokens in, logits out, the same bits on every machine.

    Attributes:
        config, model: which model.
        threads: CPU threads its caller may use as well.
        name: how it computes, for messages.
    """

    config: ModelConfig
    model: IntegerModel
    threads: int
    name: str

    def cache(self, lanes: int, span: AttentionSpan, steps: int, chunk: int, kept: int = 0) -> KVCache:
        """An empty cache for `lanes` streams of `steps` tokens, fed at most `chunk` at a time, which keeps so many positions longer than attention sees them."""
        ...

    def memory(self, lanes: int, span: AttentionSpan, steps: int, chunk: int, kept: int = 0) -> tuple[int, int | None]:
        """About how many bytes `cache` and what lies between layers would take, and how many are free; None if that is not known."""
        ...

    def advance(self, tokens: NDArray[np.int32], cache: Any, corrections: Corrections | None = None) -> Hidden:
        """Feed the next tokens of all lanes, int32 [lanes, t]; return the hidden state of each, rows in lane-major order.

        A call may have fewer lanes than the cache, which must be from this engine: the first ones. The others have ended.

        Args:
            corrections: of the matrices; what the tokens go through is noted in their trace, which must have room for the steps.
        """
        ...

    def logits(self, hidden: Hidden, room: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Logits in units of log2, float32 [n, vocab].

        Args:
            room: float32 [n or more, vocab], which the result may be written into.
        """
        ...
