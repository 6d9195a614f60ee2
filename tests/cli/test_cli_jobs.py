"""`--workers`: files and blocks side by side, with real processes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner

from llmzip.cli import main
from llmzip.cli.common import computers
from llmzip.codec.codec import Codec
from llmzip.errors import LLZError
from llmzip.options import Options
from llmzip.system import exact_threads, memory
from tests.cli.test_cli import Run, fails, run, work  # noqa: F401  fixtures
from tests.support.codecs import TEXT

NOISE = random.Random(3).randbytes(3_000_000)
SOON = 20.0  # seconds; on a machine that has nothing else to do it is a fraction of one
pytestmark = pytest.mark.skipif(os.name != "posix", reason="asks the system for processes")


def in_blocks(codec: Codec, content: bytes) -> bytes:
    """An archive of many small blocks."""
    return Codec(replace(codec.options, block_bytes=1000), blocks=codec.blocks).compress(content)


def workers(parent: int) -> list[int]:
    """The processes that compute for another one."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [int(pid) for pid, ppid, args in rows if int(ppid) == parent and "spawn_main" in args]


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_files(run: Run, work: Path) -> None:  # noqa: F811
    """The same bytes for any number, also of what is empty or needs no model; an error in one file stops no other."""
    contents = {"a": TEXT[:700], "b": TEXT[700:1500], "c": NOISE[:5000], "empty": b""}
    for name, content in contents.items():
        (work / name).write_bytes(content)
    assert run("-k", *contents).returncode == 0
    alone = {name: (work / f"{name}.llz").read_bytes() for name in contents}
    for jobs in ("2", "3"):
        result = run("-f", "-j", jobs, "absent", *contents)
        fails(result, 1, "absent", "cannot be read")
        assert {name: (work / f"{name}.llz").read_bytes() for name in contents} == alone
    archives = [f"{name}.llz" for name in contents]
    assert run("-dc", "-j", "2", *archives).stdout == b"".join(contents.values())
    (work / "b.llz").write_bytes(alone["b"][:60])
    for name in contents:
        (work / name).unlink()
    fails(run("-d", "-j", "2", *archives), 1, "b.llz", "cut short")
    assert {name: (work / name).read_bytes() for name in ("a", "c", "empty")} == {n: c for n, c in contents.items() if n != "b"}
    assert not (work / "b").exists()
    fails(run("-t", "-j", "3", *archives), 1, "b.llz")


@pytest.mark.slow
def test_the_size_of_blocks(run: Run, work: Path, codec: Codec) -> None:  # noqa: F811
    (work / "a").write_bytes(TEXT[:3500])
    wanted = in_blocks(codec, TEXT[:3500])
    for args in (["compress", "-c", "--block-size", "1000", "a"], ["-c", "--block-size=1000B", "-j", "2", "a"]):
        assert run(*args).stdout == wanted
    for size in ("0", "17M", "-1", "x", ""):
        result = run("compress", "-c", "--block-size", size, "a")
        assert (result.returncode, result.stdout) == (2, b"")
        assert b"size" in result.stderr
    assert run("decompress", "--block-size", "1K", "a.llz").returncode == 2


@pytest.mark.slow
def test_pipes(run: Run, codec: Codec) -> None:  # noqa: F811
    assert run("-j", "2", stdin=b"").stdout == run(stdin=b"").stdout
    archive = in_blocks(codec, TEXT[:6000])
    assert run("-d", "-j", "3", stdin=archive).stdout == TEXT[:6000]
    several = run("-j", "3", stdin=NOISE)
    assert several.stdout == run(stdin=NOISE).stdout
    assert run("-dj2", stdin=several.stdout).stdout == NOISE


