"""Which engine computes: compiled code if it is proven, torch otherwise; and when torch is asked for the proof."""

from __future__ import annotations

import ctypes
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmzip.codec.codec import Codec
from llmzip.engine import build, definition, probe, questions
from llmzip.engine.compiled import CompiledTransformer
from llmzip.engine.hidden import Hidden
from llmzip.engine.kernels.layers import few_rows, many_rows, run_shares
from llmzip.engine.kernels.logits import head_kernel
from llmzip.engine.kernels.tiles import MOST_INPUTS
from llmzip.engine.transformer import Transformer
from llmzip.errors import DeviceError, InexactMachineError, ModelUnavailableError
from llmzip.models import notes, store
from llmzip.models.convert import IntegerModel
from llmzip.parameters import AttentionSpan
from tests.support import tiny
from tests.support.codecs import TEXT, eager_codec

SPAN = AttentionSpan(40, 4)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The answers that the definition gave, in order."""
    given: list[str] = []
    exact = definition.answers

    def answers(model: IntegerModel) -> str:
        given.append(exact(model))
        return given[-1]

    monkeypatch.setattr(definition, "answers", answers)
    return given


def kept(cache: Path) -> list[Path]:
    return list((cache / "answers").glob("*"))


def is_compiled(model: IntegerModel) -> bool:
    return isinstance(build.build(model, device="cpu"), CompiledTransformer)


def read_only(model: IntegerModel) -> IntegerModel:
    """The same with tensors as they are in a mapped file."""
    tensors = {name: tensor.copy() for name, tensor in model.tensors.items()}
    for tensor in tensors.values():
        tensor.flags.writeable = False
    return replace(model, tensors=tensors)


# --- what is chosen


@pytest.mark.parametrize(("kernel", "name"), [(None, "compiled"), ("torch", "torch on cpu"), ("float64", "torch on cpu, float64 products")])
def test_ways_of_computing(tiny_model: IntegerModel, kernel: str | None, name: str) -> None:
    engine = build.build(tiny_model, device="cpu", threads=2, kernel=kernel)
    assert engine.name.startswith(name)
    assert isinstance(engine, CompiledTransformer if kernel is None else Transformer)
    assert (engine.threads, engine.config) == (2, tiny_model.config)


def test_shapes_that_kernels_cannot_run() -> None:
    c = tiny.config()
    assert CompiledTransformer.fits(c)
    assert CompiledTransformer.fits(replace(c, width=MOST_INPUTS, ffn=MOST_INPUTS))
    assert not CompiledTransformer.fits(replace(c, head_dim=24))
    assert not CompiledTransformer.fits(replace(c, width=MOST_INPUTS + 64))
    assert not CompiledTransformer.fits(replace(c, ffn=MOST_INPUTS + 64))
    assert not CompiledTransformer.fits(replace(c, heads=MOST_INPUTS // 16 + 2))
    engine = build.build(questions.small_model(replace(c, head_dim=8)), device="cpu")
    assert isinstance(engine, Transformer)
    hidden = engine.advance(np.array([[1, 2, 3]], np.int32), engine.cache(1, SPAN, 3, 3))
    assert engine.logits(hidden).shape == (3, 90)


def test_logits_in_room_of_the_caller(tiny_model: IntegerModel) -> None:
    """Whichever engine: no more than the rows asked for are written."""
    for kernel in (None, "torch"):
        engine = build.build(tiny_model, device="cpu", kernel=kernel)
        hidden = engine.advance(np.array([[1, 2, 3]], np.int32), engine.cache(1, SPAN, 3, 3))
        room = np.full((5, tiny_model.config.vocab), 7, np.float32)
        logits = engine.logits(hidden, room)
        assert np.shares_memory(logits, room)
        assert np.array_equal(logits, engine.logits(hidden))
        assert (room[3:] == 7).all()


def test_the_code_that_was_proven_is_the_code_that_runs(tiny_model: IntegerModel) -> None:
    """Numba compiles a function again for arrays that cannot be written, as a cached model's."""
    model = read_only(tiny_model)
    assert is_compiled(tiny_model)
    before = [list(kernel.signatures) for kernel in (few_rows, many_rows, run_shares, head_kernel)]
    engine = build.build(model, device="cpu")
    engine.logits(engine.advance(np.array([[1, 2, 3]], np.int32), engine.cache(1, SPAN, 3, 3)))
    assert [list(kernel.signatures) for kernel in (few_rows, many_rows, run_shares, head_kernel)] == before


