"""LayerNorm is folded into the weights: what comes out is what it computes, and the same numbers everywhere."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file

from llmzip.errors import ModelFormatError
from llmzip.models.convert import convert
from llmzip.models.layer_norm import centred, folded, product
from llmzip.models.sources import load_float_model
from tests.support import families


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape[0]).normal(1.0, 2.0, shape).astype(np.float32)


def test_sums_are_rounded_once_as_far_as_that_can_be() -> None:
    w, v = random(9, 400), random(400)
    for row, total in zip(w, product(w, v), strict=True):
        assert total == pytest.approx(math.fsum(float(a) * float(b) for a, b in zip(row, v, strict=True)), rel=1e-14, abs=1e-12)
    for column, found in zip(w.T, centred(w).T, strict=True):
        mean = math.fsum(column.tolist()) / len(column)
        assert np.array_equal(found, (column.astype(np.float64) - mean).astype(np.float32))
    assert np.array_equal(centred(w.T.copy().T), centred(w))  # however it lies in memory


def test_an_rms_norm_is_enough() -> None:
    """Of a stream that the folded weights write."""
    stored = {
        "embed": random(50, 64), "head": random(51, 64), "norm": random(64), "norm_bias": random(64)[::-1].copy(), "0.up": random(128, 64),
        "0.up_bias": random(128), "0.ffn_norm": random(64) + 1, "0.ffn_norm_bias": random(64), "0.o": random(64, 32), "0.o_bias": random(64) - 3,
    }  # fmt: skip
    weights = folded(stored.__getitem__)
    read = random(32)

    def stream(named: dict[str, np.ndarray]) -> torch.Tensor:
        return torch.tensor(named["embed"][3] + named["o"] @ read + named["o_bias"])

    x = stream({"embed": stored["embed"], "o": stored["0.o"], "o_bias": stored["0.o_bias"]})
    y = stream({"embed": weights("embed"), "o": weights("0.o"), "o_bias": weights("0.o_bias")})
    assert abs(float(y.mean())) < 1e-5 < abs(float(x.mean()))
    for matrix, norm, bias in (("0.up", "0.ffn_norm", "0.up_bias"), ("head", "norm", "head_bias")):
        gain, shift = torch.tensor(stored[norm]), torch.tensor(stored[f"{norm}_bias"])
        wanted = torch.tensor(stored[matrix]) @ F.layer_norm(x, (64,), gain, shift) + torch.tensor(
            stored.get(bias, np.zeros(1, np.float32))
        )
        assert np.array_equal(weights(matrix), stored[matrix])
        found = torch.tensor(weights(matrix)) @ F.rms_norm(y, (64,), gain, 1e-5) + torch.tensor(weights(bias))
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-3)
    assert weights("head_bias").dtype == weights("embed").dtype == np.float32


def test_buffers_of_older_libraries_are_no_weights(tmp_path: Path) -> None:
    folder = families.write(tmp_path / "it", families.checkpoint("gpt_neox"))
    expected = convert(load_float_model(folder)).digest()
    path = folder / "model.safetensors"
    tensors = load_file(path)
    before = "gpt_neox.layers.0.attention."
    buffers = {
        "bias": np.ones((1, 1, 8, 8), np.bool_),
        "masked_bias": np.full((), -1e9, np.float32),
        "rotary_emb.inv_freq": np.ones(4, np.float32),
    }
    save_file(tensors | {before + name: values for name, values in buffers.items()}, path)
    assert convert(load_float_model(folder)).digest() == expected
    save_file(tensors | {before + "other": np.ones(4, np.float32)}, path)
    with pytest.raises(ModelFormatError, match="other"):
        load_float_model(folder)


def test_a_folded_value_that_is_too_large_is_refused(tmp_path: Path) -> None:
    model = families.checkpoint("gpt_neox")
    with torch.inference_mode():
        model.gpt_neox.final_layer_norm.bias.fill_(1e30)
    folder = families.write(tmp_path / "it", model)
    with pytest.raises(ModelFormatError, match=r"head\.bias are out of range"):
        convert(load_float_model(folder))
