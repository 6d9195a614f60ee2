"""Every family against transformers: as many bits as its float32 predictions, on a small checkpoint that it made."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from llmzip.coding.block_coder import BlockCoder
from llmzip.engine import build
from llmzip.engine.compiled import CompiledTransformer
from llmzip.models.convert import convert
from llmzip.models.float_model import Factors, FloatModel
from llmzip.models.sources import load_float_model
from llmzip.parameters import FROZEN, AttentionSpan
from tests.support import families

TEXTS, STEPS = 4, 100  # far longer than the windows
SPAN = AttentionSpan(1024, 4)
pytestmark = pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")  # its new name is not in all versions


@dataclass(frozen=True)
class Made:
    """A small checkpoint, as llmzip reads it; texts that it wrote itself, and their bits by transformers' float32."""

    model: FloatModel
    texts: NDArray[np.int32]
    float_bits: float


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def made(name: str, outliers: bool) -> Made:
        model = families.checkpoint(name, outliers)
        texts = families.samples(model, TEXTS, STEPS)
        folder = families.write(tmp_path_factory.mktemp("family") / name, model)
        return Made(load_float_model(folder), texts, families.bits(model, texts))

    return made


def bits(model: FloatModel, texts: NDArray[np.int32]) -> float:
    """Sum of -log2 of the probabilities that the engine gives to texts."""
    transformer = build.build(convert(model), device="cpu", kernel="torch")
    hidden = transformer.advance(families.after_start(model.config.bos, texts), transformer.cache(len(texts), SPAN, STEPS, STEPS))
    logits = torch.from_numpy(transformer.logits(hidden)).view(*texts.shape, -1).double() * np.log(2)
    return families.cost(logits, texts)


@pytest.mark.parametrize("outliers", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["plain", "outliers"])
@pytest.mark.parametrize("name", families.FAMILIES)
def test_as_many_bits_as_transformers(name: str, outliers: bool, make: Any) -> None:
    made = make(name, outliers)
    assert made.float_bits < 0.75 * made.texts.size * np.log2(made.model.config.vocab)  # sharp predictions, of which errors show
    assert bits(made.model, made.texts) == pytest.approx(made.float_bits, rel=0.01)


FORGOTTEN = [(name, changes) for name, family in families.FAMILIES.items() for changes in family.forgotten]


@pytest.mark.parametrize(("name", "changes"), FORGOTTEN, ids=[f"{name}-{next(iter(changes))}" for name, changes in FORGOTTEN])
def test_what_is_forgotten_shows(name: str, changes: dict[str, Any], make: Any) -> None:
    """So the comparison would notice."""
    made = make(name, False)
    factors = {field.name for field in fields(Factors)}
    if changes.keys() <= factors:
        other = replace(made.model, factors=replace(made.model.factors, **changes))
    else:
        other = replace(made.model, config=replace(made.model.config, **changes))
    assert other != made.model
    assert bits(other, made.texts) > 1.02 * made.float_bits


@pytest.mark.parametrize("name", families.FAMILIES)
@pytest.mark.slow
def test_bitstreams(name: str, make: Any) -> None:
    """The compiled engine, in two lanes and back; and in one lane, as many bits as transformers' model."""
    model = families.checkpoint(name)
    converted = convert(make(name, False).model)
    tokens = families.samples(model, 1, 300)
    transformer, symbols = build.build(converted, device="cpu", threads=2), tokens[0]
    assert isinstance(transformer, CompiledTransformer)
    coder = BlockCoder(transformer, converted.config.vocab + 256, SPAN, FROZEN, threads=2)
    assert np.array_equal(coder.decode(coder.encode(symbols, 2), len(symbols), 2), symbols)
    stream = coder.encode(symbols, 1)
    assert np.array_equal(coder.decode(stream, len(symbols), 1), symbols)
    assert len(stream) == pytest.approx(families.bits(model, tokens) / 8, rel=0.01, abs=4)  # the coder ends with whole bytes
