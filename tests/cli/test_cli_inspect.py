"""`llmzip inspect`, and what the other commands tell of their work, in this process, on the tiny model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llmzip.cli import main
from tests.support import tiny

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


def test_models_side_by_side(file: str, tiny_folder: Path, tmp_path: Path) -> None:
    other = tiny.write_folder(tmp_path / "other", seed="other")
    both = ["inspect", file, "--model", str(tiny_folder), "--model", str(other)]
    table = llmzip(*both)
    assert (table.exit_code, table.stderr) == (0, "")
    head, columns, *lines = table.stdout.splitlines()
    assert head == f"{file}: {len(TEXT)} bytes, level 6"
    assert columns.split() == ["archive", "bits/byte", "tokens", "bits/token", "foreseen"]
    assert len({len(line) for line in (columns, *lines)}) == 1
    rows = {row[0]: row[1:] for row in (re.split("  +", line) for line in lines)}
    sizes = [int(cells[0]) for cells in rows.values()]
    assert sizes == sorted(sizes)
    assert {"xz -9", "gzip -9"} < set(rows)
    alone = {
        f"local:{folder.name}": json.loads(llmzip("inspect", "--json", "--model", str(folder), file).stdout)
        for folder in (tiny_folder, other)
    }
    for name, found in alone.items():
        assert rows[name][:3] == [str(found["archive_bytes"]), f"{found['bits_per_byte']:.4f}", str(len(found["tokens"]))]
    assert json.loads(llmzip(*both, "--json").stdout) == list(alone.values())
    page = llmzip(*both, "--html", str(tmp_path / "page.html"))
    assert (page.exit_code, (tmp_path / "page.html").exists()) == (2, False)


@pytest.mark.parametrize("command", [["inspect"], ["message"]])
def test_offline(file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]) -> None:
    monkeypatch.delenv("LLMZIP_MODEL")
    result = CliRunner().invoke(main, [*command, "--offline"], input=TEXT)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "not fetched offline" in result.stderr


def test_compress_explains_and_verifies(file: str) -> None:
    result = llmzip("compress", "--explain", "--verify", file)
    assert result.exit_code == 0, result.stderr
    assert "model" in result.stderr
    assert llmzip("test", file + ".llz").exit_code == 0
