"""The shape of a Llama-family transformer."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from llmzip.errors import ModelFormatError, quoted

MAX_OPENING = 64
MAX_DIVISOR = 1024.0  # of rotary positions
MAX_HEAD_DIM = 1024  # products of so many int8s sum exactly in float32

_JSON_NAMES = {"local_heads": "near_heads", "local_window": "near_window"}  # by field, where they differ


@dataclass(frozen=True)
class LlamaConfig:
    """Hyperparameters: everything that the engine needs besides the tensors."""

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
    rope_divisors: tuple[float, ...] = ()  # by which each pair turns slower, float32 values; none if all are 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "local_heads", tuple(self.local_heads))
        object.__setattr__(self, "opening", tuple(self.opening))
        object.__setattr__(self, "rope_divisors", tuple(self.rope_divisors))
        sizes = (self.layers, self.width, self.heads, self.kv_heads, self.head_dim, self.ffn, self.vocab)
        integers = (*sizes, self.bos, *self.opening, *self.local_heads, self.local_window)
        if not all(type(n) is int for n in integers) or not all(
            type(x) is float for x in (self.rope_base, self.norm_eps, *self.rope_divisors)
        ):
            raise ModelFormatError("the configuration's values are not of the types they should be; the file is damaged")
        # 2^17 products of int8 still sum exactly in int32
        wide = max(self.width, self.ffn, self.query_width) > 1 << 17 or self.head_dim > MAX_HEAD_DIM
        if min(sizes) < 1 or wide or self.vocab > 1 << 24 or self.layers > 1024:
            raise ModelFormatError(f"model dimensions out of range: {quoted(sizes)}; the file is damaged or not a Llama model")
        if self.heads % self.kv_heads or self.head_dim % 2 or self.width % 4 or self.ffn % 4 or self.head_dim % 4:
            raise ModelFormatError("heads, widths or head size do not fit llmzip's engine (multiples of 4, grouped heads)")
        known = range(self.layers * self.kv_heads)
        if any(h not in known for h in self.local_heads) or (self.local_heads and self.local_window < 1):
            raise ModelFormatError("local-attention heads are not among the model's, or see nothing")
        if any(not 0 <= token < self.vocab for token in (self.bos, *self.opening)):
            start = quoted(f"start token {self.bos} or opening {self.opening}")
            raise ModelFormatError(f"{start} lies outside the vocabulary of {self.vocab}")
        if len(self.opening) > MAX_OPENING:
            raise ModelFormatError(f"the opening has {len(self.opening)} tokens, more than {MAX_OPENING}")
        if not (1.0 < self.rope_base < math.inf and 0.0 < self.norm_eps < 1.0 and self.norm_eps == float(np.float32(self.norm_eps))):
            raise ModelFormatError("rope base or norm epsilon out of range; the file is damaged or not a Llama model")
        if self.rope_divisors:
            slower = all(1.0 <= x <= MAX_DIVISOR and x == float(np.float32(x)) for x in self.rope_divisors)
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

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, in field order, without empty optional ones. Digests of models depend on them."""
        return {_JSON_NAMES.get(k, k): v for k, v in asdict(self).items() if v or k not in ("opening", "rope_divisors", *_JSON_NAMES)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LlamaConfig:
        """The inverse of `as_dict`.

        Raises:
            ModelFormatError, TypeError: these are no such values.
        """
        if not isinstance(values, dict):
            raise TypeError("a configuration is a dictionary")
        fields = {name: field for field, name in _JSON_NAMES.items()}
        return cls(**{fields.get(k, k): v for k, v in values.items()})
