"""Float weights to the integer model the engine runs.

Every matrix is rounded to int8 with one scale per output row. What it reads is rotated first (see `rotate`): in most models of the Llama
family the residual stream is, and the gains of norms are folded into the matrices that follow. Where gains or channels of the stream
differ too much for that, the stream stays as it is, and what is read from it is multiplied by its gain and rotated each time. Values get 14 bits, as two int8 matrices, VALUE_BASE * high + low:
rounding them to 8 bits costs as much as all the other matrices together (the tokens that attention rests on have small
values by cancellation of large terms), and they are few. All of it is element-wise float32, so that conversion gives the same
integers on every machine. Layout of the result, by name:

    embed           int16 [vocab, width]      embed.scale      float32 [vocab]
    head            int8  [vocab, width]      head.scale       float32 [vocab]    (logits in units of log2)
    {i}.qkv         int8  [q+3kv, width]      {i}.qkv.scale    float32 [q+2kv]    (rows: queries, keys, values twice)
    {i}.o           int8  [width, q]          {i}.o.scale      float32 [width]
    {i}.gate_up     int8  [2 ffn, width]      {i}.gate_up.scale                  (without a gate: [ffn, width])
    {i}.down        int8  [width, ffn]        {i}.down.scale   float32 [width]

and, where the configuration asks for them, in float32:

    {i}.qkv.bias    [q+2kv]
    {i}.q_norm, {i}.k_norm    gains [head_dim], or of all heads [q], [kv]
    {i}.o.norm, {i}.down.norm    gains of the outputs [width]
    {i}.qkv.norm, {i}.gate_up.norm, head.norm    gains of what is read [width]: these are not folded if the stream is not rotated
    {i}.o.bias, {i}.gate_up.bias, {i}.down.bias, head.bias    one for each row of the matrix
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
from llmzip.models.config import ModelConfig
from llmzip.models.float_model import Float, FloatModel
from llmzip.models.rotate import block_size, hadamard
from llmzip.models.tokenizer import TokenizerSpec

LOG2_E = np.float32(1.4426950408889634)
TEMPERATURE = np.float32(0.985)  # logits are scaled by it: rounding makes the model a little too sure of itself
SMALLEST = np.float32(2.0**-40)  # rows of zeros get this scale: far from denormals, far below any weight
LARGEST = np.float32(16.0)  # scale: below it no sum or product of the engine overflows, whatever the integers
LARGEST_VECTOR = np.float32(2.0**16)  # of gains and biases, likewise
VALUE_BASE = 128  # weight of the high part of a value matrix
_ROWS = 1 << 14  # of a vocabulary, converted at once
MATRICES = ("qkv", "o", "gate_up", "down")


@dataclass(frozen=True)
class IntegerModel:
    """What the engine runs: `tensors` in the layout above, as numpy arrays."""

    config: ModelConfig
    tokenizer: TokenizerSpec
    tensors: dict[str, NDArray[Any]]

    def digest(self) -> bytes:
        """`weights_digest`, computed once."""
        return self._digest

    @cached_property
    def _digest(self) -> bytes:
        return weights_digest(self.config, self.tensors)

    def check_scales(self) -> None:
        """Raises ModelFormatError unless all scales are positive and at most LARGEST, and all gains and biases at most LARGEST_VECTOR."""
        for name, values in self.tensors.items():
            scale, vector = name.endswith(".scale"), values.dtype == np.float32
            if (scale and not ((values > 0) & (values <= LARGEST)).all()) or (vector and not (np.abs(values) <= LARGEST_VECTOR).all()):
                raise ModelFormatError(f"the values of {name} are out of range; the file is damaged or not of a supported model")


def weights_digest(config: ModelConfig, tensors: dict[str, NDArray[Any]]) -> bytes:
    """SHA-256 over the configuration and every tensor's name, type, shape and little-endian bytes, in order."""
    h = hashlib.sha256(json.dumps(config.as_dict(), sort_keys=True).encode())
    for name in tensor_names(config):
        t = tensors[name]
        h.update(f"{name} {t.dtype.str.lstrip('<|')} {list(t.shape)}\n".encode())
        h.update(np.ascontiguousarray(t).view(np.uint8).data if t.ndim else t.tobytes())
    return h.digest()


def tensor_names(config: ModelConfig) -> list[str]:
    """Names of all tensors, in the order of the digest."""
    return list(tensor_layout(config))


