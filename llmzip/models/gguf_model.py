"""Float weights from GGUF files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llmzip.errors import ModelFormatError, quoted
from llmzip.models import understood
from llmzip.models.config import LlamaConfig
from llmzip.models.float_model import Float, FloatModel, check_no_others, check_shape, expected_shapes, finite, float32
from llmzip.models.gguf_file import GGUFFile, GGUFHeader
from llmzip.models.tokenizer import TokenizerSpec
from llmzip.models.tokenizer_sources import spec_from_gguf

_PARTS = {
    "attn_norm": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
    "ffn_norm": "ffn_norm", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}  # fmt: skip
_DIVISORS = "rope_freqs.weight"
_TOP = {"embed": "token_embd.weight", "norm": "output_norm.weight", "head": "output.weight"}


def load(path: Path) -> FloatModel:
    """Open a GGUF file.

    Raises:
        ModelFormatError: it is damaged, or of a model that llmzip cannot run.
    """
    try:
        file = GGUFFile(path)
    except (OSError, ValueError) as e:
        raise _unreadable(path.name, e) from e
    config, tokenizer = describe(file.header, path.name)
    if _DIVISORS in file.header.shapes:
        config = replace(config, rope_divisors=tuple(map(float, file.tensor(_DIVISORS))))
    shapes = expected_shapes(config)

    def tensor(name: str) -> Float:
        layer, _, part = name.rpartition(".")
        stored = _stored(name)
        if name == "head" and stored not in file.header.shapes:
            stored = _TOP["embed"]
        if stored not in file.header.shapes:
            raise ModelFormatError(f"{path.name} has no tensor {stored}; it is damaged or not a Llama model")
        check_shape(stored, file.header.shapes[stored], shapes[name if name != "head" else "embed"])
        try:
            values = finite(stored, file.tensor(stored))
        except NotImplementedError as e:
            raise ModelFormatError(f"tensor {stored} is quantised in a way that cannot be read; use another file of the model") from e
        if part in ("q", "k") and layer:  # GGUF interleaves the two halves of each head for its own rotation
            n = config.heads if part == "q" else config.kv_heads
            values = values.reshape(n, config.head_dim // 2, 2, config.width).swapaxes(1, 2).reshape(-1, config.width)
        return np.ascontiguousarray(values)

    return FloatModel(config, tokenizer, tensor)


def describe(header: GGUFHeader, name: str) -> tuple[LlamaConfig, TokenizerSpec]:
    """Configuration and tokenizer from the header of the file `name`. Raises ModelFormatError, as `load`."""
    meta = header.metadata
    try:
        if meta.get("general.architecture") != "llama":
            other = quoted(meta.get("general.architecture"))
            raise ModelFormatError(f"{name} holds a {other} model; llmzip runs the Llama architecture")
        _check_keys(meta, name)
        config = _config(meta)
        tokenizer = spec_from_gguf(meta, header.arrays)
    except (ValueError, KeyError, TypeError, ArithmeticError) as e:  # whatever parsing trips over
        raise _unreadable(name, e) from e
    check_no_others(name, header.shapes, {_DIVISORS, *_TOP.values(), *(_stored(n) for n in expected_shapes(config))})
    if _DIVISORS in header.shapes:
        check_shape(_DIVISORS, header.shapes[_DIVISORS], (config.head_dim // 2,))
    return config, tokenizer


def _check_keys(meta: dict[str, Any], name: str) -> None:
    """Refuse what would be computed wrongly. Keys outside of the model's and the tokenizer's name spaces describe the file."""
    said = {key: "a list of numbers" if value is None else value for key, value in meta.items()}
    model = {key.removeprefix("llama."): value for key, value in said.items() if key.startswith("llama.")}
    understood.check(name, model, understood.GGUF_USED, understood.GGUF_IGNORED, _fixed(meta))
    tokenizer = {key.removeprefix("tokenizer.ggml."): value for key, value in said.items() if key.startswith("tokenizer.ggml.")}
    understood.check(name, tokenizer, understood.GGUF_TOKENIZER, frozenset(), {})
    if said.get("split.count", 1) not in (0, 1):
        raise ModelFormatError(f"{name} is one of {quoted(said['split.count'])} files of a model; join them, or use a model in one file")


def _fixed(meta: dict[str, Any]) -> dict[str, Any]:
    """Values that the engine takes for granted. A scale of attention may be stated, if it is the usual one."""
    return understood.GGUF_FIXED | {"attention.scale": float32(_head_dim(meta) ** -0.5)}


def _head_dim(meta: dict[str, Any]) -> int:
    return int(meta.get("llama.attention.key_length", int(meta["llama.embedding_length"]) // int(meta["llama.attention.head_count"])))


def _config(meta: dict[str, Any]) -> LlamaConfig:
    heads, head_dim = int(meta["llama.attention.head_count"]), _head_dim(meta)
    for key in ("attention.value_length", "rope.dimension_count"):
        if meta.get(f"llama.{key}", head_dim) != head_dim:
            raise ModelFormatError(f"llama.{key} is not the size of a head, {head_dim}, which llmzip does not support; use another model")
    start = meta.get("tokenizer.ggml.bos_token_id", meta.get("tokenizer.ggml.eos_token_id"))
    if start is None:
        raise ModelFormatError("there is no token that begins or ends a text, which llmzip needs; use another file of the model")
    return LlamaConfig(
        layers=int(meta["llama.block_count"]),
        width=int(meta["llama.embedding_length"]),
        heads=heads,
        kv_heads=int(meta.get("llama.attention.head_count_kv", heads)),
        head_dim=head_dim,
        ffn=int(meta["llama.feed_forward_length"]),
        vocab=len(meta["tokenizer.ggml.tokens"]),
        rope_base=float(meta.get("llama.rope.freq_base", 10000.0)),
        norm_eps=float32(meta["llama.attention.layer_norm_rms_epsilon"]),
        bos=int(start),
    )


def _stored(name: str) -> str:
    """The file's name of one of our tensors."""
    layer, _, part = name.rpartition(".")
    return f"blk.{layer}.{_PARTS[part]}.weight" if layer else _TOP[part]


def _unreadable(name: str, e: Exception) -> ModelFormatError:
    return ModelFormatError(f"{name} is not a readable GGUF file ({quoted(e)}); fetch it again")
