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
from llmzip.models.config import LlamaConfig
from llmzip.models.convert import MATRICES, IntegerModel
from llmzip.models.tokenizer import TokenizerSpec
from llmzip.parameters import AttentionSpan

_SPAN, _LOCAL_WINDOW, _LANES = AttentionSpan(window=100, sinks=3), 20, 2
_KNOWN = LlamaConfig(
    layers=2, width=64, heads=4, kv_heads=2, head_dim=32, ffn=128, vocab=90, rope_base=10000.0, norm_eps=float(np.float32(1e-5)), bos=0
)  # fmt: skip
_KNOWN_ANSWERS = "d770be558ce8b0f2d76b566e9e2aa0eecd4cbe047e1a11455c39a43187b41c4b"  # SHA-256 of the answers of a small model of this shape
_NO_TOKENIZER = TokenizerSpec.__new__(TokenizerSpec)


def small_model(config: LlamaConfig) -> IntegerModel:
    """A random model of two layers, with heads as in `config`."""
    group, kv = config.heads // config.kv_heads, min(config.kv_heads, 2)
    c = replace(
        config, layers=2, width=64, heads=group * kv, kv_heads=kv, ffn=128, vocab=90, bos=0, opening=(),
        local_heads=(0,), local_window=_LOCAL_WINDOW,
    )  # fmt: skip
    rng = np.random.RandomState(1)  # gives the same numbers in every version of numpy
    rows = {
        "embed": (c.vocab, c.width), "head": (c.vocab, c.width), "qkv": (c.query_width + 3 * c.kv_width, c.width),
        "o": (c.width, c.query_width), "gate_up": (2 * c.ffn, c.width), "down": (c.width, c.ffn),
    }  # fmt: skip
    tensors: dict[str, Any] = {}
    for name in ("embed", "head", *(f"{i}.{part}" for i in range(c.layers) for part in MATRICES)):
        part = name.rpartition(".")[2]
        n, k = rows[part]
        tensors[name] = rng.randint(-127, 128, (n, k)).astype(np.int16 if part == "embed" else np.int8)
        scales = n - c.kv_width if part == "qkv" else n
        tensors[f"{name}.scale"] = (rng.random_sample(scales).astype(np.float32) + np.float32(0.5)) / np.float32(60 * k**0.5)
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


@cache
def prove_definition(device: torch.device) -> None:
    """Raise InexactMachineError unless the reference operations give the known answers on `device`."""
    digest = hashlib.sha256()
    small = small_model(_KNOWN)
    for answer in _answers(Transformer(small, gemm.KERNELS["float64"], TorchOps(small.config), device), (1, 70, 1, 40)):
        digest.update(answer.astype(answer.dtype.newbyteorder("<")).tobytes())
    if digest.hexdigest() != _KNOWN_ANSWERS:
        raise InexactMachineError(
            f"torch does not compute on {device.type} as it should; another library in this process may have changed its settings, so use llmzip "
            "in a process of its own, or use another torch build"
        )
