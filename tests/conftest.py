"""Shared fixtures: the tiny model everywhere, the real one where a test is marked `real`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the program does; read when torch is imported

import tiny

from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModel, LoadedModels
from llmzip.codec.policy import Policy
from llmzip.models import resolve
from llmzip.models.convert import IntegerModel, convert
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.models.sources import load_float_model
from llmzip.options import Options

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "examples" / "harbour.txt").read_bytes()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "real_model" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> IntegerModel:
    return convert(load_float_model(tiny_folder))


@pytest.fixture(scope="session")
def real_model() -> IntegerModel:
    """The default model, fetched and converted on first use."""
    return resolve.load(DEFAULT_MODEL)


def fixed_codec(model: IntegerModel, model_id: str = "local:tiny", policy: Policy = Policy.SMALLEST, **options: Any) -> Codec:
    """A codec with a model in hand instead of one looked up by name."""
    made = Options(**options)
    return Codec(made, blocks=BlockCodec(LoadedModels(made, LoadedModel(model_id, model, made)), policy))


def eager_codec(model: IntegerModel, **options: Any) -> Codec:
    """A codec that codes everything with the model, however badly it predicts."""
    return fixed_codec(model, policy=Policy.MODEL, **options)


@pytest.fixture(scope="session")
def codec(tiny_model: IntegerModel) -> Codec:
    return fixed_codec(tiny_model)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLMZIP_MODEL", "LLMZIP_DEVICE", "LLMZIP_OFFLINE", "LLMZIP_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
