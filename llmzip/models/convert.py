"""Float weights to the integer model the engine runs.

Norm gains are folded into the matrices that follow, the residual stream is rotated (see `rotate`), and every matrix is
rounded to int8 with one scale per output row. Values get 14 bits, as two int8 matrices, VALUE_BASE * high + low:
rounding them to 8 bits costs as much as all the other matrices together (the tokens that attention rests on have small
values by cancellation of large terms), and they are few. All of it is element-wise float32, so that conversion gives the same
integers on every machine. Layout of the result, by name:

    embed           int16 [vocab, width]      embed.scale      float32 [vocab]
    head            int8  [vocab, width]      head.scale       float32 [vocab]    (logits in units of log2)
    {i}.qkv         int8  [q+3kv, width]      {i}.qkv.scale    float32 [q+2kv]    (rows: queries, keys, values twice)
    {i}.o           int8  [width, q]          {i}.o.scale      float32 [width]
    {i}.gate_up     int8  [2 ffn, width]      {i}.gate_up.scale
    {i}.down        int8  [width, ffn]        {i}.down.scale   float32 [width]
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmzip.errors import ModelFormatError
from llmzip.models.config import LlamaConfig
from llmzip.models.float_model import Float, FloatModel
from llmzip.models.rotate import block_size, hadamard
from llmzip.models.tokenizer import TokenizerSpec

LOG2_E = np.float32(1.4426950408889634)
TEMPERATURE = np.float32(0.985)  # logits are scaled by it: rounding makes the model a little too sure of itself
SMALLEST = np.float32(2.0**-40)  # rows of zeros get this scale: far from denormals, far below any weight
LARGEST = np.float32(16.0)  # scale: below it no sum or product of the engine overflows, whatever the integers
VALUE_BASE = 128  # weight of the high part of a value matrix
MATRICES = ("qkv", "o", "gate_up", "down")


@dataclass(frozen=True)
class IntegerModel:
    """What the engine runs: `tensors` in the layout above, as numpy arrays."""

    config: LlamaConfig
    tokenizer: TokenizerSpec
    tensors: dict[str, NDArray[Any]]

    def digest(self) -> bytes:
        """`weights_digest`, computed once."""
        return self._digest

    @cached_property
    def _digest(self) -> bytes:
        return weights_digest(self.config, self.tensors)

    def check_scales(self) -> None:
        """Raises ModelFormatError unless all scales are positive and at most LARGEST."""
        for name, scale in self.tensors.items():
            if name.endswith(".scale") and not ((scale > 0) & (scale <= LARGEST)).all():
                raise ModelFormatError(
                    f"the scales of {name.removesuffix('.scale')} are out of range; the file is damaged or not a Llama model"
                )


def weights_digest(config: LlamaConfig, tensors: dict[str, NDArray[Any]]) -> bytes:
    """SHA-256 over the configuration and every tensor's name, type, shape and little-endian bytes, in order."""
    h = hashlib.sha256(json.dumps(config.as_dict(), sort_keys=True).encode())
    for name in tensor_names(config):
        t = tensors[name]
        h.update(f"{name} {t.dtype.str.lstrip('<|')} {list(t.shape)}\n".encode())
        h.update(np.ascontiguousarray(t).view(np.uint8).data if t.ndim else t.tobytes())
    return h.digest()


def tensor_names(config: LlamaConfig) -> list[str]:
    """Names of all tensors, in the order of the digest."""
    matrices = ["embed", "head", *(f"{i}.{part}" for i in range(config.layers) for part in MATRICES)]
    return [n for m in matrices for n in (m, f"{m}.scale")]


def tensor_layout(config: LlamaConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of every tensor, in the order of the digest."""
    q, kv, d, ffn = config.query_width, config.kv_width, config.width, config.ffn
    rows = {"qkv": (q + 3 * kv, d), "o": (d, q), "gate_up": (2 * ffn, d), "down": (d, ffn)}
    layout: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name in tensor_names(config)[::2]:
        shape = rows.get(name.rpartition(".")[2], (config.vocab, d))
        layout[name] = ("int16" if name == "embed" else "int8", shape)
        layout[f"{name}.scale"] = ("float32", (q + 2 * kv if name.endswith(".qkv") else shape[0],))
    return layout


def quantise_rows(weights: Float, top: int) -> tuple[Float, Float]:
    """Rounds each row to integers in [-top, top]: (integers as float32 [n, k], float32 scales [n])."""
    scale = np.maximum(np.abs(weights).max(axis=1) / np.float32(top), SMALLEST)
    return np.clip(np.rint(weights / scale[:, None]), -top, top), scale


@np.errstate(over="ignore", invalid="ignore")  # values too large are found at the end
def convert(model: FloatModel, progress: Callable[[int, int], None] | None = None) -> IntegerModel:
    """Converts `model`; `progress(done, total)` is called after each layer.

    Raises:
        ModelFormatError: a tensor is missing, of another shape, or holds values that are too large.
    """
    c = model.config
    stream, head, ffn = block_size(c.width), block_size(c.head_dim), block_size(c.ffn)
    tensors: dict[str, NDArray[Any]] = {}

    def put(name: str, weights: Float, kind: type[np.signedinteger[Any]] = np.int8) -> None:
        rounded, tensors[f"{name}.scale"] = quantise_rows(weights, int(np.iinfo(kind).max))
        tensors[name] = rounded.astype(kind)

    def reads(gain: Float, *parts: Float) -> Float:
        """Rows that read the normed residual stream: gain folded in, input rotated."""
        return np.concatenate([hadamard(p * gain, stream) for p in parts])

    def writes(weights: Float) -> Float:
        """Columns that write to the residual stream: output rotated."""
        return np.ascontiguousarray(hadamard(np.ascontiguousarray(weights.T), stream).T)

    put("embed", hadamard(model.tensor("embed"), stream), np.int16)
    put("head", reads(model.tensor("norm"), model.tensor("head")))
    tensors["head.scale"] = tensors["head.scale"] * (LOG2_E * TEMPERATURE)
    for i in range(c.layers):
        q, k, v, o, gate, up, down = (model.tensor(f"{i}.{n}") for n in ("q", "k", "v", "o", "gate", "up", "down"))
        v = np.ascontiguousarray(hadamard(np.ascontiguousarray(v.T), head).T)  # each value head's output is rotated ...
        put(f"{i}.o", writes(hadamard(o, head)))  # ... and undone where it is read
        gain = model.tensor(f"{i}.attn_norm")
        qk, qk_scale = quantise_rows(reads(gain, q, k), 127)
        values, v_scale = quantise_rows(reads(gain, v), 127 * VALUE_BASE)
        high = np.rint(values / np.float32(VALUE_BASE))
        tensors[f"{i}.qkv"] = np.concatenate([qk, high, values - VALUE_BASE * high]).astype(np.int8)
        tensors[f"{i}.qkv.scale"] = np.concatenate([qk_scale, v_scale])
        put(f"{i}.gate_up", reads(model.tensor(f"{i}.ffn_norm"), gate, up))
        put(f"{i}.down", writes(hadamard(down, ffn)))
        if progress:
            progress(i + 1, c.layers)
    made = IntegerModel(c, model.tokenizer, tensors)
    made.check_scales()
    return made
