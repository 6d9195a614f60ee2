"""Whatever hits the process: signals, full disks, files that go or cannot be read, readers that leave. Nothing is lost, nothing hangs.

Most of it is done with random bytes, which are stored without a model: a whole run takes a fraction of a second then.
`scripts/faults.py` does more of it, with texts.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmzip.archive.records import StoredBlock, encode_record, frame_start
from llmzip.codec.codec import Codec
from llmzip.codec.cutting import read_blocks
from llmzip.models.convert import IntegerModel
from llmzip.options import Options
from llmzip.system.file_names import FileError
from llmzip.system.input_files import reading
from llmzip.system.output_files import writing
from scripts import faults
from tests.support.codecs import ROOT, TEXT, fixed_codec

NOISE = random.Random(5).randbytes(200_000)
LLMZIP = [sys.executable, "-m", "llmzip"]
SOON = 2.0  # seconds; on a machine that has nothing else to do it is a tenth of one
ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def work(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run the program in, with the tiny model and a cache of its own."""
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LLMZIP_MODEL", str(tiny_folder))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@contextlib.contextmanager
def started(*args: str, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """The program, with signals as a terminal has them, and its standard streams as pipes."""

    def plain() -> None:  # a test run in the background may have them ignored
        for kind in ENDING:
            signal.signal(kind, signal.SIG_DFL)

    given: dict[str, object] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | {"preexec_fn": plain} | options
    process = subprocess.Popen(args, **given)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(*args: str, stdin: bytes = b"", **options: object) -> subprocess.CompletedProcess[bytes]:
    """The program on `args`."""
    return subprocess.run([*LLMZIP, *args], input=stdin, capture_output=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits for it."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def temporaries(folder: Path) -> list[Path]:
    return list(folder.glob(".llmzip-*"))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def one_line(stderr: bytes, *words: str) -> None:
    lines = stderr.decode().splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("llmzip: ")
    assert all(word in lines[0] for word in words), lines[0]


# --- signals


@pytest.fixture(scope="module")
def ways() -> faults.Ways:
    return faults.Ways(NOISE, [], "", None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*ENDING, signal.SIGKILL])
@pytest.mark.parametrize("way", ["compress --rm", "decompress --rm"])
def test_random_moments(ways: faults.Ways, way: str, kind: signal.Signals) -> None:
    """No partial output, no lost source, no temporary file but after SIGKILL, the right end, and quietly."""
    row = ways.hit(way, kind, 2, random.Random(repr((way, kind))))
    assert row.wrong == []
    assert row.longest < SOON


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENDING)
def test_signals_while_compiled_code_runs(work: Path, kind: signal.Signals) -> None:
    (work / "x").write_bytes(bytes(random.Random(1).choices(b"abcdefgh ", k=200_000)))  # takes a while
    with started(*LLMZIP, "compress", "--lanes", "1", "x") as process:
        until(lambda: temporaries(work))
        time.sleep(random.Random(repr(kind)).uniform(0, 4))  # libraries, the model, or coding
        start = time.monotonic()
        process.send_signal(kind)
        said = process.communicate(timeout=60)[1]
        assert time.monotonic() - start < SOON
        assert process.returncode == -kind
    assert said == (b"llmzip: interrupted\n" if kind == signal.SIGINT else b"")
    assert names(work) == ["x"]


@pytest.mark.slow
def test_a_main_thread_that_never_returns_to_python(work: Path) -> None:
    """Handlers in it would wait for that."""
    code = """
import hashlib, os
from llmzip.system import signals
from llmzip.system.output_files import writing
signals.install()
with writing("target", False) as sink:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha512", b"", b"", 2**31 - 1)
"""
    with started(sys.executable, "-c", code) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.1)
        start = time.monotonic()
        for kind in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGINT):  # impatience changes nothing
            process.send_signal(kind)
        said = process.communicate(timeout=60)[1]
        assert time.monotonic() - start < SOON
        assert process.returncode in (-signal.SIGINT, -signal.SIGTERM)
    assert said in (b"llmzip: interrupted\n", b"")
    assert names(work) == []


def test_what_is_ignored_stays_ignored(work: Path) -> None:
    """As under nohup."""
    ignoring = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    with started(*LLMZIP, "compress", "-o", "x.llz", "-", preexec_fn=ignoring) as process:
        until(lambda: temporaries(work))
        process.send_signal(signal.SIGHUP)
        assert process.communicate(NOISE)[1] == b""
        assert process.returncode == 0
    assert run("decompress", "-c", "x.llz").stdout == NOISE


