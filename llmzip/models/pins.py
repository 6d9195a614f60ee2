"""Digests that a model of the registry must have: the registry's, or else those that the first pull gave, which the cache remembers."""

from __future__ import annotations

from typing import NamedTuple

from llmzip.errors import ModelMismatchError
from llmzip.models import notes
from llmzip.models.convert import IntegerModel
from llmzip.models.registry import REGISTRY

_KIND = "digests"


class Pin(NamedTuple):
    """Digest of a model's weights and hash of its tokenizer, in hexadecimal."""

    digest: str
    tokenizer: str


def expected(model_id: str) -> Pin | None:
    """What a model must have; None if that is not known, or if the model is not in the registry."""
    known = REGISTRY.get(model_id)
    if known is None:
        return None
    if known.digest:
        return Pin(known.digest, known.tokenizer_hash)
    learned = notes.read(_KIND, model_id)
    return Pin(learned["digest"], learned["tokenizer"]) if {"digest", "tokenizer"} <= learned.keys() else None


def fits(model_id: str, model: IntegerModel) -> bool:
    """Whether this may be the model of that name."""
    return expected(model_id) in (None, of(model))


def check(model_id: str, model: IntegerModel) -> None:
    """Raise ModelMismatchError if this model must be another one."""
    if fits(model_id, model):
        return
    wanted, found = expected(model_id), of(model)
    assert wanted
    advice = f"run: llmzip models pull --force {model_id}"
    if not REGISTRY[model_id].digest:
        advice = f"that is what was here first; to take the new ones, delete {notes.place(_KIND, model_id)}"
    raise ModelMismatchError(
        f"model {model_id} has weights {found.digest} and tokenizer {found.tokenizer}, expected {wanted.digest} and {wanted.tokenizer}; {advice}"
    )


def learn(model_id: str, model: IntegerModel) -> None:
    """Remember what a model of the registry has, if nothing is known yet.

    Raises:
        NotWritableError: the cache cannot be written.
    """
    if model_id in REGISTRY and expected(model_id) is None:
        notes.write(_KIND, model_id, of(model)._asdict())


def of(model: IntegerModel) -> Pin:
    """What a model has."""
    return Pin(model.digest().hex(), model.tokenizer.hash.hex())
