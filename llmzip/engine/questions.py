"""What engines are asked when they are proven: a small random model, random tokens, and what the definition answers."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from llmzip.engine.engine import Engine
from llmzip.models.config import ModelConfig
from llmzip.models.convert import IntegerModel, tensor_layout
from llmzip.models.tokenizer import TokenizerSpec
from llmzip.parameters import AttentionSpan

LANES = 2
_SPAN, _LOCAL_WINDOW, _LAYER_WINDOW, _STEPS = AttentionSpan(window=100, sinks=3), 20, 50, 400
KNOWN = (  # SHA-256 of the answers of `definition.KINDS`: what the definition is known by
    "a835a6da8294685ab3c4e6725e9a7620aab0d54cd2412f47133b9ee14051a91d",
    "20328574688a4a9575c690aa85bbb0c98ff8c82c808269b6c1b170fb5c3d5b13",
    "0341ea0f3cebdc984d1bc768056fd9434c85be4a4d76eaab754049b64f1d1323",
    "9223c9ffadca62c980db7347041947376f73c4d93c48273097b9526a03868171",
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


def answers(engine: Engine, calls: tuple[int, ...]) -> str:
    """SHA-256 of hidden states, their scales and logits of random tokens. How many steps each call feeds, in turn, does not affect it."""
    rng = np.random.RandomState(2)
    tokens = rng.randint(0, engine.config.vocab, (LANES, _STEPS)).astype(np.int32)
    cache = engine.cache(LANES, _SPAN, 1 << 20, max(calls))
    digest, done, i = hashlib.sha256(), 0, 0
    found: list[list[Any]] = []
    while done < _STEPS:
        some = tokens[:, done : done + calls[i % len(calls)]]
        hidden = engine.advance(some, cache)
        state = hidden.on_host()
        parts = [state.q, state.scale, engine.logits(hidden), *([state.unit] if engine.config.plain_stream else [])]
        found.append([part.reshape(*some.shape, -1) for part in parts])
        done, i = done + some.shape[1], i + 1
    for kind in zip(*found, strict=True):
        answer = np.concatenate(kind, axis=1)
        digest.update(answer.astype(answer.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
