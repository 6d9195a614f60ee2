"""Numbers that stand for registered models and for the parameters of levels, in a sole block. docs/format.md is the specification.

What a number stands for never changes: archives depend on it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from llmzip.options import NEW_ID
from llmzip.parameters import FROM_NOTHING, LEVELS, AdapterParameters, AttentionSpan

_LEVEL = 15  # mask of a level's number in the settings; each higher bit says that a part of the adapter learns
_PARTS = {"bias": 16, "neighbours": 32, "corrections": 64}


class Numbered(NamedTuple):
    """A registered model as a model record names it: its ID, and the first bytes of its digest and of its tokenizer's hash."""

    model_id: str
    digest: bytes
    tokenizer: bytes


MODELS = {
    1: Numbered("smollm2-135m-instruct", bytes.fromhex("9012862c1a075ede2012"), bytes.fromhex("221924eedf07")),
    2: Numbered("gemma3-270m", bytes.fromhex("0a3553858a71b1cc632c"), bytes.fromhex("7974fbff9184")),
    3: Numbered(NEW_ID, bytes.fromhex("9f63ec5d6b87cf4ce540"), bytes.fromhex("277089d91c0b")),
}
NEW_MODEL = MODELS[3]
_LEVELS = {0: FROM_NOTHING, **LEVELS}
_NUMBERS = {model: number for number, model in MODELS.items()}


def model_number(model: Numbered) -> int | None:
    """The number of a model; None if it has none."""
    return _NUMBERS.get(model)


def settings_of(span: AttentionSpan, adapter: AdapterParameters, symbols: int, lanes: int) -> int | None:
    """The number of a level's parameters with which parts of its adapter; None if they are those of no level.

    Args:
        span, adapter: the parameters.
        symbols: how many the block has.
        lanes: in how many lanes they lie.
    """
    numbers = (n + _parts(adapter) for n in _LEVELS)
    return next((n for n in numbers if meaning(n, symbols) == (span, adapter, lanes)), None)


def meaning(settings: int, symbols: int) -> tuple[AttentionSpan, AdapterParameters, int] | None:
    """Span, adapter and lanes that a number stands for, in a block of so many symbols; None if it stands for nothing."""
    level = _LEVELS.get(settings & _LEVEL)
    if level is None or settings > _LEVEL + sum(_PARTS.values()):
        return None
    full = level.adapter
    bias, neighbours, corrections = (getattr(full, name) if settings & bit else None for name, bit in _PARTS.items())
    adapter = replace(full, bias=bias, neighbours=neighbours, corrections=corrections)
    if _parts(adapter) != settings - (settings & _LEVEL):
        return None  # a part that the level does not have
    return level.span, adapter, level.lanes(symbols)


def _parts(adapter: AdapterParameters) -> int:
    return sum(bit for name, bit in _PARTS.items() if getattr(adapter, name))
