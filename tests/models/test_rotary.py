"""Scaled rotary positions: the divisors, where they come from, and that they reach the engine."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import llmzip
from llmzip.engine.rope import rotation, turn_fractions
from llmzip.errors import ModelFormatError
from llmzip.models.convert import convert
from llmzip.models.rotary import divisors, partly
from llmzip.models.sources import load_float_model
from tests.support import tiny
from tests.support.codecs import ROOT, TEXT
from tests.support.tiny_gguf import write_gguf

LLAMA = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
SMALL = LLAMA | {"original_max_position_embeddings": 64}  # in which all three kinds of pairs of the tiny model occur


def straightforward(rope: dict[str, float], base: float, h: int) -> list[float]:
    """Llama 3.1's rule in binary64, by wavelengths, as its authors published it."""
    out = []
    for i in range(h // 2):
        pace = base ** (-2 * i / h)
        wavelength, context = 2 * math.pi / pace, rope["original_max_position_embeddings"]
        if wavelength < context / rope["high_freq_factor"]:
            scaled = pace
        elif wavelength > context / rope["low_freq_factor"]:
            scaled = pace / rope["factor"]
        else:
            smooth = (context / wavelength - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
            scaled = (1 - smooth) * pace / rope["factor"] + smooth * pace
        out.append(pace / scaled)
    return out


@pytest.mark.parametrize(("base", "h"), [(500000.0, 128), (500000.0, 64), (10000.0, 16)])
@pytest.mark.parametrize("rope", [LLAMA, LLAMA | {"factor": 32.0}, SMALL])
def test_divisors_follow_the_published_rule(rope: dict[str, float], base: float, h: int) -> None:
    found = divisors("x", rope, base, h)
    assert np.allclose(found, straightforward(rope, base, h), rtol=1e-6)
    assert all(x == float(np.float32(x)) for x in found)
    assert found[0] == 1


@pytest.mark.parametrize(("h", "turning"), [(64, 16), (80, 20), (96, 24), (16, 12)])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_part_of_a_head_turns_as_a_head_of_that_size(h: int, turning: int, scaled: bool) -> None:
    slower = tuple(1.0 + i for i in range(turning // 2)) if scaled else ()
    base, found = partly(10000.0, h, turning, slower)
    assert found[turning // 2 :] == (0.0,) * ((h - turning) // 2)
    whole, part = turn_fractions(base, h, found), turn_fractions(10000.0, turning, slower)
    assert np.allclose(whole[: turning // 2].astype(float), part.astype(float), rtol=1e-14)
    assert not whole[turning // 2 :].any()


def test_whole_heads_turn_as_before() -> None:
    assert partly(500000.0, 128, 128, ()) == (500000.0, ())
    assert partly(10000.0, 64, 16, ())[0] == 1e16


@pytest.mark.parametrize("when", ["imported", "called"])
def test_the_callers_decimal_context_changes_nothing(when: str) -> None:
    """Neither its precision nor its traps."""
    code = f"""
import decimal
strange = decimal.Context(prec=3, rounding=decimal.ROUND_UP, traps=[decimal.FloatOperation, decimal.Inexact])
if {when == "imported"}:
    decimal.setcontext(strange)
from llmzip.models.rotary import divisors
decimal.setcontext(strange)
print(divisors("x", {LLAMA}, 500000.0, 128), divisors("x", {{"type": "linear", "factor": 4.1}}, 500000.0, 2))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    expected = divisors("x", LLAMA, 500000.0, 128), divisors("x", {"type": "linear", "factor": 4.1}, 500000.0, 2)
    assert (done.stderr, done.stdout) == ("", f"{expected[0]} {expected[1]}\n")


def test_linear_and_default() -> None:
    assert divisors("x", {"type": "linear", "factor": 4}, 10000.0, 8) == (4.0,) * 4
    assert divisors("x", {"rope_type": "default"}, 10000.0, 8) == divisors("x", {}, 10000.0, 8) == ()
    for odd in ({"rope_type": "yarn", "factor": 4.0}, LLAMA | {"attention_factor": 1.1}):
        with pytest.raises(ModelFormatError):
            divisors("x", odd, 10000.0, 8)
    with pytest.raises(ModelFormatError, match="not below"):
        divisors("x", LLAMA | {"low_freq_factor": 4.0}, 10000.0, 8)


def test_rotation_turns_more_slowly() -> None:
    slower = divisors("x", LLAMA, 500000.0, 64)
    p = np.array([0, 1, 1000, 123_456])
    got = rotation(p, 500000.0, 64, slower).astype(np.float64)
    angle = (p[:, None] * 500000.0 ** (-np.arange(32) / 32) / np.array(slower)) % (2 * np.pi)
    assert np.abs(got[:, 0] - np.cos(angle)).max() < 3e-4
    assert np.abs(got[:, 1] - np.sin(angle)).max() < 3e-4
    assert np.array_equal(turn_fractions(500000.0, 64, (1.0,) * 32), turn_fractions(500000.0, 64))


@pytest.fixture
def scaled(tmp_path: Path) -> Path:
    """The tiny model's folder, with scaled positions."""
    folder = tiny.write_folder(tmp_path / "scaled")
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(settings | {"rope_scaling": SMALL}), "utf-8")
    return folder


def test_a_folder_and_a_gguf_file_give_the_same_model(scaled: Path, tmp_path: Path) -> None:
    model = convert(load_float_model(scaled))
    slower = model.config.rope_divisors
    assert len(set(slower)) > 2
    assert max(slower) == 8
    path = write_gguf(tmp_path / "m.gguf", scaled, lambda w: w.add_tensor("rope_freqs.weight", np.array(slower, np.float32)))
    assert convert(load_float_model(path)).digest() == model.digest()
    assert model.digest() != convert(load_float_model(tiny.write_folder(tmp_path / "plain"))).digest()


def test_archives_come_back_and_differ(scaled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    archive = llmzip.compress(TEXT[:1500], model=str(scaled))
    assert llmzip.decompress(archive) == TEXT[:1500]
    plain = llmzip.compress(TEXT[:1500], model=str(tiny.write_folder(tmp_path / "plain")))
    assert archive[-200:] != plain[-200:]


@pytest.mark.parametrize("wrong", [(1.0,) * 7, (0.5,) * 8, (2000.0,) * 8, (float("nan"),) * 8, (1.1,) * 8, (1,) * 8])
def test_wrong_divisors(wrong: tuple[float, ...]) -> None:
    from dataclasses import replace

    with pytest.raises(ModelFormatError):
        replace(tiny.config(), rope_divisors=wrong)
