"""The frozen transformer in torch: the definition of every coded bit, and what computes on a GPU.

It runs one operation after another. On processors `compiled` does the same, all in one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmzip.engine.corrections import Corrections
from llmzip.engine.corrector import Corrector, NoCorrector
from llmzip.engine.gemm import Gemm
from llmzip.engine.hidden import Hidden
from llmzip.engine.kernels.arguments import Table
from llmzip.engine.needs import needed
from llmzip.engine.reference import Added, unit_scale
from llmzip.engine.tensor_cache import TensorCache
from llmzip.engine.torch_ops import HeadScales, TorchOps, TurnTables
from llmzip.engine.vectors import layer_vectors
from llmzip.models.config import ModelConfig
from llmzip.models.convert import MATRICES, IntegerModel
from llmzip.parameters import AttentionSpan
from llmzip.system import memory


@dataclass(frozen=True)
class Matrix:
    """Weights in the kernel's layout, and their scale per output, float32 [n]."""

    weights: Any  # what `Gemm.prepare` made of int8 [n, k]
    scale: Tensor


@dataclass(frozen=True)
class Layer:
    """The matrices of a layer and, where it has them, gains, of what attention and feed-forward read and of what they give, and biases."""

    read_attention: Tensor | None
    qkv: Matrix
    heads: HeadScales
    o: Matrix
    o_gain: Tensor | None
    read_ffn: Tensor | None
    gate_up: Matrix
    down: Matrix
    down_gain: Tensor | None
    o_bias: Tensor | None
    gate_up_bias: Tensor | None
    down_bias: Tensor | None


class Transformer:
    """The weights on a device, with a kernel for the products.

    Args:
        model: integer weights.
        gemm: a matrix product that passed the probe on this device.
        device: where to compute.
        threads: CPU threads its caller may use as well.
    """

    def __init__(self, model: IntegerModel, gemm: Gemm, device: torch.device, threads: int = 1) -> None:
        self.config: ModelConfig = model.config
        self.threads, self.gemm, self.device, self.ops = threads, gemm, device, TorchOps(model.config)
        self.name = f"torch on {device.type}, {gemm.name} products"
        self.model = model
        self.embed, self.embed_scale = self._tensor("embed"), self._tensor("embed.scale")

    def _tensor(self, name: str) -> Tensor:
        return torch.tensor(self.model.tensors[name], device=self.device)  # a copy: torch warns of arrays that cannot be written

    def _matrix(self, name: str) -> Matrix:
        return Matrix(self.gemm.prepare(self._tensor(name)), self._tensor(f"{name}.scale"))

    @cached_property
    def _head(self) -> Matrix:
        return self._matrix("head")

    @cached_property
    def _layers(self) -> list[Layer]:
        return [self._layer(i) for i in range(self.config.layers)]

    def _layer(self, i: int) -> Layer:
        qkv, o, gate_up, down = (self._matrix(f"{i}.{part}") for part in MATRICES)
        bias, q_gain, k_gain, read_attention, o_gain, read_ffn, *others = map(self._vector, layer_vectors(self.model, i))
        return Layer(read_attention, qkv, HeadScales(qkv.scale, bias, q_gain, k_gain), o, o_gain, read_ffn, gate_up, down, *others)

    def _vector(self, values: NDArray[Any] | None) -> Tensor | None:
        return None if values is None else torch.tensor(values, device=self.device)

    def cache(self, lanes: int, span: AttentionSpan, steps: int, chunk: int, kept: int = 0) -> TensorCache:
        """See `engine.Engine.cache`."""
        return TensorCache(self.config, lanes, span, steps, chunk, kept, self.device)

    def memory(self, lanes: int, span: AttentionSpan, steps: int, chunk: int, kept: int = 0) -> tuple[int, int | None]:
        """See `engine.Engine.memory`."""
        free = int(torch.cuda.mem_get_info(self.device)[0]) if self.device.type == "cuda" else memory.available()
        return needed(self.config, lanes, span, steps, chunk, kept), free

    @torch.inference_mode()
    def advance(self, tokens: NDArray[np.int32], cache: TensorCache, corrections: Corrections | None = None) -> Hidden:
        """See `engine.Engine.advance`."""
        lanes, t = tokens.shape
        slot = cache.make_room(t)
        here, pinned = cache.rotations(t)
        turns = TurnTables(torch.from_numpy(here).to(self.device), torch.from_numpy(pinned).to(self.device))
        corrector = Corrector(corrections, cache.position, here, lanes, self.device) if corrections else NoCorrector()
        index = torch.from_numpy(tokens.reshape(-1).astype(np.int64)).to(self.device)
        x = self.embed[index].float() * self.embed_scale[index][:, None]
        hidden = self._run_layers(x, turns, cache, slot, corrector)
        cache.position += t
        return hidden

    def _run_layers(self, x: Tensor, turns: TurnTables, cache: TensorCache, slot: Table, by: NoCorrector) -> Hidden:
        ops, added = self.ops, None
        for i, layer in enumerate(self._layers):
            q, row = ops.add_norm_quantise(x, added, layer.read_attention, note=partial(by.note, "attention_x", i))
            acc = self.gemm.multiply(q, layer.qkv.weights)
            by.correct_values(i, q, row, acc)
            q, row, top, total = ops.attend(acc, layer.heads, row, turns, cache, i, slot)
            acc = self.gemm.multiply(q, layer.o.weights)
            by.note_attention(i, q, row, top, total, acc)
            added = Added(acc, layer.o.scale, row, layer.o_gain, layer.o_bias)
            q, row = ops.add_norm_quantise(x, added, layer.read_ffn, self.config.parallel, partial(by.note, "ffn_x", i))
            acc = self.gemm.multiply(q, layer.gate_up.weights)
            by.correct_gate_up(i, q, row, acc)
            q, row = ops.activate_rotate_quantise(acc, layer.gate_up.scale, row, layer.gate_up_bias)
            acc = self.gemm.multiply(q, layer.down.weights)
            by.correct_down(i, q, row, acc)
            added = Added(acc, layer.down.scale, row, layer.down_gain, layer.down_bias)
        q, row = ops.add_norm_quantise(x, added, self._vector(self.model.tensors.get("head.norm")), note=by.note_head)
        return Hidden(q, row, unit_scale(q) if self.config.plain_stream else row)

    @torch.inference_mode()
    def logits(self, hidden: Hidden, room: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Logits in units of log2, float32 [n, vocab].

        Args:
            room: float32 [n or more, vocab], which the result may be written into.
        """
        acc = self.gemm.multiply(hidden.q, self._head.weights)
        values = self.ops.scale_logits(acc, self._head.scale, hidden.scale).cpu().numpy()
        logits: NDArray[np.float32] = values if room is None else room[: len(values)]
        if room is not None:
            logits[:] = values
        bias = self.model.tensors.get("head.bias")
        if bias is not None:
            logits += bias
        return logits
