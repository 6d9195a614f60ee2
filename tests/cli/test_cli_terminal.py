"""The command line at a terminal: the bar, where there is none, and archives that are not written to it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmzip.models import resolve
from tests.support.codecs import TEXT
from tests.support.terminal import at_terminal

pytestmark = pytest.mark.slow

PLAIN = bytes(5000)  # packed without a model


def steps(shown: bytes) -> list[str]:
    """What a bar showed, one after another."""
    return [step for step in shown.decode().replace("\n", "").split("\r") if step]


@pytest.fixture
def tiny(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The tiny model, converted already."""
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    resolve.pull(str(tiny_folder), quiet=True)
    return {"LLMZIP_MODEL": str(tiny_folder), "TERM": "xterm-256color"}


def test_bar(tmp_path: Path, tiny: dict[str, str]) -> None:
    """Bytes, speed, time left and the ratio so far, both ways, before the first block is done; no colours, and not too often."""
    (tmp_path / "a.txt").write_bytes(TEXT[:2500])
    there = at_terminal("stderr", "a.txt", cwd=tmp_path, **tiny)  # type: ignore[arg-type]
    back = at_terminal("stderr", "-dc", "a.txt.llz", cwd=tmp_path, **tiny)  # type: ignore[arg-type]
    assert back[2] == TEXT[:2500]
    size = (tmp_path / "a.txt.llz").stat().st_size
    for name, (code, shown, _) in {"a.txt": there, "a.txt.llz": back}.items():
        assert code == 0
        assert b"\x1b" not in shown
        found = steps(shown)
        assert len(found) < 300  # ten a second
        assert all(step.startswith(f"{name}: ") for step in found)
        middle = [
            s for s in found if re.search(r" [1-9]\d?%\|.* \d+(\.\d+)?k?/2\.50k \[\d+:\d+<\d+:\d+, +[\d.]+k?B/s, ratio \d\.\d\d\]$", s)
        ]
        assert middle, found
        last = re.search(r"100%\|.* 2\.50k/2\.50k \[.*B/s, ratio (\d\.\d\d)\]$", found[-1])
        assert last, found
        assert abs(float(last[1]) - 2500 / size) < 0.1


def test_bar_where_the_terminal_has_no_width(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(PLAIN)
    code, shown, _ = at_terminal("stderr", "-c", "a", columns=0, cwd=tmp_path)
    assert code == 0
    assert "100%|" in steps(shown)[-1]
    assert len(steps(shown)[-1]) == 80


def test_no_bar(tmp_path: Path) -> None:
    """Quiet, or where standard error is no terminal; other tests have that in a pipe it is empty."""
    (tmp_path / "a").write_bytes(PLAIN)
    assert at_terminal("stderr", "-qc", "a", cwd=tmp_path)[:2] == (0, b"")
    assert at_terminal("stdout", "a", cwd=tmp_path) == (0, b"", b"")
    assert at_terminal("stderr", "-l", "a.llz", cwd=tmp_path)[:2] == (0, b"")


def test_archives_are_not_written_to_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(PLAIN)
    for args in (["-c", "a"], ["compress", "-o", "-", "a"], ["compress"]):
        code, shown, errors = at_terminal("stdout", *args, cwd=tmp_path)
        assert (code, shown) == (1, b"")
        assert errors.count(b"\n") == 1
        assert b"terminal" in errors
        assert b"-f" in errors
    code, shown, _ = at_terminal("stdout", "-cf", "a", cwd=tmp_path)
    assert code == 0
    (tmp_path / "a.llz").write_bytes(shown)
    assert at_terminal("stdout", "-dc", "a.llz", cwd=tmp_path)[:2] == (0, PLAIN)  # content goes anywhere
