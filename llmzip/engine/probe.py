"""Proves compiled code before it is used.

A bug of a compiler, a quirk of a processor, or kernels cached by another version would break archives silently. So at every start a small random
model, with heads of the same size as the real one's, runs through the compiled code, including window, sinks and slides of the cache. Its
answers must be those of the definition (`definition`). Those are computed once for each kind of model, and then kept in the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from dataclasses import replace
from typing import Any

import numpy as np

from llmzip.engine.engine import Engine
from llmzip.errors import ModelUnavailableError
from llmzip.models import notes
from llmzip.models.config import ModelConfig
from llmzip.models.convert import IntegerModel, tensor_layout
from llmzip.models.tokenizer import TokenizerSpec
from llmzip.models.workspace import NotWritableError
from llmzip.parameters import AttentionSpan

_log = logging.getLogger(__name__)

_SPAN, _LOCAL_WINDOW, _LAYER_WINDOW, _LANES, _STEPS = AttentionSpan(window=100, sinks=3), 20, 50, 2, 400
_THREADS = 4  # at most; more of them do the same
_NOTES = "answers"  # folder of the cache
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
    tokens = rng.randint(0, engine.config.vocab, (_LANES, _STEPS)).astype(np.int32)
    cache = engine.cache(_LANES, _SPAN, 1 << 20, max(calls))
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


def is_exact(config: ModelConfig, threads: int, amx: bool = False) -> bool:
    """Whether compiled code gives the answers of the definition for a model of this kind. `amx`: as for `CompiledTransformer`.

    Raises:
        InexactMachineError: the definition itself does not compute as it should, which is seen only if its answers are not known yet.
    """
    from llmzip.engine.compiled import CompiledTransformer
    from llmzip.engine.kernels.layers import MANY_ROWS

    model, threads = small_model(config), min(threads, _THREADS)
    try:
        calls = (1, 5, -(-MANY_ROWS * threads // _LANES), 1, 9)
        found = answers(CompiledTransformer(model, threads, amx), calls)
    except Exception:  # broken code may raise anything
        _log.debug("compiled kernels failed", exc_info=True)
        return False
    return found == known_answers(model) or found == known_answers(model, again=True)


def known_answers(model: IntegerModel, again: bool = False) -> str:
    """The answers of the definition for a small model: from the cache, unless `again`; otherwise it is computed, and kept."""
    kind = hashlib.sha256(repr((model.config, KNOWN)).encode()).hexdigest()
    with contextlib.suppress(ModelUnavailableError):  # there is no cache
        if not again and (known := notes.read(_NOTES, kind).get("sha256")):
            return known
    from llmzip.engine import definition

    answer = definition.answers(model)
    with contextlib.suppress(ModelUnavailableError, NotWritableError):
        notes.write(_NOTES, kind, {"sha256": answer})
    return answer
