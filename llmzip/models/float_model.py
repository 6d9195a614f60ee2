"""A model's float weights, wherever they come from.

All sources use one naming: `embed`, `norm`, `head`, and per layer `q k v o gate up down attn_norm ffn_norm`. Matrices are [outputs, inputs],
and rows of q and k are ordered for the rotation of pairs (i, i + head_dim/2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmzip.errors import ModelFormatError, quoted
from llmzip.models.config import LlamaConfig
from llmzip.models.tokenizer import TokenizerSpec

Float = NDArray[np.float32]
LAYER_PARTS = ("attn_norm", "q", "k", "v", "o", "ffn_norm", "gate", "up", "down")


@dataclass(frozen=True)
class FloatModel:
    """A model before conversion. `tensor(name)` reads one tensor as float32."""

    config: LlamaConfig
    tokenizer: TokenizerSpec
    tensor: Callable[[str], Float]


def expected_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor by our names (without `head`, which may be tied to `embed`)."""
    d, q, kv = config.width, config.query_width, config.kv_width
    layer = {
        "attn_norm": (d,), "q": (q, d), "k": (kv, d), "v": (kv, d), "o": (d, q),
        "ffn_norm": (d,), "gate": (config.ffn, d), "up": (config.ffn, d), "down": (d, config.ffn),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"embed": (config.vocab, d), "norm": (d,)}
    return shapes | {f"{i}.{part}": shape for i in range(config.layers) for part, shape in layer.items()}


def check_shape(name: str, found: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Raise ModelFormatError unless the shapes are equal."""
    if found != shape:
        raise ModelFormatError(f"tensor {name} has shape {quoted(found)}, expected {shape}; the file is damaged or not a Llama model")


def check_no_others(where: str, found: Iterable[str], known: set[str]) -> None:
    """Raise ModelFormatError if there are tensors that the model would be computed without."""
    if others := sorted(set(found) - known):
        raise ModelFormatError(f"{where} holds tensor {quoted(others[0])}, which llmzip does not support; use another model")


def finite(name: str, tensor: Float) -> Float:
    """The tensor in C order. Raise ModelFormatError if it holds infinities."""
    if not np.isfinite(tensor).all():
        raise ModelFormatError(f"tensor {name} holds values that are not finite; the file is damaged")
    return np.ascontiguousarray(tensor)


def float32(value: Any) -> float:
    """Rounded to float32."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))
