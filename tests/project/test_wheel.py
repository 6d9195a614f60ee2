"""What is built is what is needed: a wheel from which the program runs where nothing of the source tree is."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import llmzip
from tests.support.codecs import ROOT, TEXT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel, made of the files that belong to the project."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout.split(b"\0")
    names = [os.fsdecode(n) for n in listed if n] or [str(p.relative_to(ROOT)) for p in ROOT.glob("llmzip/**/*") if p.is_file()]
    for name in {*names, "pyproject.toml", "README.md", "LICENSE"}:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(out), str(source)], check=True, capture_output=True)
    return out


def test_contents(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as z:
        names = {n for n in z.namelist() if not n.split("/")[0].endswith(".dist-info")}
    wanted = {str(p.relative_to(ROOT)) for p in (ROOT / "llmzip").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert names == wanted
    assert {"llmzip/py.typed", "llmzip/inspection/page.html", "llmzip/models/golden/text.txt"} <= names
    with tarfile.open(sdist) as t:
        assert any(n.endswith("/llmzip/__init__.py") for n in t.getnames())


def test_the_program_runs_from_it(built: Path, tmp_path: Path) -> None:
    """In a fresh environment, which has the libraries of this one and nothing of its llmzip."""
    (wheel,) = built.glob("*.whl")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", str(wheel)], check=True)
    libraries = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], capture_output=True, text=True, check=True
    ).stdout.strip()
    Path(libraries, "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*args: str | Path, data: bytes = b"") -> bytes:
        return subprocess.run([*args], input=data, cwd=tmp_path, env=environment, capture_output=True, check=True).stdout

    where = run(python, "-c", "import llmzip; print(llmzip.__file__)").decode()
    assert where.startswith(str(venv))
    program = venv / "bin" / "llmzip"
    assert llmzip.__version__ in run(program, "--version").decode()
    repeated = TEXT[:100] * 5000  # packed without a model
    assert run(program, "-d", data=run(program, data=repeated)) == repeated
