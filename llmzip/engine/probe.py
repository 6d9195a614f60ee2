"""Proves compiled code before it is used.

A bug of a compiler, a quirk of a processor, or kernels cached by another version would break archives silently. So at the start a small random
model, with heads of the same size as the real one's, runs through the compiled paths, including window, sinks and slides of the cache. Its
results must be those of the reference operations.

The reference operations are torch's, and could be wrong, too: any library in the process may change torch's settings. So they are proven first,
on a model whose answers are known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llmzip.engine import gemm
from llmzip.engine.torch_ops import TorchOps
from llmzip.engine.transformer import Transformer
from llmzip.errors import InexactMachineError
from llmzip.models.config import ModelConfig
from llmzip.models.convert import IntegerModel, tensor_layout
from llmzip.models.tokenizer import TokenizerSpec
from llmzip.parameters import AttentionSpan

_SPAN, _LOCAL_WINDOW, _LAYER_WINDOW, _LANES = AttentionSpan(window=100, sinks=3), 20, 50, 2
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
_KNOWN = (  # shapes of small models, and SHA-256 of their answers
    (_PLAIN, "d770be558ce8b0f2d76b566e9e2aa0eecd4cbe047e1a11455c39a43187b41c4b"),
    (_NORMED, "00f23b3fd7fe5f566de16185b465ad391ce0f31e55b62222d709e7c7ad9af0b5"),
    (_NORMED_AFTER, "23e15f4f0fef2bd4bb9939d021679d0dc0f644289537ac8a805fc7e04db839de"),
    (_BIASED, "5dabe7ac6860dd7ec49a01df5419e57165521239a6b2e760770e7ee325686b56"),
)
_NO_TOKENIZER = TokenizerSpec.__new__(TokenizerSpec)


def small_model(config: ModelConfig) -> IntegerModel:
    """A random model of two layers, with heads as in `config`."""
    group, kv = config.heads // config.kv_heads, min(config.kv_heads, 2)
    c = replace(
        config, layers=2, width=64, heads=group * kv, kv_heads=kv, ffn=128, vocab=90, bos=0, opening=(),
        local_heads=(0,), local_window=_LOCAL_WINDOW, layer_windows=(0, _LAYER_WINDOW) if any(config.layer_windows) else (),
        unrotated_layers=(1,) if config.unrotated_layers else (),
    )  # fmt: skip
    rng = np.random.RandomState(1)  # gives the same numbers in every version of numpy
    tensors: dict[str, Any] = {}
    for name, (kind, shape) in tensor_layout(c).items():
        if kind != "float32":
            tensors[name] = rng.randint(-127, 128, shape).astype(kind)
            continue
        values = rng.random_sample(shape).astype(np.float32) + np.float32(0.5)
        matrix = name.removesuffix(".scale")
        tensors[name] = values / np.float32(60 * tensors[matrix].shape[1] ** 0.5) if name != matrix else values
    return IntegerModel(c, _NO_TOKENIZER, tensors)


def agree(a: Transformer, b: Transformer, many: int) -> bool:
    """Whether two engines for one model give the same bits: for one row at a time, for a few, and for `many`."""
    calls = (1, 5, -(-many // _LANES), 1, 9) * 2
    return all(np.array_equal(x, y) for x, y in zip(_answers(a, calls), _answers(b, calls), strict=True))


def _answers(transformer: Transformer, calls: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """Yield hidden states, their scales and logits of random tokens, with the given numbers of steps a call."""
    rng = np.random.RandomState(2)
    cache = transformer.cache(_LANES, _SPAN, 1 << 20, 64)
    for steps in calls:
        tokens = rng.randint(0, transformer.config.vocab, (_LANES, steps)).astype(np.int32)
        hidden = transformer.advance(tokens, cache)
        yield from (hidden.q.cpu().numpy(), hidden.scale.cpu().numpy(), transformer.logits(hidden))
        if transformer.config.plain_stream:
            yield hidden.unit.cpu().numpy()


@cache
def prove_definition(device: torch.device) -> None:
    """Raise InexactMachineError unless the reference operations give the known answers on `device`."""
    for config, known in _KNOWN:
        digest, small = hashlib.sha256(), small_model(config)
        for answer in _answers(Transformer(small, gemm.KERNELS["float64"], TorchOps(small.config), device), (1, 70, 1, 40)):
            digest.update(answer.astype(answer.dtype.newbyteorder("<")).tobytes())
        if digest.hexdigest() != known:
            raise InexactMachineError(
                f"torch does not compute on {device.type} as it should; another library in this process may have changed its settings, so use "
                "llmzip in a process of its own, or use another torch build"
            )
