"""The frozen transformer on processors: all layers in one compiled call, and the head. It needs no torch.

Calling into Python between operations costs more than the operations when tokens are few. So the layers' weights are
stacked and one function runs through them (`kernels.layers`). Threads share the outputs of a product when rows are few, since reading
weights is then what takes time; they share the rows, and take them a few at a time through all operations so that these stay in the
fastest caches, when rows are many. Every result equals `transformer`'s bit for bit.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from llmzip.engine import buffers
from llmzip.engine.cache import KEY_BLOCK, KVCache
from llmzip.engine.corrections import CorrectionArrays, Corrections, no_corrections
from llmzip.engine.hidden import Hidden
from llmzip.engine.kernels import attention_tiles, packing
from llmzip.engine.kernels.amx import WITH, WITHOUT
from llmzip.engine.kernels.arguments import CacheArrays, Floats, LayerWeights, TurnTables, constants
from llmzip.engine.kernels.attention import attend
from llmzip.engine.kernels.layers import Work, attention_arguments, few_rows, many_rows, run_shares, work_for
from llmzip.engine.kernels.logits import head_kernel
from llmzip.engine.kernels.meeting import has_failed
from llmzip.engine.kernels.packing import pack_into
from llmzip.engine.kernels.rows import unit_rows
from llmzip.engine.kernels.simd import VECTOR, size
from llmzip.engine.kernels.tiles import MOST_INPUTS
from llmzip.engine.needs import needed
from llmzip.engine.vectors import LayerVectors, layer_vectors
from llmzip.models.config import ModelConfig
from llmzip.models.convert import MATRICES, IntegerModel
from llmzip.parameters import AttentionSpan
from llmzip.system import memory
from llmzip.system.jit import address

_log = logging.getLogger(__name__)

_ENOUGH = 3  # times in a row that threads have not come, until they are not waited for
_REST, _LONGEST_REST = 10.0, 600.0  # seconds until they are waited for again; each time twice as long


class CompiledTransformer:
    """The stacked weights of a model, of a shape that `fits`.

    Kernels get copies. They are compiled once more for arrays that cannot be written, as those of a mapped file, and it would not be that code
    which was proven.

    Args:
        model: integer weights.
        threads: CPU threads; its caller may use as many.
        amx: whether products are by AMX, which must be usable then.
    """

    def __init__(self, model: IntegerModel, threads: int, amx: bool = False) -> None:
        self.name, self.amx = "compiled, with AMX" if amx else "compiled", WITH if amx else WITHOUT
        self.model = model
        c = self.config = model.config
        self.threads, tensors = threads, model.tensors
        weights: list[Any] = []
        for part in MATRICES:
            w = buffers.zeros((c.layers, *packing.shape(*tensors[f"0.{part}"].shape)), np.uint8)
            for i in range(c.layers):
                pack_into(tensors[f"{i}.{part}"], w[i])
            weights += [w, np.stack([tensors[f"{i}.{part}.scale"] for i in range(c.layers)])]
        self.weights = LayerWeights(*weights, **_vectors(model))
        self._head = buffers.zeros(packing.shape(*tensors["head"].shape), np.uint8)
        pack_into(tensors["head"], self._head)
        self._head_scale = tensors["head.scale"].copy()
        self._embed, self._embed_scale, self._head_bias = tensors["embed"], tensors["embed.scale"], tensors.get("head.bias")
        tiles = WITH if amx and attention_tiles.fit(c.head_dim, c.heads // c.kv_heads) else WITHOUT
        self._sizes, self.constants = (tiles, size(c.head_dim // VECTOR), size(c.heads // c.kv_heads)), constants(c)
        self._no_corrections = no_corrections()
        self._layers: dict[bool, int] = {}  # addresses of the layers' code for many rows, and for few
        self._attention = 0
        self._missed, self._alone_until = 0, 0.0  # how often in a row threads have not come; until when they are not waited for

    @staticmethod
    def fits(c: ModelConfig) -> bool:
        """Whether the kernels can run a model of this shape."""
        return c.head_dim % KEY_BLOCK == 0 and max(c.width, c.ffn, c.query_width) <= MOST_INPUTS

    def cache(self, lanes: int, span: AttentionSpan, steps: int, chunk: int, kept: int = 0) -> KVCache:
        """See `engine.Engine`."""
        return KVCache(self.config, lanes, span, steps, chunk, kept)

    def memory(self, lanes: int, span: AttentionSpan, steps: int, chunk: int, kept: int = 0) -> tuple[int, int | None]:
        """See `engine.Engine`."""
        return needed(self.config, lanes, span, steps, chunk, kept), memory.available()

    def advance(self, tokens: NDArray[np.int32], cache: KVCache, corrections: Corrections | None = None) -> Hidden:
        """See `engine.Engine`."""
        t = tokens.shape[1]
        slot = cache.make_room(t)
        turns = TurnTables(*cache.rotations(t), cache.ways)
        by = corrections.arrays(corrections.begin(cache.position, turns.here)) if corrections else self._no_corrections
        index = tokens.reshape(-1)
        x = buffers.empty((len(index), self.config.width), np.float32)
        np.multiply(self._embed[index].astype(np.float32), self._embed_scale[index][:, None], out=x)
        q, scale = buffers.empty(x.shape, np.int8), np.empty(len(x), np.float32)
        self._run_layers(x, turns, cache.arrays(slot), by, q, scale)
        cache.position += t
        unit = scale
        if self.config.plain_stream:
            unit = np.empty_like(scale)
            unit_rows(q, unit)
        return Hidden(q, scale, unit)

    def _run_layers(
        self, x: Floats, turns: TurnTables, cache: CacheArrays, by: CorrectionArrays, q: NDArray[np.int8], scale: Floats
    ) -> None:  # fmt: skip
        together = min(self.threads, numba.get_num_threads()) if time.monotonic() >= self._alone_until else 1
        for threads in dict.fromkeys((together, 1)):
            work = work_for(len(x), threads, self.weights, self.constants, len(by.values) > 0)
            arguments = self._arguments(x, turns, cache, by, q, scale, work)
            few = work.acc.size > 0
            if few not in self._layers:
                layers = self._layers_at(few, arguments)
                self._attention = self._attention_at(turns, cache, by, work)
                self._layers[few] = layers
            run_shares(self._layers[few], self._attention, self.amx, *self._sizes, *arguments, threads)
            if has_failed(work.meeting):
                raise MemoryError  # nothing else can fail in there
            if work.came.all():
                self._missed = 0 if threads > 1 else self._missed
                return
            # There are no such threads, or the machine was so busy that they did not come. To wait for them each time would take long.
            self._missed += 1
            if self._missed >= _ENOUGH:
                rest = min(_LONGEST_REST, _REST * 2.0 ** (self._missed - _ENOUGH))
                self._alone_until = time.monotonic() + rest
                _log.info("threads do not run at the same time here, so one does everything for the next %.0f s", rest)

    def _attention_at(self, turns: TurnTables, cache: CacheArrays, by: CorrectionArrays, work: Work) -> int:
        of_layer = attention_arguments.py_func(self.weights, 0, turns, self.constants, cache, by, work, 0, self.threads)
        return address(attend, *self._sizes, *of_layer)

    def _layers_at(self, few: bool, arguments: tuple[Any, ...]) -> int:
        return address(few_rows if few else many_rows, (0, 0), self.amx, *arguments, 0, self.threads)

    def compile_part(self, part: str) -> None:
        """Compile the layers for "few rows" or "many rows", the "attention" or the "rest", and run nothing; another process then finds the code."""
        cache = self.cache(1, AttentionSpan(1, 0), 1, 1)
        turns, arrays = TurnTables(*cache.rotations(1), cache.ways), cache.arrays(cache.make_room(1))
        work = work_for(1, 1, self.weights, self.constants)
        x, q, scale = np.zeros((1, self.config.width), np.float32), np.zeros((1, self.config.width), np.int8), np.ones(1, np.float32)
        if part == "attention":
            self._attention_at(turns, arrays, self._no_corrections, work)
        elif part in ("few rows", "many rows"):
            self._layers_at(part == "few rows", self._arguments(x, turns, arrays, self._no_corrections, q, scale, work))
        else:
            address(head_kernel, *self._head_arguments(Hidden(q, scale, scale), np.empty((1, self.config.vocab), np.float32)))
            arguments = self._arguments(x, turns, arrays, self._no_corrections, q, scale, work)
            address(run_shares, 0, 0, self.amx, *self._sizes, *arguments, 1)
            if self.config.plain_stream:
                address(unit_rows, q, scale)

    def _arguments(
        self, x: Floats, turns: TurnTables, cache: CacheArrays, by: CorrectionArrays, q: NDArray[np.int8], scale: Floats, work: Work
    ) -> tuple[Any, ...]:
        """Those of `few_rows` and `many_rows` after the first two, but for the last two."""
        return (x, self.weights, turns, self.constants, cache, by, q, scale, work)

    def logits(self, hidden: Hidden, room: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """See `engine.Engine`."""
        n = len(hidden)
        out = buffers.empty((n, self.config.vocab), np.float32) if room is None else room[:n]
        head_kernel(*self._head_arguments(hidden, out))
        if self._head_bias is not None:
            out += self._head_bias
        return out

    def _head_arguments(self, hidden: Hidden, out: NDArray[np.float32]) -> tuple[Any, ...]:
        return self.amx, hidden.q, hidden.scale, self._head, self._head_scale, out, self.threads


def _vectors(model: IntegerModel) -> dict[str, Any]:
    """Biases and gains as `LayerWeights` has them."""
    none = np.empty(0, np.float32)
    layers = [layer_vectors(model, i) for i in range(model.config.layers)]
    stacked = {
        name: np.stack([none if v is None else v for v in column]) for name, *column in zip(LayerVectors._fields, *layers, strict=True)
    }
    return stacked | {"read_head": model.tensors.get("head.norm", none).copy()}
