"""`llmzip message` in this process, on the tiny model. What whole processes do is in test_cli_classic."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llmzip.cli import main

TEXT = "the thing and the other"


@pytest.fixture
def tiny(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LLMZIP_MODEL", str(tiny_folder))


def message(*args: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(main, ["message", *args], input=stdin)


@pytest.mark.usefixtures("tiny")
def test_there_and_back() -> None:
    made = message(TEXT)
    assert (made.exit_code, made.stderr) == (0, "")
    assert made.stdout == message(*TEXT.split()).stdout == message(stdin=TEXT.encode() + b"\n").stdout
    assert message("-d", made.stdout.strip()).stdout == TEXT + "\n"
    for form in ("base32", "hex", "raw"):
        written = message("-n", "--format", form, stdin=TEXT.encode())
        assert message("-d", "-n", "--format", form, stdin=written.stdout_bytes).stdout_bytes == TEXT.encode()


@pytest.mark.usefixtures("tiny")
def test_by_lines() -> None:
    made = message("--lines", stdin=b"one\n\nthe third")
    assert message("-d", "--lines", stdin=made.stdout_bytes).stdout_bytes == b"one\n\nthe third\n"
    broken = message("-d", "--lines", stdin=made.stdout_bytes.replace(made.stdout_bytes.splitlines()[0], b"!!!"))
    assert (broken.exit_code, broken.stdout_bytes, broken.stderr.count("line 1")) == (1, b"\n\nthe third\n", 1)


@pytest.mark.usefixtures("tiny")
def test_what_is_no_message() -> None:
    result = message("-d", "not a message!")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "not a message" in result.stderr
