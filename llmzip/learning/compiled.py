"""Learning by compiled code, on the weights of a `CompiledTransformer`. It equals `reference` bit for bit."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numba
import numpy as np
from numpy.typing import NDArray

from llmzip.engine import buffers
from llmzip.engine.compiled import CompiledTransformer
from llmzip.engine.corrections import Corrections
from llmzip.engine.kernels import packing
from llmzip.engine.kernels.layers import no_product
from llmzip.engine.kernels.meeting import has_failed
from llmzip.engine.kernels.tiles import MOST_INPUTS
from llmzip.learning import numerics as ln
from llmzip.learning.kernels.arguments import Given, Learned, Room, Transposed, room_for
from llmzip.learning.kernels.attention import queries_back
from llmzip.learning.kernels.layers import learn_share, learn_shares, queries_arguments
from llmzip.models.config import ModelConfig
from llmzip.models.convert import VALUE_BASE, IntegerModel
from llmzip.parameters import DOWN, GATE_UP, VALUES, CorrectionParameters
from llmzip.system.jit import address

_transposed: WeakKeyDictionary[CompiledTransformer, Transposed] = WeakKeyDictionary()


class CompiledLearner:
    """See `learner.Learner`.

    Args:
        engine: whose corrections are learned.
        corrections: of the block.
        parameters: of learning.
    """

    def __init__(self, engine: CompiledTransformer, corrections: Corrections, parameters: CorrectionParameters) -> None:
        self._engine, self.corrections = engine, corrections
        if engine not in _transposed:
            _transposed[engine] = transposed(engine.model)
        of = (corrections.values, corrections.gate_up, corrections.down)
        self._squares, self._gradients = [np.zeros_like(b) for b in of], [np.empty_like(b) for b in of]
        rates = zip((VALUES, GATE_UP, DOWN), (VALUE_BASE, 1, 1), strict=True)
        self._rates = np.array(
            [parameters.rate / ln.RATE_UNIT * unit if parameters.matrices & bit else 0.0 for bit, unit in rates], np.float32
        )
        self._head, self._scale = engine.model.tensors["head"], engine.model.tensors["head.scale"]
        self._count, self._learn, self._queries = 0, 0, 0  # steps, and addresses of code

    @staticmethod
    def fits(c: ModelConfig) -> bool:
        """Whether products with transposed weights fit the kernels."""
        return len(c.ffn_parts) * c.ffn <= MOST_INPUTS

    def step(self, drawn: NDArray[np.int32], symbols: NDArray[np.int32]) -> None:
        """See `learner.Learner`."""
        self._count += 1
        together = min(self._engine.threads, numba.get_num_threads())
        for threads in dict.fromkeys((together, 1)):
            arguments, room = self._arguments(drawn, symbols, threads)
            if not self._learn:
                self._queries, self._learn = self._queries_at(arguments, room), address(learn_share, 0, *arguments, 0, threads)
            learn_shares(self._learn, self._queries, *arguments, threads)
            if has_failed(room.meeting):
                raise MemoryError  # nothing else can fail in there
            if room.came.all():
                break
        self.corrections.at = 0

    def compile_queries(self) -> None:
        """Compile what `learn_share` calls by its address, and run nothing; another process then finds the code."""
        rows = len(self.corrections.trace.head_x)
        self._queries_at(*self._arguments(np.zeros((rows, 1), np.int32), np.zeros(rows, np.int32), 1))

    def _queries_at(self, arguments: tuple[Any, ...], room: Room) -> int:
        amx, corrections, cache, given = arguments[:4]
        return address(queries_back, *queries_arguments.py_func(amx, corrections, cache, given, 0, np.int64(0), room, 0, 1))

    def _arguments(self, drawn: NDArray[np.int32], symbols: NDArray[np.int32], threads: int) -> tuple[tuple[Any, ...], Room]:
        """Those of `learn_share` for a segment, and the room among them."""
        c, config, engine = self.corrections, self._engine.config, self._engine
        tokens = np.concatenate([drawn, np.minimum(symbols, config.vocab - 1)[:, None]], axis=1)
        scales = self._scale[tokens] * (symbols < config.vocab)[:, None].astype(np.float32)
        given = Given(self._head[tokens], scales, c.turns, c.ways, c.first)
        cache, end = c.cache.arrays(c.cache.position - c.cache.offset), int((c.cache.position - c.cache.offset).max())
        keys = min(end, c.steps + ln.REACH)
        learned = Learned._make((*self._squares, *self._gradients, self._rates, self._count))
        arrays = c.arrays(0)
        room = room_for(arrays, engine.constants, config.kv_heads, config.head_dim, keys, threads)
        return (engine.amx, arrays, cache, given, engine.weights, _transposed[engine], learned, engine.constants, room, no_product()), room


def transposed(model: IntegerModel) -> Transposed:
    """The weights of a model as gradients go through them."""
    c = model.config

    def packed(name: str, rows: slice) -> NDArray[np.uint8]:
        first = model.tensors[f"0.{name}"][rows].T
        w = buffers.zeros((c.layers, *packing.shape(*first.shape)), np.uint8)
        for i in range(c.layers):
            packing.pack_into(np.ascontiguousarray(model.tensors[f"{i}.{name}"][rows].T), w[i])
        return np.asarray(w)

    every = slice(None)
    return Transposed(
        packed("qkv", slice(c.query_width + 2 * c.kv_width)), packed("o", every), packed("gate_up", every), packed("down", every)
    )
