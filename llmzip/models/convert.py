"""Float weights to the integer model the engine runs.

Norm gains are folded into the matrices that follow, the residual stream is rotated (see `rotate`), and every matrix is
rounded to int8 with one scale per output row. All of it is element-wise float32, so that conversion gives the same
integers on every machine. Layout of the result, by name:

    embed           int16 [vocab, width]      embed.scale      float32 [vocab]
    head            int8  [vocab, width]      head.scale       float32 [vocab]    (logits in units of log2)
    {i}.qkv         int8  [q+2kv, width]      {i}.qkv.scale    float32 [q+2kv]
    {i}.o           int8  [width, q]          {i}.o.scale      float32 [width]
    {i}.gate_up     int8  [2 ffn, width]      {i}.gate_up.scale
    {i}.down        int8  [width, ffn]        {i}.down.scale   float32 [width]
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmzip.models.config import LlamaConfig
from llmzip.models.rotate import block_size, hadamard
from llmzip.models.sources import Float, FloatModel
from llmzip.models.tokenizer import TokenizerSpec

LOG2_E = np.float32(1.4426950408889634)
SMALLEST = np.float32(2.0**-40)  # rows of zeros get this scale: far from denormals, far below any weight
MATRICES = ("qkv", "o", "gate_up", "down")


@dataclass(frozen=True)
class IntegerModel:
    """What the engine runs: `tensors` in the layout above, as numpy arrays."""

    config: LlamaConfig
    tokenizer: TokenizerSpec
    tensors: dict[str, NDArray[Any]]

    def digest(self) -> bytes:
        """SHA-256 over the configuration and every tensor's name, type, shape and little-endian bytes, in order."""
        h = hashlib.sha256(json.dumps(self.config.as_dict(), sort_keys=True).encode())
        for name in tensor_names(self.config):
            t = self.tensors[name]
            h.update(f"{name} {t.dtype.str.lstrip('<|')} {list(t.shape)}\n".encode())
            h.update(np.ascontiguousarray(t).view(np.uint8).data if t.ndim else t.tobytes())
        return h.digest()


def tensor_names(config: LlamaConfig) -> list[str]:
    """Names of all tensors, in the order of the digest."""
    matrices = ["embed", "head", *(f"{i}.{part}" for i in range(config.layers) for part in MATRICES)]
    return [n for m in matrices for n in (m, f"{m}.scale")]


def quantise_rows(weights: Float, bits: int) -> tuple[NDArray[Any], Float]:
    """Rounds each row to signed integers of `bits` bits: (integers [n, k], float32 scales [n])."""
    top = np.float32(2 ** (bits - 1) - 1)
    scale = np.maximum(np.abs(weights).max(axis=1) / top, SMALLEST)
    rounded = np.clip(np.rint(weights / scale[:, None]), -top, top)
    return rounded.astype(np.int8 if bits <= 8 else np.int16), scale


def convert(model: FloatModel, progress: Callable[[int, int], None] | None = None) -> IntegerModel:
    """Converts `model`; `progress(done, total)` is called after each layer."""
    c = model.config
    stream, head, ffn = block_size(c.width), block_size(c.head_dim), block_size(c.ffn)
    tensors: dict[str, NDArray[Any]] = {}

    def put(name: str, weights: Float, bits: int = 8) -> None:
        tensors[name], tensors[f"{name}.scale"] = quantise_rows(weights, bits)

    def reads(gain: Float, *parts: Float) -> Float:
        """Rows that read the normed residual stream: gain folded in, input rotated."""
        return np.concatenate([hadamard(p * gain, stream) for p in parts])

    def writes(weights: Float) -> Float:
        """Columns that write to the residual stream: output rotated."""
        return np.ascontiguousarray(hadamard(np.ascontiguousarray(weights.T), stream).T)

    put("embed", hadamard(model.tensor("embed"), stream), bits=16)
    put("head", reads(model.tensor("norm"), model.tensor("head")))
    tensors["head.scale"] = tensors["head.scale"] * LOG2_E
    for i in range(c.layers):
        q, k, v, o, gate, up, down = (model.tensor(f"{i}.{n}") for n in ("q", "k", "v", "o", "gate", "up", "down"))
        v = np.ascontiguousarray(hadamard(np.ascontiguousarray(v.T), head).T)  # each value head's output is rotated ...
        put(f"{i}.qkv", reads(model.tensor(f"{i}.attn_norm"), q, k, v))
        put(f"{i}.o", writes(hadamard(o, head)))  # ... and undone where it is read
        put(f"{i}.gate_up", reads(model.tensor(f"{i}.ffn_norm"), gate, up))
        put(f"{i}.down", writes(hadamard(down, ffn)))
        if progress:
            progress(i + 1, c.layers)
    return IntegerModel(c, model.tokenizer, tensors)