def test_torch_says_nothing_of_tensors_that_cannot_be_written(tiny_model: IntegerModel) -> None:
    model = read_only(tiny_model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = build.build(model, device="cpu", kernel="float64")
        engine.logits(engine.advance(np.array([[1, 2, 3]], np.int32), engine.cache(1, SPAN, 3, 3)))


# --- devices


def test_absent_device(tiny_model: IntegerModel) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(DeviceError, match="--device cpu"):
        build.build(tiny_model, device="cuda")


def test_unknown_device(tiny_model: IntegerModel) -> None:
    for device in ("gpu", "", "cuda:0"):
        with pytest.raises(DeviceError, match="auto, cpu or cuda"):
            build.build(tiny_model, device=device)


def test_a_driver_is_found_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def library(name: str, found: bool) -> None:
        asked.append(name)
        if not found:
            raise OSError(name)

    for platform, driver in (("linux", "libcuda.so.1"), ("win32", "nvcuda.dll"), ("darwin", None)):
        monkeypatch.setattr("sys.platform", platform)
        monkeypatch.setattr("os.path.exists", lambda _: False)
        for found in (True, False):
            asked.clear()
            monkeypatch.setattr(ctypes, "CDLL", lambda name, found=found: library(name, found))
            assert build._may_have_cuda() == (found and driver is not None)
            assert asked == ([driver] if driver else [])
        monkeypatch.setattr("os.path.exists", lambda path: path == "/dev/kfd")
        assert build._may_have_cuda()


def test_a_driver_without_a_device(tiny_model: IntegerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_may_have_cuda", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert isinstance(build.build(tiny_model), CompiledTransformer)
    assert isinstance(build.build(tiny_model, kernel="float64"), Transformer)


# --- the proof


def test_the_definition_is_asked_once_for_each_kind(tiny_model: IntegerModel, cache: Path, asked: list[str]) -> None:
    assert is_compiled(tiny_model)
    assert len(asked) == len(kept(cache)) == 1
    assert json.loads(kept(cache)[0].read_text())["sha256"] == asked[0]
    assert is_compiled(tiny_model)
    assert is_compiled(replace(tiny_model, tensors=dict(tiny_model.tensors)))
    assert len(asked) == 1
    other = replace(tiny_model, config=replace(tiny_model.config, rope_base=5000.0))
    assert is_compiled(other)
    assert is_compiled(other)
    assert len(asked) == len(set(asked)) == len(kept(cache)) == 2


def _wrong(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sha256": "0" * 64}))


def _other_name(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"name": "other"}))


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "another answer": _wrong,
    "of another kind": _other_name,
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "no object": lambda file: file.write_bytes(b"[1]"),
    "no text": lambda file: file.write_text('{"name": 1, "sha256": 2}'),
    "no answer": lambda file: file.write_text(json.dumps({"name": json.loads(file.read_text())["name"]})),
    "no UTF-8": lambda file: file.write_bytes(b"\xff" * 100),
    "missing": Path.unlink,
    "a folder": _folder,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_answer_is_found_again(tiny_model: IntegerModel, cache: Path, asked: list[str], damage: str) -> None:
    assert is_compiled(tiny_model)
    (file,) = kept(cache)
    content = file.read_bytes()
    DAMAGES[damage](file)
    assert is_compiled(tiny_model)
    assert len(asked) == 2
    if damage != "a folder":  # nothing can be kept in its place
        assert file.read_bytes() == content
        assert is_compiled(tiny_model)
        assert len(asked) == 2


def test_a_cache_that_cannot_be_written(
    tiny_model: IntegerModel, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "file" / "cache"))
    assert is_compiled(tiny_model)
    assert is_compiled(tiny_model)
    assert len(asked) == 2


