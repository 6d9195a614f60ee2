"""Biases and gains of a layer, in the form that the operations between products take."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmzip.models.convert import IntegerModel


class LayerVectors(NamedTuple):
    """Float32 vectors; None where the model has no such vector.

    Attributes:
        bias: of queries, keys and values [q+2kv].
        q_gain, k_gain: of the norms of queries [q] and keys [kv]. A gain that all heads share is repeated for each.
        read_attention, read_ffn: gains of what attention and feed-forward read [width].
        o_gain, down_gain: gains of what they give [width].
        o_bias, gate_up_bias, down_bias: of these matrices.
    """

    bias: NDArray[Any] | None
    q_gain: NDArray[Any] | None
    k_gain: NDArray[Any] | None
    read_attention: NDArray[Any] | None
    o_gain: NDArray[Any] | None
    read_ffn: NDArray[Any] | None
    down_gain: NDArray[Any] | None
    o_bias: NDArray[Any] | None
    gate_up_bias: NDArray[Any] | None
    down_bias: NDArray[Any] | None


def layer_vectors(model: IntegerModel, i: int) -> LayerVectors:
    """Those of layer i."""
    c, found = model.config, model.tensors
    q_gain, k_gain = found.get(f"{i}.q_norm"), found.get(f"{i}.k_norm")
    if c.head_norm == "head" and q_gain is not None and k_gain is not None:
        q_gain, k_gain = np.tile(q_gain, c.heads), np.tile(k_gain, c.kv_heads)
    gains = (found.get(f"{i}.{part}.norm") for part in ("qkv", "o", "gate_up", "down"))
    biases = (found.get(f"{i}.{part}.bias") for part in ("o", "gate_up", "down"))
    return LayerVectors(found.get(f"{i}.qkv.bias"), q_gain, k_gain, *gains, *biases)
