"""LayerNorm, folded into the weights around it, so that the engine's norms are enough.

LayerNorm subtracts a mean, scales to a variance of 1, multiplies by gains and adds biases. If whatever is written to the residual stream has a mean of 0, the
stream has, too, and the first step does nothing: so means are taken off the embedding, and off the matrices and biases that write. What remains beside gains
are the norm's biases. Each matrix that reads the norm gets its product with them as a bias, or as an addition to the bias that it has.

Sums are of binary64 numbers, one after another, so that they are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmzip.models.float_model import Float

_WRITES = frozenset({"o", "down", "o_bias", "down_bias"})
_NORMS = {"q": "attn_norm", "k": "attn_norm", "v": "attn_norm", "gate": "ffn_norm", "up": "ffn_norm", "head": "norm"}  # that matrices read


def folded(tensor: Callable[[str], Float]) -> Callable[[str], Float]:
    """Tensors by our names, from those of a model that has biases of norms (`attn_norm_bias`, `ffn_norm_bias`, `norm_bias`), and none of the head."""

    def read(name: str) -> Float:
        """One tensor."""
        layer, dot, part = name.rpartition(".")
        matrix = part.removesuffix("_bias")
        if part == "embed":
            return centred(tensor(name).T).T
        if part in _WRITES:
            return centred(tensor(name))
        if part == matrix or matrix not in _NORMS:
            return tensor(name)
        through = product(tensor(f"{layer}{dot}{matrix}"), tensor(f"{layer}{dot}{_NORMS[matrix]}_bias"))
        return (through if matrix == "head" else through + tensor(name)).astype(np.float32)

    return read


def centred(weights: Float) -> Float:
    """Weights less their mean over the first axis, float32."""
    total: Any = np.zeros(weights.shape[1:], np.float64)
    for row in weights:
        total = total + row
    out = np.empty_like(weights)
    np.subtract(weights, total / len(weights), out=out, dtype=np.float64, casting="same_kind")
    return out


def product(weights: Float, vector: Float) -> NDArray[np.float64]:
    """A matrix times a vector, both float32, as float64. Each product of two numbers is exact; sums are rounded, in the order of the columns."""
    total = np.zeros(len(weights), np.float64)
    for column, value in zip(weights.T, vector.astype(np.float64), strict=True):
        total += column.astype(np.float64) * value
    return total