@pytest.mark.slow
def test_the_library_leaves_signals_alone(work: Path) -> None:
    code = """
import os, signal, threading, llmzip
kinds = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE]
before = [signal.getsignal(kind) for kind in kinds]
noise = os.urandom(1000)
with llmzip.open("x.llz", "wb") as f:
    f.write(noise)
assert llmzip.decompress(llmzip.compress(noise)) == noise
assert [signal.getsignal(kind) for kind in kinds] == before
assert signal.set_wakeup_fd(-1) == -1
assert threading.active_count() == 1
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


_PIP = """
import os, pathlib, sys, time
pathlib.Path(os.environ["TOLD"]).write_text(str(os.getpid()))
(pathlib.Path(sys.argv[sys.argv.index("--dest") + 1]) / "part").touch()
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_download_ends_with_the_program(work: Path, tmp_path: Path, kind: signal.Signals) -> None:
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").write_text(_PIP)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    with started(
        *LLMZIP, "models", "pull", "-q", "smollm2-135m-instruct", env=os.environ | {"PYTHONPATH": path, "TOLD": "told"}
    ) as process:
        told = work / "told"
        until(lambda: told.exists() and told.read_text())
        until(lambda: list((tmp_path / "cache").rglob("part")))
        process.send_signal(kind)
        start = time.monotonic()
        process.communicate(timeout=60)
        assert time.monotonic() - start < SOON
        assert process.returncode == -kind
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
    assert not any(p.is_dir() and p.name.startswith(".") for p in (tmp_path / "cache").iterdir())


# --- standard streams


@pytest.mark.slow
@pytest.mark.parametrize("args", [["-dc", "x.llz"], ["list", "x.llz"], ["models"], ["--help"]])
def test_standard_output_that_is_full(work: Path, args: list[str]) -> None:
    (work / "x").write_bytes(NOISE[:3000])
    assert run("x").returncode == 0
    with open("/dev/full", "wb") as full:
        result = subprocess.run([*LLMZIP, *args], stdout=full, stderr=subprocess.PIPE, check=False)
    assert result.returncode == 1
    one_line(result.stderr, "no space left", "standard output")


