"""The package's surface: what it exports, what importing it loads, its page, and the examples."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import llmzip
from llmzip import errors
from llmzip.models.convert import IntegerModel
from scripts import make_api
from tests.support.codecs import ROOT, TEXT


def python(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], env=os.environ | env, cwd=ROOT, capture_output=True, text=True, check=False)


def test_importing_is_light() -> None:
    code = """
import sys, llmzip
heavy = {"torch", "numpy", "numba", "tokenizers", "fsspec"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert "open" in dir(llmzip)
llmzip.Options(level=3)
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    result = python("-c", code)
    assert (result.returncode, result.stderr) == (0, "")


def test_types_come_with_it() -> None:
    """The file that says so is in the package, and in what is built of it."""
    assert (ROOT / "llmzip" / "py.typed").exists()
    assert '"py.typed"' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_exports() -> None:
    for name in llmzip.__all__:
        assert getattr(llmzip, name) is not None
    kinds = {n for n, e in vars(errors).items() if isinstance(e, type) and issubclass(e, llmzip.LLZError)}
    assert kinds <= set(llmzip.__all__)
    assert set(llmzip.__all__) <= set(dir(llmzip))
    with pytest.raises(AttributeError, match="nothing"):
        llmzip.nothing  # noqa: B018


def test_page_is_current() -> None:
    assert make_api.PAGE.read_text("utf-8") == make_api.page(), "run scripts/make_api.py"


def test_page_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_api, "PAGE", tmp_path / "api.md")
    monkeypatch.setattr(sys, "argv", ["make_api.py", "--check"])
    with pytest.raises(SystemExit, match="not current"):
        make_api.main()
    make_api.PAGE.write_text(make_api.page(), "utf-8")
    make_api.main()


def test_compress_and_decompress(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path))
    text, model = TEXT[:1200], str(tiny_folder)
    archives = {level: llmzip.compress(text, level=level, model=model, lanes=2, threads=1, device="cpu") for level in (1, 6)}
    assert len(archives[1]) != len(archives[6])
    for archive in archives.values():
        assert llmzip.decompress(archive, model=model, threads=1, device="cpu") == text
    codec = llmzip.Codec(llmzip.Options(model=model, level=1, lanes=2))
    assert codec.compress(text) == archives[1]


@pytest.mark.parametrize("arguments", [{"level": 10}, {"lanes": 0}, {"threads": 0}])
def test_arguments_out_of_range(arguments: dict[str, int]) -> None:
    with pytest.raises(llmzip.ParameterError):
        llmzip.compress(b"", **arguments)  # type: ignore[arg-type]


@pytest.mark.slow
def test_example_with_files(tiny_folder: Path, tmp_path: Path) -> None:
    result = python("examples/files.py", LLMZIP_MODEL=str(tiny_folder), LLMZIP_CACHE=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "heights: {'harbour': 3.1, 'inner basin': 2.8}" in result.stdout
    assert "packed: ['python_api.py']" in result.stdout


@pytest.mark.slow
def test_example_with_tables(tiny_folder: Path, tmp_path: Path) -> None:
    result = python("examples/tables.py", LLMZIP_MODEL=str(tiny_folder), LLMZIP_CACHE=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "highest: {'harbour': 3.3, 'inner basin': 3.4, 'lighthouse': 3.6, 'river mouth': 3.5}" in result.stdout
    assert "rows: [10, 10, 4]" in result.stdout
    assert "tables: {'harbour.csv': 6, 'inner basin.csv': 6, 'lighthouse.csv': 6, 'river mouth.csv': 6}" in result.stdout


def test_example_with_bytes(real_model: IntegerModel) -> None:
    result = python("examples/python_api.py")
    assert result.returncode == 0, result.stderr
    assert "refused:" in result.stdout
