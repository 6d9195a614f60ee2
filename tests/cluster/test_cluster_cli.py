"""`--cluster`, `cluster check` and `warmup`, with real Ray clusters on this machine."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from llmzip.codec.codec import Codec
from tests.cli.test_cli import Run, fails, run, work  # noqa: F401  fixtures
from tests.support.clusters import complaints, machines, of_session, until, watchdogs
from tests.support.codecs import TEXT

pytest.importorskip("ray", reason="llmzip[ray] is not installed")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="starts nodes and kills them")


@pytest.mark.parametrize("address", ["", "nowhere", "host:port", "http://host:1", "ray://"])
def test_bad_addresses(run: Run, address: str) -> None:  # noqa: F811
    fails(run("--cluster", address, stdin=b"a"), 3, "is no cluster", "HOST:PORT")


def test_no_cluster_there(run: Run) -> None:  # noqa: F811
    for address in ("127.0.0.1:9", "ray://127.0.0.1:9", "[::1]:9", "127.0.0.1:99999"):
        fails(run("--cluster", address, stdin=b"a"), 3, f"no cluster at {address}")


def test_without_ray(run: Run, tmp_path: Path) -> None:  # noqa: F811
    """One line says what to install. Nothing else needs it."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['ray'] = None\n")
    extra = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    fails(run("--cluster", "local", stdin=b"a", extra=extra), 3, "pip install 'llmzip[ray]'")
    assert run("-T", "1", stdin=b"a", extra=extra).returncode == 0


@pytest.mark.slow
def test_files_and_pipes(run: Run, work: Path, codec: Codec) -> None:  # noqa: F811
    """On a cluster of this machine for one run: the same bytes, several files, errors of one file; nothing stays."""
    (work / "a").write_bytes(TEXT[:3500])
    (work / "b").write_bytes(TEXT[3500:6000])
    size = ["--block-size", "1000"]
    alone = {name: run("compress", "-c", *size, name).stdout for name in ("a", "b")}
    there = run("compress", "--cluster", "local", "--workers", "2", "-T", "1", *size, "a", "absent", "b")
    fails(there, 1, "absent", "cannot be read")
    assert {name: (work / f"{name}.llz").read_bytes() for name in ("a", "b")} == alone
    (work / "a").unlink()
    back = run("-d", "--cluster", "local", "a.llz")
    assert (back.returncode, back.stdout, back.stderr) == (0, b"", b"")
    assert (work / "a").read_bytes() == TEXT[:3500]
    assert run("-t", "--cluster", "local", "b.llz", "--cpus-per-worker", "2").returncode == 0
    fails(run("--cluster", "local", "--model", "auto", stdin=TEXT[:300]), 3, "auto", "name one")
    assert not [
        path
        for path in Path(tempfile.gettempdir()).glob("llmzip-ray-*")
        if path.stat().st_uid == os.getuid() and time.time() - path.stat().st_mtime < 60
    ]


@pytest.mark.slow
def test_check(run: Run, tmp_path: Path) -> None:  # noqa: F811
    """Each node has a line; one that differs makes the status 3."""
    with machines() as made:
        made.add(tmp_path / "one")
        good = run("cluster", "check", made.address)
        assert good.returncode == 0, good.stderr
        assert b"as this machine; " in good.stdout
        made.add(tmp_path / "two", fault="arithmetic")
        lines = (both := run("cluster", "check", made.address)).stdout.decode().splitlines()
        assert both.returncode == 3
        assert len(lines) == 2
        assert [line for line in lines if "cannot be used: " in line and "arithmetic 99" in line]


@pytest.mark.slow
def test_output_is_clean(run: Run, work: Path, tiny_folder: Path) -> None:  # noqa: F811
    """Ray tells of a worker that was killed on standard output, but for what is done about that."""
    (work / "a").write_bytes(TEXT[:8000])
    assert run("--block-size", "500", "a").returncode == 0
    env = os.environ | {"LLMZIP_CACHE": str(work.parent / "cache"), "LLMZIP_MODEL": str(tiny_folder)}
    command = [sys.executable, "-m", "llmzip", "-dc", "--cluster", "local", "-j", "2", "a.llz"]
    process = subprocess.Popen(command, cwd=work, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    until(lambda: process.poll() is not None or of_session(process.pid, "ray::Worker"))
    for pid in of_session(process.pid, "ray::Worker"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    content, said = process.communicate(timeout=120)
    assert (process.returncode, complaints(said.decode().splitlines())) == (0, [])
    assert content == TEXT[:8000]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ends(kind: signal.Signals, run: Run, work: Path, tiny_folder: Path) -> None:  # noqa: F811
    """Ctrl-C and the like: all processes are gone within 5 seconds, and no file is left but after SIGKILL."""
    for name in ("a", "b"):
        (work / name).write_bytes(bytes(random.Random(name).choices(b"abcdefgh ", k=4_000_000)))
    assert run(stdin=TEXT[:100]).returncode == 0  # converts the model
    env = os.environ | {"LLMZIP_CACHE": str(work.parent / "cache"), "LLMZIP_MODEL": str(tiny_folder)}
    command = [sys.executable, "-m", "llmzip", "-9", "--cluster", "local", "-j", "2", "--lanes", "1", "a", "b"]
    process = subprocess.Popen(command, cwd=work, env=env, stderr=subprocess.PIPE, start_new_session=True)
    until(lambda: process.poll() is not None or len(of_session(process.pid, "ray::Worker")) == 2)
    assert process.poll() is None, process.communicate()
    os.killpg(process.pid, kind) if kind == signal.SIGINT else process.send_signal(kind)  # a terminal's reaches all
    start = time.monotonic()
    said = complaints(process.communicate(timeout=60)[1].decode().splitlines())
    until(lambda: not of_session(process.pid) and not watchdogs(), 60)
    assert time.monotonic() - start < 5
    assert process.returncode == -kind
    assert said == (["llmzip: interrupted"] if kind == signal.SIGINT else [])
    if kind != signal.SIGKILL:
        assert sorted(os.listdir(work)) == ["a", "b"]
