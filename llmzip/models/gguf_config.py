"""What the header of a GGUF file says of a model, as a configuration of the engine."""

from __future__ import annotations

from typing import Any

from llmzip.errors import ModelFormatError, quoted
from llmzip.models import architectures, rotary, understood
from llmzip.models.architectures import Architecture, Source
from llmzip.models.config import ModelConfig
from llmzip.models.float_model import Factors, float32


def read(meta: dict[str, Any], name: str) -> tuple[Architecture, ModelConfig, Factors]:
    """From the metadata of the file `name`.

    Raises:
        ModelFormatError: of a model that llmzip does not compute.
        ValueError, KeyError, TypeError, ArithmeticError: whatever reading trips over.
    """
    family = architectures.of_gguf(meta.get("general.architecture"), name)
    assert family.gguf
    prefix = f"{family.gguf.name}."
    c = {key.removeprefix(prefix): value for key, value in meta.items() if key.startswith(prefix)}
    _check(meta, c, family.gguf, name)
    features, factors = family.gguf.read(c)
    return family, ModelConfig(**{**_sizes(meta, c, prefix, family), **family.features, **features}), factors


def _check(meta: dict[str, Any], c: dict[str, Any], source: Source, name: str) -> None:
    """Refuse what would be computed wrongly. Keys outside of the model's and the tokenizer's name spaces describe the file."""
    fixed = understood.GGUF_FIXED | {"attention.scale": float32(_head_dim(c) ** -0.5)} | dict(source.fixed)
    understood.check(name, _without_lists(c), understood.GGUF_USED | source.used, understood.GGUF_IGNORED | source.ignored, fixed)
    tokenizer = {key.removeprefix("tokenizer.ggml."): value for key, value in meta.items() if key.startswith("tokenizer.ggml.")}
    understood.check(name, _without_lists(tokenizer), understood.GGUF_TOKENIZER, frozenset(), {})
    if meta.get("split.count", 1) not in (0, 1):
        raise ModelFormatError(f"{name} is one of {quoted(meta['split.count'])} files of a model; join them, or use a model in one file")


def _without_lists(values: dict[str, Any]) -> dict[str, Any]:
    """Values as messages show them: lists of numbers are not read, so something has to stand for them."""
    return {key: "a list of numbers" if value is None else value for key, value in values.items()}


def _head_dim(c: dict[str, Any]) -> int:
    return int(c.get("attention.key_length", int(c["embedding_length"]) // int(c["attention.head_count"])))


def _sizes(meta: dict[str, Any], c: dict[str, Any], prefix: str, family: Architecture) -> dict[str, Any]:
    heads, head_dim = int(c["attention.head_count"]), _head_dim(c)
    for key in ("attention.value_length", *(() if family.turns_partly else ("rope.dimension_count",))):
        if c.get(key, head_dim) != head_dim:
            raise ModelFormatError(f"{prefix}{key} is not the size of a head, {head_dim}, which llmzip does not support; use another model")
    start = meta.get("tokenizer.ggml.bos_token_id", meta.get("tokenizer.ggml.eos_token_id"))
    if start is None:
        raise ModelFormatError("there is no token that begins or ends a text, which llmzip needs; use another file of the model")
    return {
        "layers": int(c["block_count"]),
        "width": int(c["embedding_length"]),
        "heads": heads,
        "kv_heads": int(c.get("attention.head_count_kv", heads)),
        "head_dim": head_dim,
        "ffn": int(c["feed_forward_length"]),
        "vocab": len(meta["tokenizer.ggml.tokens"]),
        **_positions(c, head_dim),
        "norm_eps": float32(c["attention.layer_norm_epsilon" if family.layer_norm else "attention.layer_norm_rms_epsilon"]),
        "bos": int(start),
    }


def _positions(c: dict[str, Any], head_dim: int) -> dict[str, Any]:
    base, divisors = rotary.partly(float(c.get("rope.freq_base", 10000.0)), head_dim, int(c.get("rope.dimension_count", head_dim)), ())
    return {"rope_base": base, "rope_divisors": divisors}