def test_no_cache_at_all(tiny_model: IntegerModel, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise ModelUnavailableError("this user has no home")

    monkeypatch.setattr(store, "cache_dir", none)
    assert is_compiled(tiny_model)
    assert len(asked) == 1


def _last_bit(engine: CompiledTransformer, hidden: Hidden, room: Any = None) -> Any:
    return np.nextafter(_exact_logits(engine, hidden, room), np.float32(np.inf))


def _another_state(engine: CompiledTransformer, tokens: Any, cache: Any) -> Hidden:
    hidden = _exact_advance(engine, tokens, cache)
    hidden.q[-1, -1] += 1
    return hidden


def _broken(*_: Any) -> Any:
    raise SystemError("stale code")


_exact_logits, _exact_advance = CompiledTransformer.logits, CompiledTransformer.advance
WRONG = {
    "the last bit of logits": ("logits", _last_bit),
    "one number of one state": ("advance", _another_state),
    "an error": ("advance", _broken),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_compiled_code_that_differs_is_not_used(
    tiny_model: IntegerModel, codec: Codec, cache: Path, wrong: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert is_compiled(tiny_model)
    (file,) = kept(cache)
    content = file.read_bytes()
    caplog.set_level("INFO", "llmzip")
    with monkeypatch.context() as patch:
        patch.setattr(CompiledTransformer, *WRONG[wrong])
        assert isinstance(build.build(tiny_model, device="cpu"), Transformer)
        assert "compiled kernels are inexact on this machine" in caplog.text
        archive = eager_codec(tiny_model, device="cpu").compress(TEXT[:300])
    assert file.read_bytes() == content  # wrong answers are not kept
    caplog.clear()
    assert is_compiled(tiny_model)
    assert "inexact" not in caplog.text
    assert codec.decompress(archive) == TEXT[:300]


def test_a_definition_that_is_wrong(tiny_model: IntegerModel, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is computed with it; but where its answers are known, it is not needed."""
    definition.prove.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(questions, "KNOWN", ("0" * 64, *questions.KNOWN[1:]))
            with pytest.raises(InexactMachineError, match="torch does not compute on cpu as it should"):
                build.build(tiny_model, device="cpu")
            with pytest.raises(InexactMachineError, match="torch does not compute"):
                build.build(tiny_model, device="cpu", kernel="float64")
            assert not kept(cache)
        assert is_compiled(tiny_model)
        monkeypatch.setattr(definition, "answers", _broken)
        assert is_compiled(tiny_model)
    finally:
        definition.prove.cache_clear()


def test_answers_of_another_definition_are_not_taken(tiny_model: IntegerModel, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the definition ever change, what is kept is of no use."""
    model = questions.small_model(tiny_model.config)
    known = probe.known_answers(model)
    monkeypatch.setattr(definition, "answers", lambda _: "new")
    assert probe.known_answers(model) == known
    monkeypatch.setattr(questions, "KNOWN", ("0" * 64, *questions.KNOWN[1:]))
    assert probe.known_answers(model) == "new"
    assert len(list(notes.names("answers"))) == 2


def test_how_steps_are_divided_does_not_matter(tiny_model: IntegerModel) -> None:
    engine = CompiledTransformer(questions.small_model(tiny_model.config), 2)
    assert questions.answers(engine, (1, 5, 300)) == questions.answers(engine, (400,)) == questions.answers(engine, (7, 1, 64))
