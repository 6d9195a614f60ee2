"""Every family against transformers: as many bits as its float32 predictions, on a small checkpoint that it made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from llmzip.coding.block_coder import BlockCoder
from llmzip.engine import build
from llmzip.models.convert import IntegerModel, convert
from llmzip.models.sources import load_float_model
from llmzip.parameters import FROZEN, AttentionSpan
from tests.support import families

STEPS = 300  # far longer than the windows


def bits(model: IntegerModel, tokens: list[int]) -> float:
    """Sum of -log2 of the probabilities that the engine gives to tokens."""
    transformer, n = build.build(model, device="cpu", ops="torch"), len(tokens)
    cache = transformer.cache(1, AttentionSpan(1024, 4), n, n)
    hidden = transformer.advance(np.array([[model.config.bos, *tokens[:-1]]], np.int32), cache)
    logits = torch.from_numpy(transformer.logits(hidden)).double() * np.log(2)
    return float(-logits.log_softmax(-1)[torch.arange(n), torch.tensor(tokens)].sum() / np.log(2))


@pytest.mark.parametrize("outliers", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["plain", "outliers"])
@pytest.mark.parametrize("name", families.FAMILIES)
def test_as_many_bits_as_transformers(name: str, outliers: bool, tmp_path: Path) -> None:
    model = families.checkpoint(name, outliers)
    folder = families.write(tmp_path / "model", model)
    tokens = families.sample(model, STEPS)
    float_bits = families.bits(model, tokens)
    assert bits(convert(load_float_model(folder)), tokens) == pytest.approx(float_bits, rel=0.01)
    families.change(folder, families.FAMILIES[name].without)
    assert bits(convert(load_float_model(folder)), tokens) > 1.04 * float_bits  # so the comparison would notice


@pytest.mark.parametrize("name", families.FAMILIES)
@pytest.mark.slow
def test_bitstreams(name: str, tmp_path: Path) -> None:
    """The compiled engine, in two lanes and back; and in one lane, as many bits as transformers' model."""
    model = families.checkpoint(name)
    converted = convert(load_float_model(families.write(tmp_path / "model", model)))
    tokens = families.sample(model, STEPS)
    transformer, symbols = build.build(converted, device="cpu", threads=2), np.array(tokens, np.int32)
    assert transformer.fused
    coder = BlockCoder(transformer, converted.config.vocab + 256, AttentionSpan(1024, 4), FROZEN, threads=2)
    assert np.array_equal(coder.decode(coder.encode(symbols, 2), STEPS, 2), symbols)
    stream = coder.encode(symbols, 1)
    assert np.array_equal(coder.decode(stream, STEPS, 1), symbols)
    assert len(stream) == pytest.approx(families.bits(model, tokens) / 8, rel=0.01, abs=4)  # the coder ends with whole bytes
