"""Proves learning before it is used, as `engine.probe` does for the engine, and for the same reasons.

A small random model learns from random tokens. Hidden states and corrections must be those of the definition, whose own answers for some kinds
of models are known.
"""

from __future__ import annotations

import contextlib
import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from llmzip.engine import questions
from llmzip.engine.corrections import Corrections
from llmzip.engine.engine import Engine
from llmzip.errors import InexactMachineError, ModelUnavailableError
from llmzip.learning import learner
from llmzip.models import notes
from llmzip.models.config import ModelConfig
from llmzip.models.convert import IntegerModel
from llmzip.models.workspace import NotWritableError
from llmzip.parameters import DOWN, GATE_UP, VALUES, AttentionSpan, CorrectionParameters

if TYPE_CHECKING:
    from llmzip.engine.compiled import CompiledTransformer

KNOWN = (  # SHA-256 of the answers of `definition.KINDS`
    "f30e270af40d65e9891d8130c5bc6f3ed4f6d38b7ed78273f80a0e38bcb5a991",
    "e25e543a3ebe0084c7331b462c4e90fa4a6979777a169952eb40e757bb112981",
    "f068a3222fc19f0db6a993bcd4bc853cd2cac0e244be0ac71050afa5527dd8e5",
    "815ef5af57f0ec3a3fb9666926399ade266636d2a987db66264e65401632148d",
)
_SPAN, _LANES, _STEPS, _DRAWS = AttentionSpan(window=100, sinks=3), 2, 70, 3
_PARAMETERS = CorrectionParameters(rank=5, segment=_LANES * _STEPS, rate=200, matrices=VALUES | GATE_UP | DOWN)
_CALLS = ((70,), (1, 5, 64), (33, 37))  # steps of each call, by segment; the first makes many rows
_THREADS = 2  # at most; more of them do the same
_NOTES = "learning"  # folder of the cache

_proven: WeakSet[Engine] = WeakSet()


def prove(engine: Engine) -> None:
    """Raise InexactMachineError unless an engine, and what learns for it, give the answers of the definition for a model of its kind."""
    from llmzip.engine.compiled import CompiledTransformer

    if engine in _proven:
        return
    if isinstance(engine, CompiledTransformer):
        model = questions.small_model(engine.config)
        found = answers(CompiledTransformer(model, min(engine.threads, _THREADS), _with_amx(engine)))
        if found not in (_known_answers(model), _known_answers(model, again=True)):
            raise InexactMachineError(
                "compiled code that learns is inexact on this machine; set NUMBA_CACHE_DIR to an empty folder, or use another machine or numba build"
            )
    else:
        prove_definition()
    _proven.add(engine)


def compile_part(config: dict[str, Any]) -> None:
    """Compile a part of the code that learns, for models of this kind; `config`: by `ModelConfig.as_dict`."""
    from llmzip.engine.compiled import CompiledTransformer
    from llmzip.engine.probe import expects_amx
    from llmzip.learning.compiled import CompiledLearner

    engine = CompiledTransformer(questions.small_model(ModelConfig.from_dict(config)), 1, expects_amx())
    cache = engine.cache(_LANES, _SPAN, _STEPS, _STEPS, _STEPS)
    CompiledLearner(engine, Corrections(engine.config, _PARAMETERS, cache, _LANES), _PARAMETERS).compile_queries()


def _with_amx(engine: CompiledTransformer) -> bool:
    from llmzip.engine.kernels.amx import WITH

    return engine.amx is WITH


@cache
def prove_definition() -> None:
    """Raise InexactMachineError unless the definition gives the known answers."""
    from llmzip.engine import definition

    if tuple(_by_definition(questions.small_model(kind)) for kind in definition.KINDS) != KNOWN:
        raise InexactMachineError("torch does not compute as it should; use llmzip in a process of its own, or use another torch build")


def _by_definition(model: IntegerModel) -> str:
    import torch

    from llmzip.engine import gemm
    from llmzip.engine.transformer import Transformer

    return answers(Transformer(model, gemm.KERNELS["float64"], torch.device("cpu")))


def _known_answers(model: IntegerModel, again: bool = False) -> str:
    """The answers of the definition for a small model: from the cache, unless `again`; otherwise it is computed, and kept."""
    kind = hashlib.sha256(repr((model.config, KNOWN)).encode()).hexdigest()
    with contextlib.suppress(ModelUnavailableError):  # there is no cache
        if not again and (known := notes.read(_NOTES, kind).get("sha256")):
            return known
    prove_definition()
    answer = _by_definition(model)
    with contextlib.suppress(ModelUnavailableError, NotWritableError):
        notes.write(_NOTES, kind, {"sha256": answer})
    return answer


def answers(engine: Engine, calls: tuple[tuple[int, ...], ...] = _CALLS) -> str:
    """SHA-256 of hidden states and corrections, while random tokens are fed and learned from. How many steps each call feeds does not affect it."""
    rng = np.random.RandomState(5)
    vocab, steps = engine.config.vocab, len(calls) * _STEPS
    tokens = rng.randint(0, vocab, (_LANES, steps)).astype(np.int32)
    kept = engine.cache(_LANES, _SPAN, 1 << 20, _STEPS, _STEPS)
    mine = learner.make(engine, _PARAMETERS, kept, _LANES)
    digest, at = hashlib.sha256(), 0
    for segment in calls:
        states = []
        for t in segment:
            hidden = engine.advance(tokens[:, at : at + t], kept, mine.corrections).on_host()
            states.append([x.reshape(_LANES, t, -1) for x in (hidden.q, hidden.scale)])
            at += t
        drawn = rng.randint(0, vocab, (_LANES * _STEPS, _DRAWS)).astype(np.int32)
        mine.step(drawn, rng.randint(0, vocab + 5, _LANES * _STEPS).astype(np.int32))
        for kind in zip(*states, strict=True):
            _add(digest, np.concatenate(kind, axis=1))
        for name in Corrections.LEARNED:
            _add(digest, getattr(mine.corrections, name))
    return digest.hexdigest()


def _add(digest: hashlib._Hash, values: np.ndarray) -> None:
    digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
