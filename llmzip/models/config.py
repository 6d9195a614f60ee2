"""The shape of a transformer: every feature that the engine knows, and nothing about where a model comes from (`architectures` says that)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from llmzip.errors import ModelFormatError, quoted

MAX_OPENING = 64
MAX_DIVISOR = 1024.0  # of rotary positions
MAX_HEAD_DIM = 1024  # products of so many int8s sum exactly in float32
ACTIVATIONS = ("silu", "gelu_tanh")
HEAD_NORMS = ("", "head", "all")  # none, over each head, over all heads together

_JSON_NAMES = {"local_heads": "near_heads", "local_window": "near_window"}  # by field, where they differ
_REQUIRED = ("layers", "width", "heads", "kv_heads", "head_dim", "ffn", "vocab", "rope_base", "norm_eps", "bos")


@dataclass(frozen=True)
class ModelConfig:
    """Hyperparameters: everything that the engine needs besides the tensors. With the defaults, it is a Llama."""

    layers: int
    width: int  # of the residual stream
    heads: int  # query heads
    kv_heads: int  # key and value heads; divides `heads`
    head_dim: int
    ffn: int  # width of the feed-forward layer
    vocab: int  # tokens the model predicts
    rope_base: float
    norm_eps: float
    bos: int  # what the model sees in place of a raw byte, and before a text if there is no opening
    opening: tuple[int, ...] = ()  # tokens every lane is fed before its first symbol; bos if empty
    local_heads: tuple[int, ...] = ()  # local-attention key heads, as layer * kv_heads + head
    local_window: int = 0  # how many positions those see, sinks apart
    rope_divisors: tuple[float, ...] = ()  # by which each pair turns slower, float32 values; none if all are 1; 0: does not turn
    layer_windows: tuple[int, ...] = ()  # positions that each layer was trained to see; 0, or none given: all
    window_rope_base: float = 0.0  # base of the layers that have a window, and no divisors; 0: as the others
    unrotated_layers: tuple[int, ...] = ()  # layers whose queries and keys do not turn
    head_norm: str = ""  # one of HEAD_NORMS: queries and keys are normed before they turn
    spread_heads: bool = False  # rotated queries and keys pass a Hadamard transform: outliers cost less
    qkv_bias: bool = False
    plain_stream: bool = False  # the residual stream is not rotated, but what is read from it, after the gains: outliers cost less
    pre_norm: bool = True  # attention and feed-forward read the normed residual stream
    post_norm: bool = False  # their outputs are normed before they are added to it
    activation: str = "silu"  # one of ACTIVATIONS
    gated: bool = True  # the feed-forward layer's activation is multiplied by another product
    biases: bool = False  # of attention's output, of the feed-forward layer and of the head
    parallel: bool = False  # feed-forward reads the stream that attention reads, not what attention has added to

    def __post_init__(self) -> None:
        for field in fields(self):
            if str(field.type).startswith("tuple"):  # annotations are text
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
        self._check_types()
        self._check_sizes()
        self._check_tokens()
        self._check_layers()
        self._check_positions()

    def _check_types(self) -> None:
        kinds = {"int": int, "float": float, "str": str, "bool": bool}
        for field in fields(self):
            value, declared = getattr(self, field.name), str(field.type)
            values = value if declared.startswith("tuple") else (value,)
            kind = kinds[declared.removeprefix("tuple[").split(",")[0]]
            if not all(type(x) is kind for x in values):
                raise ModelFormatError("the configuration's values are not of the types they should be; the file is damaged")

    def _check_sizes(self) -> None:
        sizes = (self.layers, self.width, self.heads, self.kv_heads, self.head_dim, self.ffn, self.vocab)
        # 2^17 products of int8 still sum exactly in int32
        wide = max(self.width, self.ffn, self.query_width) > 1 << 17 or self.head_dim > MAX_HEAD_DIM
        if min(sizes) < 1 or wide or self.vocab > 1 << 24 or self.layers > 1024:
            raise ModelFormatError(f"model dimensions out of range: {quoted(sizes)}; the file is damaged or not of a supported model")
        if self.heads % self.kv_heads or self.head_dim % 4 or self.width % 4 or self.ffn % 4:
            raise ModelFormatError("heads, widths or head size do not fit llmzip's engine (multiples of 4, grouped heads)")

    def _check_tokens(self) -> None:
        if any(not 0 <= token < self.vocab for token in (self.bos, *self.opening)):
            start = quoted(f"start token {self.bos} or opening {self.opening}")
            raise ModelFormatError(f"{start} lies outside the vocabulary of {self.vocab}")
        if len(self.opening) > MAX_OPENING:
            raise ModelFormatError(f"the opening has {len(self.opening)} tokens, more than {MAX_OPENING}")

    def _check_layers(self) -> None:
        known = range(self.layers * self.kv_heads)
        if any(h not in known for h in self.local_heads) or (self.local_heads and self.local_window < 1):
            raise ModelFormatError("local-attention heads are not among the model's, or see nothing")
        if self.layer_windows and (len(self.layer_windows) != self.layers or not all(0 <= w <= 1 << 24 for w in self.layer_windows)):
            raise ModelFormatError("there is not a window for each layer; the file is damaged or not supported")
        if any(i not in range(self.layers) for i in self.unrotated_layers):
            raise ModelFormatError("layers without rotation are not among the model's")
        if self.activation not in ACTIVATIONS or self.head_norm not in HEAD_NORMS:
            raise ModelFormatError("the configuration asks for an activation or for norms that llmzip does not know")
        if not (self.plain_stream or (self.pre_norm and not self.post_norm)):
            raise ModelFormatError("the configuration asks for norms that need a residual stream without rotation")

    def _check_positions(self) -> None:
        in_range = 1.0 < self.rope_base < math.inf and (self.window_rope_base == 0 or 1.0 < self.window_rope_base < math.inf)
        if not (in_range and 0.0 < self.norm_eps < 1.0 and self.norm_eps == float(np.float32(self.norm_eps))):
            raise ModelFormatError("rope base or norm epsilon out of range; the file is damaged or not of a supported model")
        if self.rope_divisors:
            slower = all((x == 0 or 1.0 <= x <= MAX_DIVISOR) and x == float(np.float32(x)) for x in self.rope_divisors)
            if len(self.rope_divisors) != self.head_dim // 2 or not slower:
                raise ModelFormatError(
                    f"there is not a divisor from 1 to {MAX_DIVISOR} for each rotated pair; the file is damaged or not supported"
                )

    @property
    def query_width(self) -> int:
        """Columns of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Columns of all key heads together."""
        return self.kv_heads * self.head_dim

    @property
    def ffn_parts(self) -> tuple[str, ...]:
        """What the matrix that the feed-forward layer begins with consists of."""
        return ("gate", "up") if self.gated else ("up",)

    def window_of(self, layer: int) -> int:
        """Positions that a layer was trained to see; 0 if all."""
        return self.layer_windows[layer] if self.layer_windows else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, in field order, without those that are as in a Llama. Digests of models depend on them."""
        default = {field.name: field.default for field in fields(self)}
        return {_JSON_NAMES.get(k, k): v for k, v in asdict(self).items() if k in _REQUIRED or v != default[k]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """The inverse of `as_dict`.

        Raises:
            ModelFormatError, TypeError: these are no such values.
        """
        if not isinstance(values, dict):
            raise TypeError("a configuration is a dictionary")
        names = {name: field for field, name in _JSON_NAMES.items()}
        return cls(**{names.get(k, k): v for k, v in values.items()})
