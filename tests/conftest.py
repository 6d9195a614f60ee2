"""Shared fixtures: the tiny model everywhere, the real one where a test is marked `real`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the program does; read when numba or torch is imported

from llmzip.codec.codec import Codec
from llmzip.models import resolve
from llmzip.models.convert import IntegerModel, convert
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.models.sources import load_float_model
from tests.support import profiles, tiny
from tests.support.codecs import fixed_codec

QUICK = "not slow"
LAST = "test_the_quick_loop_reaches_every_module"


def pytest_configure(config: pytest.Config) -> None:
    # A shell lets what it runs in the background ignore SIGINT, and the programs that tests start would inherit that.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    profiles.choose(os.environ.get("HYPOTHESIS_PROFILE") or ("quick" if QUICK in config.option.markexpr else "ci"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "real_model" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real)
            item.add_marker(pytest.mark.slow)
    whole = not any(arg for arg in config.args if arg.rstrip("/").rpartition("/")[2] != "tests")
    last = [item for item in items if item.name == LAST]
    items[:] = [item for item in items if item not in last] + (last if whole else [])  # it looks at what the others have imported


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


@pytest.fixture(scope="session")
def codec(tiny_model: IntegerModel) -> Codec:
    return fixed_codec(tiny_model)


@pytest.fixture
def same_working_directory() -> Iterator[None]:
    """Fail a test that leaves the process in another folder, where the next tests would run. Looks after `monkeypatch` has restored its own changes."""
    before = os.getcwd()
    yield
    after = os.getcwd()
    os.chdir(before)
    assert after == before


@pytest.fixture(autouse=True)
def plain_environment(same_working_directory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLMZIP_MODEL", "LLMZIP_DEVICE", "LLMZIP_OFFLINE", "LLMZIP_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
