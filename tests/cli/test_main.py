"""The program's start."""

from __future__ import annotations

import os

import pytest

from llmzip import __main__
from llmzip.system import processors
from tests.support.codecs import ROOT


@pytest.mark.parametrize(("given", "count"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)])
def test_waiting_threads_give_way_unless_the_user_says_otherwise(
    given: dict[str, str], count: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    processors.share()
    assert os.environ.get("GOMP_SPINCOUNT") == count


def test_the_installed_program_is_this_one() -> None:
    assert callable(__main__.run)
    assert 'llmzip = "llmzip.__main__:run"' in (ROOT / "pyproject.toml").read_text("utf-8")
