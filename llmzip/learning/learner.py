"""Who learns corrections: compiled code where the engine is compiled, and the definition elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from llmzip.engine import corrections
from llmzip.engine.cache import KVCache
from llmzip.engine.corrections import Corrections
from llmzip.entropy.frequencies import DRAWS
from llmzip.parameters import CorrectionParameters

if TYPE_CHECKING:
    from llmzip.engine.engine import Engine


class Learner(Protocol):
    """Learns the corrections of a block, from one segment after another.

    Attributes:
        corrections: what is learned. The engine notes there what the rows of a segment go through.
    """

    corrections: Corrections

    def step(self, drawn: NDArray[np.int32], symbols: NDArray[np.int32]) -> None:
        """Learn from a segment, and forget its trace.

        Args:
            drawn: tokens of each row by the model's own probabilities, int32 [rows, n], rows by lane and by step within it.
            symbols: that came, int32 [rows].
        """
        ...


def memory(engine: Engine, parameters: CorrectionParameters, lanes: int) -> int:
    """About how many bytes `make` takes, and with it the rows that a step works on."""
    c, rows = engine.config, lanes * parameters.segment_steps(lanes)
    outputs = sum(corrections.outputs(c))
    weights = c.width * 2 * (c.query_width + c.kv_width) + c.ffn * c.width * (1 + len(c.ffn_parts))  # transposed
    of_row = (DRAWS + 1) * (c.width + 8) + 10 * (c.query_width + c.kv_width + 3 * c.width + len(c.ffn_parts) * c.ffn)
    learned = 8 * c.layers * parameters.rank * outputs  # squares and gradients
    return Corrections.memory(c, parameters, lanes) + c.layers * weights + learned + rows * of_row


def make(engine: Engine, parameters: CorrectionParameters, cache: KVCache, lanes: int) -> Learner:
    """A learner for a block of so many lanes, whose tokens are fed to `cache`."""
    from llmzip.engine.compiled import CompiledTransformer
    from llmzip.learning.compiled import CompiledLearner

    made = Corrections(engine.config, parameters, cache, lanes)
    if isinstance(engine, CompiledTransformer) and CompiledLearner.fits(engine.config):
        return CompiledLearner(engine, made, parameters)

    from llmzip.learning.reference import ReferenceLearner

    return ReferenceLearner(engine.model, made, parameters)
