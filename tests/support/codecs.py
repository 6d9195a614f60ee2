"""Codecs with a model in hand, and a text to code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModels, PretrainedModel
from llmzip.codec.policy import Policy
from llmzip.models.convert import IntegerModel
from llmzip.options import Options

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "examples" / "harbour.txt").read_bytes()


def fixed_codec(model: IntegerModel, model_id: str = "local:tiny", policy: Policy = Policy.SMALLEST, **options: Any) -> Codec:
    """A codec with a model in hand instead of one looked up by name."""
    made = Options(**options)
    return Codec(made, blocks=BlockCodec(LoadedModels(made, PretrainedModel(model_id, model, made)), policy))


def eager_codec(model: IntegerModel, **options: Any) -> Codec:
    """A codec that codes everything with the model, however badly it predicts."""
    return fixed_codec(model, policy=Policy.MODEL, **options)
