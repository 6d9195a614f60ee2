"""Compiled code proves itself before it is used.

A compiler's mistake, a processor's quirk, or kernels cached from another version would break archives quietly. So at
start a small random model, whose heads have the size of the real one's, runs through the compiled paths, window, sinks
and slides of the cache included, and must come out as it does by the reference operations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from llmzip.engine.transformer import Transformer
from llmzip.models.config import LlamaConfig
from llmzip.models.convert import MATRICES, IntegerModel
from llmzip.models.tokenizer import TokenizerSpec

_WINDOW, _NEAR_WINDOW, _SINKS, _LANES = 100, 20, 3, 2
_NO_TOKENIZER = TokenizerSpec.__new__(TokenizerSpec)


def small_model(config: LlamaConfig) -> IntegerModel:
    """A random model of two layers with heads as `config` has them."""
    group, kv = config.heads // config.kv_heads, min(config.kv_heads, 2)
    c = replace(
        config, layers=2, width=64, heads=group * kv, kv_heads=kv, ffn=128, vocab=90, bos=0, opening=(),
        near_heads=(0,), near_window=_NEAR_WINDOW,
    )  # fmt: skip
    rng = np.random.default_rng(1)
    rows = {
        "embed": (c.vocab, c.width), "head": (c.vocab, c.width), "qkv": (c.query_width + 3 * c.kv_width, c.width),
        "o": (c.width, c.query_width), "gate_up": (2 * c.ffn, c.width), "down": (c.width, c.ffn),
    }  # fmt: skip
    tensors: dict[str, Any] = {}
    for name in ("embed", "head", *(f"{i}.{part}" for i in range(c.layers) for part in MATRICES)):
        part = name.rpartition(".")[2]
        n, k = rows[part]
        tensors[name] = rng.integers(-127, 128, (n, k)).astype(np.int16 if part == "embed" else np.int8)
        scales = n - c.kv_width if part == "qkv" else n
        tensors[f"{name}.scale"] = (rng.random(scales, dtype=np.float32) + np.float32(0.5)) / np.float32(60 * k**0.5)
    return IntegerModel(c, _NO_TOKENIZER, tensors)


def agree(a: Transformer, b: Transformer, many: int) -> bool:
    """Whether two engines for one model give the same bits, a row at a time, few and `many` together."""
    rng = np.random.default_rng(2)
    calls = (1, 5, -(-many // _LANES), 1, 9)
    caches = [t.cache(_LANES, _WINDOW, _SINKS, 1 << 20, 64) for t in (a, b)]
    for steps in calls * 2:
        tokens = rng.integers(0, a.config.vocab, (_LANES, steps)).astype(np.int32)
        hidden = [t.advance(tokens, cache) for t, cache in zip((a, b), caches, strict=True)]
        logits = [t.logits(h) for t, h in zip((a, b), hidden, strict=True)]
        pairs = ((logits[0], logits[1]), *((getattr(hidden[0], part), getattr(hidden[1], part)) for part in ("q", "scale")))
        if not all(np.array_equal(x, y) for x, y in pairs):
            return False
    return True
