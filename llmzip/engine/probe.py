"""Proves compiled code before it is used.

A bug of a compiler, a quirk of a processor, or kernels cached by another version would break archives silently. So at every start a small random
model, with heads of the same size as the real one's, runs through the compiled code, including window, sinks and slides of the cache. Its
answers must be those of the definition (`definition`). Those are computed once for each kind of model, and then kept in the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from typing import Any

from llmzip.engine import questions
from llmzip.errors import ModelUnavailableError
from llmzip.models import notes
from llmzip.models.config import ModelConfig
from llmzip.models.convert import IntegerModel
from llmzip.models.workspace import NotWritableError

_log = logging.getLogger(__name__)

_THREADS = 4  # at most; more of them do the same
_NOTES = "answers"  # folder of the cache


def is_exact(config: ModelConfig, threads: int, amx: bool = False) -> bool:
    """Whether compiled code gives the answers of the definition for a model of this kind. `amx`: as for `CompiledTransformer`.

    Raises:
        InexactMachineError: the definition itself does not compute as it should, which is seen only if its answers are not known yet.
    """
    from llmzip.engine.compiled import CompiledTransformer
    from llmzip.engine.kernels.layers import MANY_ROWS

    model, threads = questions.small_model(config), min(threads, _THREADS)
    try:
        calls = (1, 5, -(-MANY_ROWS * threads // questions.LANES), 1, 9)
        found = questions.answers(CompiledTransformer(model, threads, amx), calls)
    except Exception:  # broken code may raise anything
        _log.debug("compiled kernels failed", exc_info=True)
        return False
    return found == known_answers(model) or found == known_answers(model, again=True)


def compile_part(config: dict[str, Any], part: str) -> None:
    """Compile a part of the code for models of this kind, see `CompiledTransformer.compile_part`. `config`: by `ModelConfig.as_dict`."""
    from llmzip.engine.compiled import CompiledTransformer

    CompiledTransformer(questions.small_model(ModelConfig.from_dict(config)), 1, expects_amx()).compile_part(part)


def expects_amx() -> bool:
    """Whether code will be compiled for AMX. That it works is not proven yet, so nothing may be run."""
    from llmzip.engine import amx
    from llmzip.engine.kernels.quads import have_instruction

    return have_instruction() and amx.announced()


def known_answers(model: IntegerModel, again: bool = False) -> str:
    """The answers of the definition for a small model: from the cache, unless `again`; otherwise it is computed, and kept."""
    kind = hashlib.sha256(repr((model.config, questions.KNOWN)).encode()).hexdigest()
    with contextlib.suppress(ModelUnavailableError):  # there is no cache
        if not again and (known := notes.read(_NOTES, kind).get("sha256")):
            return known
    from llmzip.engine import definition

    answer = definition.answers(model)
    with contextlib.suppress(ModelUnavailableError, NotWritableError):
        notes.write(_NOTES, kind, {"sha256": answer})
    return answer