def tensor_layout(config: ModelConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of every tensor, in the order of the digest."""
    c, q, kv, d, ffn = config, config.query_width, config.kv_width, config.width, config.ffn
    rows = {"qkv": (q + 3 * kv, d), "o": (d, q), "gate_up": (2 * ffn if c.gated else ffn, d), "down": (d, ffn)}
    vectors: dict[str, tuple[int, ...]] = {}
    if c.qkv_bias:
        vectors["qkv.bias"] = (q + 2 * kv,)
    if c.head_norm:
        vectors |= {"q_norm": (q if c.head_norm == "all" else c.head_dim,), "k_norm": (kv if c.head_norm == "all" else c.head_dim,)}
    if c.plain_stream and c.pre_norm:
        vectors |= {"qkv.norm": (d,), "gate_up.norm": (d,)}
    if c.post_norm:
        vectors |= {"o.norm": (d,), "down.norm": (d,)}
    if c.biases:
        vectors |= {f"{part}.bias": rows[part][:1] for part in ("o", "gate_up", "down")}
    layout: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, kind in (("embed", "int16"), ("head", "int8")):
        layout |= {name: (kind, (c.vocab, d)), f"{name}.scale": ("float32", (c.vocab,))}
    if c.plain_stream:
        layout["head.norm"] = ("float32", (d,))
    if c.biases:
        layout["head.bias"] = ("float32", (c.vocab,))
    for i in range(c.layers):
        for part in MATRICES:
            scales = q + 2 * kv if part == "qkv" else rows[part][0]
            layout |= {f"{i}.{part}": ("int8", rows[part]), f"{i}.{part}.scale": ("float32", (scales,))}
        layout |= {f"{i}.{name}": ("float32", shape) for name, shape in vectors.items()}
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
    c, by = model.config, model.factors
    stream, head, ffn = block_size(c.width), block_size(c.head_dim), block_size(c.ffn)
    fold = not c.plain_stream
    tensors: dict[str, NDArray[Any]] = {}

    def put(name: str, weights: Float, factor: float = 1.0) -> None:
        rounded, scale = quantise_rows(weights, 127)
        tensors[name], tensors[f"{name}.scale"] = rounded.astype(np.int8), scale * np.float32(factor)

    def put_vocabulary(name: str, weights: Float, rotated: bool, kind: type[np.signedinteger[Any]], factor: float) -> None:
        """A row for each token: by slices, as copies of a large vocabulary in float32 take gigabytes."""
        whole, scale = np.empty(weights.shape, kind), np.empty(len(weights), np.float32)
        for first in range(0, len(weights), _ROWS):
            at = slice(first, first + _ROWS)
            rows = hadamard(weights[at], stream) if rotated else weights[at]
            whole[at], scale[at] = quantise_rows(rows, int(np.iinfo(kind).max))
        tensors[name], tensors[f"{name}.scale"] = whole, scale * np.float32(factor)

    def reads(gain: str, *parts: Float) -> Float:
        """Rows that read the normed residual stream: input rotated, after the gain was folded in."""
        return np.concatenate([hadamard(p * model.tensor(gain) if fold else p, stream) for p in parts])

    def writes(weights: Float) -> Float:
        """Columns that write to the residual stream: rotated if that is."""
        return _of_columns(weights, stream) if fold else weights

    put_vocabulary("embed", model.tensor("embed"), fold, np.int16, by.embed)
    head_weights = model.tensor("head")
    log2 = LOG2_E * TEMPERATURE
    put_vocabulary("head", head_weights * model.tensor("norm") if fold else head_weights, True, np.int8, float(log2))
    del head_weights
    if by.logits != 1.0:
        tensors["head.scale"] *= np.float32(by.logits)
    if c.plain_stream:
        tensors["head.norm"] = model.tensor("norm")
    if c.biases:
        tensors["head.bias"] = (model.tensor("head_bias") * log2) * np.float32(by.logits)
    for i in range(c.layers):
        q, k, v, o, down = (model.tensor(f"{i}.{n}") for n in ("q", "k", "v", "o", "down"))
        qk, qk_scale = quantise_rows(reads(f"{i}.attn_norm", q, k), 127)
        # Each value head's output is rotated, and that is undone where it is read.
        values, v_scale = quantise_rows(reads(f"{i}.attn_norm", _of_columns(v, head)), 127 * VALUE_BASE)
        high = np.rint(values / np.float32(VALUE_BASE))
        tensors[f"{i}.qkv"] = np.concatenate([qk, high, values - VALUE_BASE * high]).astype(np.int8)
        tensors[f"{i}.qkv.scale"] = np.concatenate([qk_scale, v_scale])
        if by.score != 1.0 and not c.head_norm:
            tensors[f"{i}.qkv.scale"][: c.query_width] *= np.float32(by.score)
        put(f"{i}.o", writes(hadamard(o, head)), by.residual)
        put(f"{i}.gate_up", reads(f"{i}.ffn_norm", *(model.tensor(f"{i}.{n}") for n in c.ffn_parts)))
        put(f"{i}.down", writes(hadamard(down, ffn)), by.residual)
        tensors |= {f"{i}.{name}": vector for name, vector in _vectors(model, i, head).items()}
        if progress:
            progress(i + 1, c.layers)
    made = IntegerModel(c, model.tokenizer, {name: tensors[name] for name in tensor_names(c)})
    made.check_scales()
    return made


def _vectors(model: FloatModel, i: int, head: int) -> dict[str, Float]:
    """Gains and biases of layer i."""
    c, score, residual = model.config, np.float32(model.factors.score), np.float32(model.factors.residual)
    found: dict[str, Float] = {}
    if c.qkv_bias:
        q, k, v = (model.tensor(f"{i}.{n}") for n in ("q_bias", "k_bias", "v_bias"))
        found["qkv.bias"] = np.concatenate([q if c.head_norm else q * score, k, hadamard(v, head)])
    if c.head_norm:
        found |= {"q_norm": model.tensor(f"{i}.q_norm") * score, "k_norm": model.tensor(f"{i}.k_norm")}
    if c.plain_stream and c.pre_norm:
        found |= {"qkv.norm": model.tensor(f"{i}.attn_norm"), "gate_up.norm": model.tensor(f"{i}.ffn_norm")}
    if c.post_norm:
        found |= {"o.norm": model.tensor(f"{i}.attn_post_norm") * residual, "down.norm": model.tensor(f"{i}.ffn_post_norm") * residual}
    if c.biases:
        found |= {f"{part}.bias": model.tensor(f"{i}.{part}_bias") * residual for part in ("o", "down")}
        found["gate_up.bias"] = np.concatenate([model.tensor(f"{i}.{n}_bias") for n in c.ffn_parts])
    return found


def _of_columns(weights: Float, block: int) -> Float:
    """Hadamard transform of every column."""
    return np.ascontiguousarray(hadamard(np.ascontiguousarray(weights.T), block).T)
