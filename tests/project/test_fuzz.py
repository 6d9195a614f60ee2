"""A short run of each fuzz target: inputs of two seeds, of which one is new in a long run. scripts/fuzz.py runs them for longer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmzip.archive import records as rec
from llmzip.codec.any_model import LoadedModel
from llmzip.errors import DamagedMessageError
from llmzip.message import text_forms
from llmzip.models.convert import IntegerModel
from tests.support.fuzzing import campaign, coding, containers, modelfiles, mutation, repairing
from tests.support.profiles import examples, fresh_seed

pytestmark = pytest.mark.slow


def run(target: Callable[[Any], str], inputs: Callable[[Random], Iterator[Any]], count: int) -> campaign.Tally:
    """Of a fixed seed `count` inputs, and half as many of another."""
    fresh = fresh_seed()
    both = (itertools.islice(inputs(Random(seed)), n) for seed, n in ((0, count), (fresh, count // 2)))
    tally = campaign.run("", target, itertools.chain.from_iterable(both))
    for data, error in tally.broken:
        raise AssertionError(f"seed 0 or {fresh}: {data!r}") from error
    return tally


@pytest.fixture(autouse=True)
def no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "nothing"))


@pytest.fixture(scope="module")
def loaded(tiny_model: IntegerModel) -> LoadedModel:
    return coding.codec_of(tiny_model).blocks.models.own()


def test_containers() -> None:
    tally = run(containers.records, containers.inputs, 3000)
    assert {"accepted", "NotAnArchiveError", "DamagedArchiveError", "UnsupportedArchiveError"} == set(tally.outcomes)
    assert tally.slowest[0] < 0.5


@given(st.binary())
@settings(max_examples=examples(300), deadline=None)
def test_any_bytes_as_a_container(data: bytes) -> None:
    containers.records(data)
    containers.records(rec.frame_start() + data)
    containers.records(rec.frame_start() + b"".join(mutation.record(bytes([tag]), data[1:]) for tag in data[:1]))


def test_range_decoder() -> None:
    assert {"out of step", "decoded"} == set(run(coding.range_decoder, coding.random_streams, 60).outcomes)


def test_symbols(tiny_model: IntegerModel) -> None:
    run(coding.Symbols(tiny_model), coding.texts, 300)


def test_messages(tiny_model: IntegerModel) -> None:
    messages = coding.Messages(tiny_model)
    run(messages, messages.inputs, 4)


@given(st.sampled_from(sorted(text_forms.TEXT_FORMS)), st.one_of(st.text(), st.text("ABCdef234-_= \n")))
@settings(max_examples=examples(300), deadline=None)
def test_any_text_as_a_message(form: str, text: str) -> None:
    try:
        data = text_forms.read(text, form)
    except DamagedMessageError:
        return
    assert text_forms.read(text_forms.write(data, form), form) == data


def test_archives(tiny_model: IntegerModel, loaded: LoadedModel) -> None:
    tally = run(coding.Archives(coding.codec_of(tiny_model), 4), lambda rng: coding.archives(rng, loaded), 60)
    assert {"decoded", "DamagedArchiveError", "NotReproducedError"} <= set(tally.outcomes)


def test_flipped_bits(tiny_model: IntegerModel, loaded: LoadedModel) -> None:
    """All are noticed by the CRCs; with these right again, by other checks or not at all, where they are of no consequence."""
    small = coding.seeds(loaded)[0]
    archives = coding.Archives(coding.codec_of(tiny_model), 4)
    tally = run(archives, lambda _: mutation.flips(small), 8 * len(small))
    assert "decoded" not in tally.outcomes
    flips = list(mutation.rechecked_flips(small))
    tally = run(archives, lambda rng: iter(rng.sample(flips, 60)), 40)
    assert "NotReproducedError" in tally.outcomes


def test_salvage(tiny_model: IntegerModel, loaded: LoadedModel) -> None:
    tally = run(coding.Salvages(coding.codec_of(tiny_model)), lambda rng: coding.damaged(rng, loaded), 60)
    assert {"salvaged", "complete"} <= set(tally.outcomes)


def test_repairs() -> None:
    assert {"repaired", "whole", "DamagedArchiveError"} <= set(run(repairing.repaired, repairing.inputs, 200).outcomes)


@pytest.mark.parametrize("kind", ["gguf", "folder", "export"])
def test_model_files(kind: str, tmp_path: Path) -> None:
    files = modelfiles.Files(tmp_path, every=60)
    tally = run(getattr(files, kind), getattr(files, f"{kind}s"), 200)
    assert tally.outcomes["accepted"]