@pytest.mark.slow
def test_a_damaged_block(run: Run, work: Path, codec: Codec) -> None:  # noqa: F811
    """As with one job: what comes before goes to a pipe, nothing gets a file's name, and the error is one line."""
    damaged = bytearray(in_blocks(codec, TEXT[:6000]))
    damaged[len(damaged) // 2] ^= 1
    (work / "a.llz").write_bytes(damaged)
    for args, stdin in ((["-dc", "a.llz"], b""), (["-d"], bytes(damaged)), (["-d", "a.llz"], b""), (["-t", "a.llz"], b"")):
        one, two = (run("-q", "-j", jobs, *args, stdin=stdin) for jobs in "12")  # quiet: on a busy machine there may be a forecast
        assert (two.returncode, two.stdout, two.stderr) == (one.returncode, one.stdout, one.stderr)
        assert two.returncode == 1
    assert os.listdir(work) == ["a.llz"]


@pytest.mark.slow
def test_verified_and_explained(run: Run, work: Path) -> None:  # noqa: F811
    for name in ("a", "b"):
        (work / name).write_bytes(TEXT[:400])
    one = run("--explain", "a", "b")
    two = run("-f", "-j", "2", "--rm", "--explain", "a", "b")
    assert (two.returncode, two.stderr) == (0, one.stderr)
    assert sorted(os.listdir(work)) == ["a.llz", "b.llz"]


@pytest.mark.parametrize("jobs", ["-1", "10000", "x", ""])
def test_bad_numbers(run: Run, jobs: str) -> None:  # noqa: F811
    result = run("-j", jobs, stdin=b"a")
    assert result.returncode == 2
    assert result.stdout == b""
    assert [line for line in result.stderr.decode().splitlines() if "--jobs" in line]


@pytest.mark.parametrize(
    ("cores", "free", "size", "wanted"),
    [
        (4, 64 << 30, 9000, 4),
        (4, 64 << 30, 2500, 3),
        (4, 2 << 30, 9000, 2),
        (4, 1 << 20, 9000, 1),
        (1, 64 << 30, 9000, 1),
        (4, None, 9000, 4),
    ],
)
@pytest.mark.parametrize("number", ["auto", "0"])
def test_as_many_as_fit(
    number: str, cores: int, free: int | None, size: int, wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there are cores, memory and blocks for."""
    (tmp_path / "a").write_bytes(bytes(size))
    asked = list[int]()

    def here(workers: int, options: Options) -> NoReturn:
        asked.append(workers)
        raise LLZError("it was asked")

    monkeypatch.setattr(computers, "_here", here)
    monkeypatch.setattr(memory, "available", lambda: free)
    monkeypatch.setattr(exact_threads, "default_threads", lambda: cores)
    CliRunner().invoke(main, ["compress", "--workers", number, "--block-size", "1000", str(tmp_path / "a")])
    assert asked == [wanted]


@pytest.fixture
def long(run: Run, work: Path, tiny_folder: Path) -> Callable[[], subprocess.Popen[bytes]]:  # noqa: F811
    """Starts the program on two files that take it long, and waits until it has two processes."""
    for name in ("a", "b"):
        (work / name).write_bytes(bytes(random.Random(name).choices(b"abcdefgh ", k=4_000_000)))
    assert run(stdin=TEXT[:100]).returncode == 0  # converts the model
    env = os.environ | {"LLMZIP_CACHE": str(work.parent / "cache"), "LLMZIP_MODEL": str(tiny_folder)}

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "llmzip", "-9", "-j", "2", "--lanes", "1", "a", "b"]
        process = subprocess.Popen(command, cwd=work, env=env, stderr=subprocess.PIPE, start_new_session=True)
        until(lambda: process.poll() is not None or len(workers(process.pid)) == 2)
        assert process.poll() is None, process.communicate()
        return process

    return start


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "delay"), [(signal.SIGINT, 0.0), (signal.SIGINT, 3.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0)])
def test_ends(long: Callable[[], subprocess.Popen[bytes]], work: Path, kind: signal.Signals, delay: float) -> None:  # noqa: F811
    """Ctrl-C reaches all processes of a terminal. None stays, nothing is said twice, and no file is left but after SIGKILL."""
    process = long()
    time.sleep(delay)
    start = time.monotonic()
    os.killpg(process.pid, kind) if kind != signal.SIGKILL else process.kill()
    said = process.communicate(timeout=60)[1]  # ends when the other processes have ended, which hold the pipe, too
    assert time.monotonic() - start < SOON
    assert process.returncode == -kind
    assert said == (b"llmzip: interrupted\n" if kind == signal.SIGINT else b"")
    if kind != signal.SIGKILL:
        assert sorted(os.listdir(work)) == ["a", "b"]


@pytest.mark.slow
def test_workers_that_are_killed_again_and_again(long: Callable[[], subprocess.Popen[bytes]], work: Path) -> None:  # noqa: F811
    """One line for each file that was in work; no output."""
    process, killed = long(), set[int]()
    while process.poll() is None:
        time.sleep(0.2)
        if len(new := set(workers(process.pid)) - killed) == 2:
            killed |= new
            for pid in new:
                with contextlib.suppress(ProcessLookupError):  # it ended with the other one
                    os.kill(pid, signal.SIGKILL)
    assert process.stderr
    said = process.stderr.read().decode().splitlines()
    assert process.returncode == 1
    assert sorted(line.split(": ")[1] for line in said) == ["a", "b"]
    assert all("the block at byte 0" in line and "--workers" in line and line.startswith("llmzip: ") for line in said)
    assert len(killed) == 6
    assert sorted(os.listdir(work)) == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 2.0])
def test_a_killed_worker(run: Run, codec: Codec, work: Path, tiny_folder: Path, delay: float) -> None:  # noqa: F811
    """Another one does its work."""
    assert run(stdin=TEXT[:100]).returncode == 0  # converts the model
    env = os.environ | {"LLMZIP_CACHE": str(work.parent / "cache"), "LLMZIP_MODEL": str(tiny_folder)}
    (work / "a.llz").write_bytes(in_blocks(codec, TEXT[:12_000]))
    process = subprocess.Popen([sys.executable, "-m", "llmzip", "-d", "-j", "2", "a.llz"], cwd=work, env=env, stderr=subprocess.PIPE)
    until(lambda: process.poll() is not None or len(workers(process.pid)) == 2)
    time.sleep(delay)
    for pid in workers(process.pid)[:1]:
        with contextlib.suppress(ProcessLookupError):  # the program was faster
            os.kill(pid, signal.SIGKILL)
    assert process.communicate(timeout=120)[1] == b""
    assert process.returncode == 0
    assert (work / "a").read_bytes() == TEXT[:12_000]
