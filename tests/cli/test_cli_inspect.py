"""`llmzip inspect`, and what the other commands tell of their work, in this process, on the tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llmzip.cli import main

TEXT = b"the thing and the other in the rain, and the string of the thing\n" * 4


@pytest.fixture
def file(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LLMZIP_MODEL", str(tiny_folder))
    (tmp_path / "notes.txt").write_bytes(TEXT)
    return str(tmp_path / "notes.txt")


def llmzip(*args: str) -> Result:
    return CliRunner().invoke(main, args)


def test_inspect_in_every_form(file: str, tmp_path: Path) -> None:
    plain, coloured = llmzip("inspect", file), llmzip("inspect", "--color", "always", file)
    assert (plain.exit_code, coloured.exit_code) == (0, 0)
    assert "\x1b[" in coloured.stdout
    assert "\x1b[" not in plain.stdout
    found = json.loads(llmzip("inspect", "--json", file).stdout)
    assert "".join(token["text"] for token in found["tokens"]) == TEXT.decode()
    assert llmzip("inspect", "-q", "--html", str(tmp_path / "page.html"), file).exit_code == 0
    assert "</html>" in (tmp_path / "page.html").read_text("utf-8")
    assert llmzip("inspect", "--html", str(tmp_path / "page.html"), file).exit_code == 1  # it is there


def test_compress_explains_and_verifies(file: str) -> None:
    result = llmzip("compress", "--explain", "--verify", file)
    assert result.exit_code == 0, result.stderr
    assert "model" in result.stderr
    assert llmzip("test", file + ".llz").exit_code == 0
