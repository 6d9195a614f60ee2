"""The definition of every coded bit: the reference operations of torch, with float64 products. It is proven before it is used.

Any library in the process may change torch's settings. So it must first give the known answers for small models of all kinds.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from llmzip.engine import gemm, questions
from llmzip.engine.transformer import Transformer
from llmzip.errors import InexactMachineError
from llmzip.models.config import ModelConfig
from llmzip.models.convert import IntegerModel

_CALLS = (1, 70, 1, 40)
_PLAIN = ModelConfig(
    layers=2, width=64, heads=4, kv_heads=2, head_dim=32, ffn=128, vocab=90, rope_base=10000.0, norm_eps=float(np.float32(1e-5)), bos=0
)  # fmt: skip
_NORMED = replace(
    _PLAIN, layer_windows=(0, 40), window_rope_base=100.0, head_norm="head", qkv_bias=True, spread_heads=True, plain_stream=True,
    post_norm=True, activation="gelu_tanh",
)  # fmt: skip
_NORMED_AFTER = replace(_PLAIN, unrotated_layers=(0,), head_norm="all", plain_stream=True, pre_norm=False, post_norm=True)
_BIASED = replace(
    _PLAIN, spread_heads=True, qkv_bias=True, plain_stream=True, activation="gelu_tanh", gated=False, biases=True, parallel=True
)
KINDS = (_PLAIN, _NORMED, _NORMED_AFTER, _BIASED)


@cache
def prove(device: torch.device) -> None:
    """Raise InexactMachineError unless the definition gives the known answers on `device`."""
    found = tuple(_answers(questions.small_model(kind), device) for kind in KINDS)
    if found != questions.KNOWN:
        raise InexactMachineError(
            f"torch does not compute on {device.type} as it should; another library in this process may have changed its settings, so use "
            "llmzip in a process of its own, or use another torch build"
        )


def answers(model: IntegerModel) -> str:
    """The answers (`questions.answers`) of a small model by the definition.

    Raises:
        InexactMachineError: torch does not compute as it should.
    """
    place = torch.device("cpu")
    prove(place)
    return _answers(model, place)


def _answers(model: IntegerModel, device: torch.device) -> str:
    return questions.answers(Transformer(model, gemm.KERNELS["float64"], device), _CALLS)