@pytest.mark.slow
@pytest.mark.parametrize("args", [["-dc", "x.llz"], ["list", "x.llz"]])
def test_readers_that_leave(work: Path, args: list[str]) -> None:
    """It ends as other programs do that write to a pipe nobody reads, and says nothing."""
    (work / "x").write_bytes(NOISE)
    assert run("x").returncode == 0
    reader, writer = os.pipe()
    process = subprocess.Popen([*LLMZIP, *args], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    os.close(reader)
    assert process.communicate()[1] == b""
    assert process.returncode == -signal.SIGPIPE


@pytest.mark.slow
def test_standard_streams_that_are_closed(work: Path) -> None:
    (work / "x").write_bytes(NOISE)

    def shell(words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(f"{' '.join(LLMZIP)} {words}", shell=True, capture_output=True, check=False)

    closed = shell("-c x >&-")
    assert closed.returncode == 1
    one_line(closed.stderr, "cannot write", "bad file descriptor")
    closed = shell("-o y.llz - <&-")
    assert closed.returncode == 1
    one_line(closed.stderr, "standard input", "cannot be read")
    assert shell("-d absent.llz 2>&-").returncode == 1
    assert shell("x <&- >&- 2>&-").returncode == 0  # needs none of them; its files must not get their numbers
    assert run("-dc", "x.llz").stdout == NOISE


# --- files


@pytest.mark.slow
def test_no_room_for_the_output(work: Path) -> None:
    """Neither way; the source stays even if it was to go."""
    (work / "x").write_bytes(NOISE)
    (work / "big").write_bytes(NOISE)
    assert run("--rm", "big").returncode == 0
    little = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (50_000, 50_000))
    for args in (["--rm", "x"], ["-d", "--rm", "big.llz"]):
        result = run(*args, preexec_fn=little)
        assert result.returncode == 1
        one_line(result.stderr, "cannot be written", "file too large", "nothing was changed")
    assert names(work) == ["big.llz", "x"]
    assert run("-dc", "big.llz").stdout == NOISE


@pytest.mark.slow
def test_sources_that_fail(work: Path) -> None:
    """Not the output is to blame."""
    for args in (["-c", "/proc/self/mem"], ["-o", "y.llz", "/proc/self/mem"], ["-t", "/proc/self/mem"], ["inspect", "/proc/self/mem"]):
        result = run(*args)
        assert result.returncode == 1
        one_line(result.stderr, "/proc/self/mem: cannot be read", "input/output error")
    assert names(work) == []


class _Failing(io.BytesIO):
    """Cannot be read beyond a certain place."""

    def read(self, n: int | None = -1) -> bytes:
        if self.tell() >= 2500:
            raise OSError(5, "Input/output error")
        return super().read(min(n or 0, 2500 - self.tell()) if n else n)


@pytest.mark.slow
def test_a_failing_source_gives_whole_blocks_only() -> None:
    codec = Codec(Options(block_bytes=1000))
    content = NOISE[:5000]
    blocks = list(read_blocks(io.BytesIO(content), 1000))
    archive, sink, back = codec.compress(content), io.BytesIO(), io.BytesIO()
    with pytest.raises(OSError, match="Input"):
        codec.compress_stream(_Failing(content), sink)
    records = [encode_record(StoredBlock(block)) for block in blocks]
    assert sink.getvalue() in [frame_start() + b"".join(records[:n]) for n in (2, 3)]
    assert archive.startswith(sink.getvalue())
    with pytest.raises(OSError, match="Input"):
        codec.decompress_stream(_Failing(archive), back)
    assert back.getvalue() in [b"".join(blocks[:n]) for n in (2, 3)]


@pytest.mark.slow
def test_a_source_that_becomes_shorter(work: Path) -> None:
    (work / "x").write_bytes(NOISE)
    with reading("x") as source:
        assert source.read(1000) == NOISE[:1000]
        os.truncate("x", 1000)
        with pytest.raises(FileError, match="shorter"):
            while source.read(1000):
                pass
    (work / "x").write_bytes(NOISE)
    with reading("x") as source:  # one that grows is read to where it ends then
        with open("x", "ab") as more:
            more.write(b"more")
        assert source.read() + source.read() == NOISE + b"more"


@pytest.mark.slow
def test_a_source_that_loses_its_name(work: Path) -> None:
    """The output still gets its mode and time."""
    (work / "x").write_bytes(NOISE)
    os.chmod("x", 0o640)
    os.utime("x", (1_000_000_000, 1_000_000_000))
    with reading("x") as source, writing("y", False, source) as sink:
        os.unlink("x")
        sink.write(b"content")
    status = os.stat("y")
    assert (status.st_mode & 0o777, status.st_mtime) == (0o640, 1_000_000_000)


@pytest.mark.slow
def test_an_output_that_appears_meanwhile(work: Path) -> None:
    with started(*LLMZIP, "compress", "-o", "x.llz", "-") as process:
        until(lambda: temporaries(work))
        (work / "x.llz").write_bytes(b"precious")
        said = process.communicate(NOISE)[1]
        assert process.returncode == 1
    one_line(said, "x.llz exists already")
    assert names(work) == ["x.llz"]
    assert (work / "x.llz").read_bytes() == b"precious"


@pytest.mark.slow
def test_a_folder_that_disappears(work: Path) -> None:
    (work / "out").mkdir()
    with started(*LLMZIP, "compress", "-o", "out/x.llz", "-") as process:
        until(lambda: temporaries(work / "out"))
        shutil.rmtree(work / "out")
        said = process.communicate(NOISE)[1]
        assert process.returncode == 1
    one_line(said, "out/x.llz cannot be written", "no such file")
    assert names(work) == []


@pytest.mark.slow
def test_a_folder_that_cannot_be_written(work: Path) -> None:
    result = run("-o", "/proc/x.llz", "-", stdin=NOISE)
    assert result.returncode == 1
    one_line(result.stderr, "/proc/x.llz cannot be written")


@pytest.mark.slow
def test_a_file_is_not_its_own_output(work: Path) -> None:
    (work / "x").write_bytes(NOISE)
    os.link("x", "y")
    for out in ("x", "y"):
        result = run("-f", "-o", out, "x")
        assert result.returncode == 1
        one_line(result.stderr, "own output")
    assert (work / "x").read_bytes() == (work / "y").read_bytes() == NOISE


# --- power cuts


@pytest.mark.slow
def test_archives_cut_anywhere(work: Path, tiny_model: IntegerModel) -> None:
    """Of coded, packed and stored blocks in two frames: an error each, and of the content whole blocks only."""
    codec = fixed_codec(tiny_model, block_bytes=400)
    parts = [b"ab" * 200, NOISE[:400], NOISE[400:500], TEXT[:400], TEXT[400:600]]
    archives = [codec.compress(b"".join(parts[:3])), codec.compress(b"".join(parts[3:]))]
    archive = b"".join(archives)
    blocks = [b for frame in (parts[:3], parts[3:]) for b in read_blocks(io.BytesIO(b"".join(frame)), 400)]
    whole = [b"".join(blocks[:n]) for n in range(len(blocks) + 1)]
    cuts = [c for c in random.Random(1).sample(range(len(archive)), 40) if c != len(archives[0])]
    for cut in cuts:
        (work / f"{cut}.llz").write_bytes(archive[:cut])
        sink = io.BytesIO()
        with pytest.raises(Exception, match=r"cut short|not an llmzip archive|what follows"):
            codec.decompress_stream(io.BytesIO(archive[:cut]), sink)
        assert sink.getvalue() in whole
    before = names(work)
    result = run("decompress", *before)
    assert result.returncode == 1
    assert result.stdout == b""
    lines = result.stderr.decode().splitlines()
    assert [line.split(": ")[1] for line in lines] == before
    assert names(work) == before
    piped = run("-dc", stdin=archive[: len(archives[0]) - 20])
    assert piped.returncode == 1
    assert piped.stdout in whole[1:]
    one_line(piped.stderr, "standard input", "cut short")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
    ids=["unset", "count", "policy"],
)
def test_threads_that_wait_leave_their_processor_to_other_processes(given: dict[str, str], expected: str) -> None:
    """With OpenMP's own choice, two processes on two processors took forty times as long as one. The user's word goes before ours."""
    script = (
        "import llmzip.__main__ as m, llmzip.cli, os, sys;"
        "llmzip.cli.main = lambda **_: print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT')); m.run()"
    )
    env = {k: v for k, v in os.environ.items() if k not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}} | given
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, env=env, text=True, check=True)
    assert result.stdout == f"False {expected}\n"
