"""A model's float weights, wherever they come from.

All sources use one naming: `embed`, `norm`, `head`, and per layer `q k v o gate up down` and, where the configuration asks for them, the gains
`attn_norm`, `ffn_norm`, `q_norm`, `k_norm`, `attn_post_norm`, `ffn_post_norm` and biases: `q_bias` and so on, and `head_bias`. Matrices are [outputs, inputs],
and rows of queries and keys are ordered for the rotation of pairs (i, i + head_dim/2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmzip.errors import ModelFormatError, quoted
from llmzip.models.config import ModelConfig
from llmzip.models.tokenizer import TokenizerSpec

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Factors:
    """Numbers that a model multiplies by, float32 values. Conversion takes them into the weights.

    Raises:
        ValueError: one is not positive, or has no end.
    """

    embed: float = 1.0  # of the embedding
    residual: float = 1.0  # of what attention and feed-forward add to the residual stream
    score: float = 1.0  # of attention's scores, beside 1 / sqrt(head_dim)
    logits: float = 1.0

    def __post_init__(self) -> None:
        if not all(0 < x < math.inf for x in astuple(self)):
            raise ValueError("a factor of the model is not a positive number")


@dataclass(frozen=True)
class FloatModel:
    """A model before conversion. `tensor(name)` reads one tensor as float32."""

    config: ModelConfig
    tokenizer: TokenizerSpec
    tensor: Callable[[str], Float]
    factors: Factors = Factors()


def layer_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a layer by our names."""
    c, d, q, kv = config, config.width, config.query_width, config.kv_width
    shapes: dict[str, tuple[int, ...]] = {"q": (q, d), "k": (kv, d), "v": (kv, d), "o": (d, q)}
    shapes |= dict.fromkeys(c.ffn_parts, (c.ffn, d)) | {"down": (d, c.ffn)}
    if c.pre_norm:
        shapes |= {"attn_norm": (d,), "ffn_norm": (d,)}
    if c.post_norm:
        shapes |= {"attn_post_norm": (d,), "ffn_post_norm": (d,)}
    if c.head_norm:
        shapes |= {"q_norm": (q if c.head_norm == "all" else c.head_dim,), "k_norm": (kv if c.head_norm == "all" else c.head_dim,)}
    if c.qkv_bias:
        shapes |= {"q_bias": (q,), "k_bias": (kv,), "v_bias": (kv,)}
    if c.biases:
        shapes |= {f"{part}_bias": shapes[part][:1] for part in ("o", *c.ffn_parts, "down")}
    return shapes


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor by our names (without `head`, which may be tied to `embed`)."""
    shapes: dict[str, tuple[int, ...]] = {"embed": (config.vocab, config.width), "norm": (config.width,)}
    if config.biases:
        shapes["head_bias"] = (config.vocab,)
    return shapes | {f"{i}.{part}": shape for i in range(config.layers) for part, shape in layer_shapes(config).items()}


def half_split(rows: NDArray[Any], config: ModelConfig) -> NDArray[Any]:
    """Rows of queries or keys in the engine's order, where each half of a head turns with the other half.

    In the files, only the first rows of each head turn, one half of them with the other; the rest of the head comes after them. Here, each half of the head has
    one half of those that turn, and then half of the rest.
    """
    if 0.0 not in config.rope_divisors:
        return rows
    head, turning = config.head_dim, 2 * sum(d != 0.0 for d in config.rope_divisors)
    starts = np.split(np.arange(head), [turning // 2, turning, (turning + head) // 2])
    order = np.concatenate([starts[i] for i in (0, 2, 1, 3)])
    return rows.reshape(-1, head, *rows.shape[1:])[:, order].reshape(rows.shape)


class Layout:
    """Where a file has the tensors of a model.

    Args:
        names: its names by ours, see `architectures`.
        layer: what stands before the names of a layer's tensors, with {} for its number.
        tied: Whether the head is the embedding, even if there is a tensor for it.
        layer_norm: Whether norms have biases, as `layer_norm` folds them.
        by_head: Whether parts that share a tensor lie in it head by head: all parts of the first head, then those of the second.

    Attributes:
        known: the names of all tensors that the model may have.
    """

    def __init__(
        self,
        config: ModelConfig,
        names: Mapping[str, str],
        layer: str,
        *,
        tied: bool = False,
        layer_norm: bool = False,
        by_head: bool = False,
    ) -> None:
        self._names, self._layer, self._tied, self._head = names, layer, tied, config.head_dim if by_head else None
        self._shapes = expected_shapes(config) | {"head": (config.vocab, config.width)}
        if layer_norm:
            self._shapes |= {f"{name}_bias": shape for name, shape in self._shapes.items() if name.endswith("norm")}
            self._shapes.pop("head_bias", None)
        self.known = {self.stored(name) for name in self._shapes}

    def stored(self, name: str) -> str:
        """The file's name of one of our tensors."""
        layer, _, part = name.rpartition(".")
        before = self._layer.format(layer) if layer else ""
        return f"{before}{self._names[part.removesuffix('_bias')]}.{'bias' if part.endswith('_bias') else 'weight'}"

    def locate(self, name: str, found: Mapping[str, tuple[int, ...]], missing: str) -> tuple[str, slice | NDArray[np.int64] | None]:
        """The file's name of one of our tensors, and which of its rows that is; None if all.

        Args:
            found: shapes of the file's tensors.
            missing: message for one that is not there, with {} for its name.

        Raises:
            ModelFormatError: it is not there, or has another shape.
        """
        stored = self.stored(name)
        if name == "head" and (self._tied or stored not in found):
            name, stored = "embed", self.stored("embed")
        if stored not in found:
            raise ModelFormatError(missing.format(stored))
        layer = name.rpartition(".")[0]
        beside = [n for n in self._shapes if n.rpartition(".")[0] == layer and self.stored(n) == stored] if layer else [name]
        rows = [self._shapes[n][0] for n in beside]
        check_shape(stored, found[stored], (sum(rows), *self._shapes[name][1:]))
        if len(beside) == 1:
            return stored, None
        if self._head:
            return stored, np.arange(sum(rows)).reshape(-1, len(beside), self._head)[:, beside.index(name)].reshape(-1)
        first = sum(rows[: beside.index(name)])
        return stored, slice(first, first + self._shapes[name][0])


def check_shape(name: str, found: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Raise ModelFormatError unless the shapes are equal."""
    if found != shape:
        raise ModelFormatError(
            f"tensor {name} has shape {quoted(found)}, expected {shape}; the file is damaged or not of a supported model"
        )


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
    """Rounded to float32. Raises TypeError or ValueError if this is no number."""
    with np.errstate(over="ignore"):
        return float(np.float32(float(value)))
