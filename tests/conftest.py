"""Shared fixtures: the tiny model everywhere, the real one where a test is marked `real`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the program does; read when torch is imported

import tiny

from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModel
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


class FixedCodec(Codec):
    """A codec with a model in hand instead of one looked up by name."""

    def __init__(self, model: IntegerModel, model_id: str = "local:tiny", **options: object) -> None:
        super().__init__(Options(**options))  # type: ignore[arg-type]
        self._own = LoadedModel(model_id, model, self.options)
        self._loaded[self._own.digest] = self._own


@pytest.fixture(scope="session")
def codec(tiny_model: IntegerModel) -> Codec:
    return FixedCodec(tiny_model)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLMZIP_MODEL", "LLMZIP_DEVICE", "LLMZIP_OFFLINE", "LLMZIP_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
