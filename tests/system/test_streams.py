"""Streams that llmzip did not open: however little they give or take at a time, and whatever mode they are in, nothing is lost."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import llmzip
from llmzip.codec.codec import Codec
from llmzip.models.convert import IntegerModel
from llmzip.options import Options
from llmzip.system import streams
from tests.cli.test_cli import Run, run  # noqa: F401  a fixture
from tests.support.codecs import TEXT

NOISE = random.Random(8).randbytes(150_000)
LLMZIP = [sys.executable, "-m", "llmzip"]
SMALL_PIPE = 4096
PATIENCE = 120.0  # seconds, after which something hangs


def small_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, SMALL_PIPE)
    return reader, writer


@contextlib.contextmanager
def beside(do: Callable[[], None]) -> Iterator[None]:
    """Does something in a thread meanwhile."""
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    yield
    thread.join(PATIENCE)
    assert not thread.is_alive()


def fed_slowly(descriptor: int, data: bytes, first: int = 1000, pause: float = 0.05) -> None:
    """Gives a little, and after a while the rest, and the end."""
    with os.fdopen(descriptor, "wb", 0) as sink:
        os.set_blocking(descriptor, True)
        for part in (data[:first], data[first : 2 * first], data[2 * first :]):
            view = memoryview(part)
            while view:
                view = view[sink.write(view) :]
            time.sleep(pause)


def taken_slowly(descriptor: int, into: list[bytes], pause: float = 0.05) -> None:
    """Lets the pipe be full for a while, now and then."""
    with os.fdopen(descriptor, "rb", 0) as source:
        os.set_blocking(descriptor, True)
        while part := source.read(50_000):
            if len(into) in (0, 1, 5):
                time.sleep(pause)
            into.append(part)


def _pipes() -> tuple[int, int]:
    return small_pipe()


def _sockets() -> tuple[int, int]:
    a, b = socket.socketpair()
    for end in (a, b):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_PIPE)
    return a.detach(), b.detach()


class _Plain:
    """What has nothing but `read` and `write`."""

    def __init__(self, file: Any) -> None:
        self.read, self.write = file.read, file.write


OPENED: dict[str, Callable[[int, str], Any]] = {
    "raw": lambda number, mode: os.fdopen(number, mode, 0),
    "buffered": lambda number, mode: os.fdopen(number, mode),
    "socket, raw": lambda number, mode: socket.socket(fileno=number).makefile(mode, 0),  # type: ignore[call-overload]
    "socket, buffered": lambda number, mode: socket.socket(fileno=number).makefile(mode),  # type: ignore[call-overload]
}


def ends(kind: str) -> tuple[int, int]:
    return _sockets() if kind.startswith("socket") else _pipes()


@pytest.mark.parametrize("kind", OPENED)
@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.slow
def test_whole_reads_and_writes(kind: str, blocking: bool) -> None:
    reader, writer = ends(kind)
    os.set_blocking(reader, blocking)
    with beside(lambda: fed_slowly(writer, NOISE)), OPENED[kind](reader, "rb") as source:
        assert streams.read_all(source, 10) == NOISE[:10]
        assert streams.read(source, 0) == b""
        assert streams.read_all(source) == NOISE[10:]
        assert streams.read(source, 5) == streams.read(source, 5) == b""
    reader, writer = ends(kind)
    os.set_blocking(writer, blocking)
    taken: list[bytes] = []
    with beside(lambda: taken_slowly(reader, taken)), OPENED[kind](writer, "wb") as sink:
        streams.write(sink, NOISE[:10])
        streams.write(sink, b"")
        streams.write(sink, NOISE[10:])
        streams.flush(sink)
    assert b"".join(taken) == NOISE


class Fickle(io.RawIOBase):
    """Gives and takes a few bytes at a time, and in between says in every way there is that it cannot just now."""

    def __init__(self, data: bytes = b"", most: int = 997) -> None:
        self.rest, self.got, self._calls, self._most = data, bytearray(), 0, most

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def _moody(self) -> bool:
        self._calls += 1
        if self._calls % 5 == 2:
            raise BlockingIOError(11, "not now")
        return self._calls % 5 in (1, 3)

    def read(self, n: int = -1) -> Any:
        assert n > 0, "all at once would have to keep what it has got when there is no more for the moment"
        if self._moody():
            return None
        n = min(n, self._most)
        part, self.rest = self.rest[:n], self.rest[n:]
        return part

    def write(self, data: Any) -> Any:
        if self._moody():
            return None
        part = bytes(data)[: self._most]
        self.got += part
        if self._calls % 5 == 0 and len(part) < len(data):
            raise BlockingIOError(11, "no more", len(part))
        return len(part)

    def flush(self) -> None:
        super().flush()
        if self._calls % 2:
            self._calls += 1
            raise BlockingIOError(11, "not now", 0)


def test_streams_that_cannot_just_now() -> None:
    """Through every way into and out of the library that takes a stream."""
    codec, data = Codec(Options(block_bytes=5000)), NOISE[:20_000]
    sink = Fickle()
    codec.compress_stream(Fickle(data), sink)  # type: ignore[arg-type]
    archive = codec.compress(data)
    assert sink.got == archive
    sink = Fickle()
    codec.decompress_stream(Fickle(archive + bytes(3000)), sink)  # type: ignore[arg-type]
    assert sink.got == data
    sink = Fickle()
    with llmzip.open(sink, "wb", codec=codec) as f:  # type: ignore[call-overload]
        for at in range(0, len(data), 3000):
            f.write(data[at : at + 3000])
            f.flush()
    assert sink.got == archive
    with llmzip.open(Fickle(archive), codec=codec) as f:  # type: ignore[call-overload]
        assert f.read() == data
    from llmzip.archive.summary import summarise

    assert summarise(Fickle(archive)).content == len(data)  # type: ignore[arg-type]


def test_models_on_such_streams(tiny_model: IntegerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmzip.models import store
    from llmzip.models.transfer import export_model, import_model

    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    cached = store.save("hf:owner/tiny@1", tiny_model)
    plain, sink = io.BytesIO(), Fickle(most=30_001)
    export_model(cached, plain)
    export_model(cached, sink)  # type: ignore[arg-type]
    assert sink.got == plain.getvalue()
    store.remove(cached.folder)
    assert import_model(Fickle(bytes(sink.got), 30_001)).digest == cached.digest  # type: ignore[arg-type]


class Odd:
    """Says what it is told to say."""

    def __init__(self, said: Any) -> None:
        self.said, self.got = said, list[bytes]()

    def read(self, n: int) -> Any:
        return self.said

    def write(self, data: bytes) -> Any:
        self.got.append(data)
        return self.said


def test_streams_that_are_none() -> None:
    """They are errors; what says nothing of how much it took has taken all, as most such objects have."""
    for said, error in (("text", TypeError), (b"four", OSError), (7, TypeError)):
        with pytest.raises(error):
            streams.read(Odd(said), 3)
    for said in (4, -1):
        with pytest.raises(OSError, match="says that it took"):
            streams.write(Odd(said), b"abc")
    with pytest.raises(TypeError):
        streams.write(Odd("3"), b"abc")
    assert streams.read(Odd(bytearray(b"abc")), 3) == streams.read(Odd(memoryview(b"abc")), 3) == b"abc"
    silent = Odd(None)
    streams.write(silent, NOISE)
    streams.flush(silent)
    assert silent.got == [NOISE]
    with pytest.raises(TypeError, match="binary mode"):
        Codec().compress_stream(io.StringIO("text"), io.BytesIO())  # type: ignore[arg-type]


def test_what_may_have_been_taken_or_not_is_an_error() -> None:
    """Written again it might be there twice."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    silent = Odd(None)
    silent.fileno = lambda: writer  # type: ignore[attr-defined]
    try:
        with pytest.raises(OSError, match="let its write return that"):
            streams.write(silent, b"abc")
    finally:
        os.close(reader)
        os.close(writer)


def test_a_frame_that_cannot_be_written_is_taken_off_again(tmp_path: Path) -> None:
    """Adding to an archive while the disk fills up leaves the archive that was there."""
    codec = Codec()
    (tmp_path / "a.llz").write_bytes(before := codec.compress(b"before"))
    program = (
        "import llmzip, resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 20_000},) * 2)\n"
        "with llmzip.open('a.llz', 'ab') as f: f.write(open('noise', 'rb').read())\n"
    )
    (tmp_path / "noise").write_bytes(NOISE)
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False, timeout=PATIENCE)
    assert b"File too large" in result.stderr
    assert (tmp_path / "a.llz").read_bytes() == before


# --- the program


MODES = {
    "as it is": (True, {}),
    "unbuffered": (True, {"PYTHONUNBUFFERED": "1"}),
    "not blocking": (False, {}),
    "not blocking, unbuffered": (False, {"PYTHONUNBUFFERED": "1"}),
}


def dripped(args: list[str], data: bytes, blocking: bool, folder: Path, env: dict[str, str]) -> tuple[int, bytes, bytes]:
    """Status, output and errors of the program between a source and a reader that take their time."""
    (stdin, feed), (take, stdout) = small_pipe(), small_pipe()
    for end in (stdin, stdout):
        os.set_blocking(end, blocking)
    process = subprocess.Popen([*LLMZIP, *args], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, cwd=folder, env=env)
    os.close(stdin)
    os.close(stdout)
    taken: list[bytes] = []

    def feeding() -> None:
        with contextlib.suppress(BrokenPipeError):
            fed_slowly(feed, data, 1000, 0.2)

    try:
        with beside(feeding), beside(lambda: taken_slowly(take, taken)):
            error = process.communicate(timeout=PATIENCE)[1]
    finally:
        process.kill()
    return process.returncode, b"".join(taken), error


PLAIN_COMMANDS: dict[str, tuple[list[str], str]] = {  # and what they are given
    "compress": (["compress"], "noise"),
    "compress, verified": (["compress", "--verify", "-c", "-"], "noise"),
    "compress with parity": (["--parity", "5"], "noise"),
    "decompress": (["decompress"], "archive"),
    "test": (["test"], "archive"),
    "salvage": (["-dc", "--salvage"], "damaged"),
    "repair": (["repair", "-c", "-"], "damaged"),
    "list": (["list", "-", *["many.llz"] * 400], "archive"),
    "info": (["info", "-", *["many.llz"] * 100], "archive"),
    "info as JSON": (["info", "--json", *["many.llz"] * 100], "archive"),
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A folder, and inputs by name; nothing of it needs a model."""
    folder = tmp_path_factory.mktemp("streams")
    archive = Codec(Options(parity=5, block_bytes=20_000)).compress(NOISE)
    (folder / "many.llz").write_bytes(archive)
    damaged = archive[:50_000] + bytes([archive[50_000] ^ 255, archive[50_001] ^ 255]) + archive[50_002:]
    return folder, {"noise": NOISE, "archive": archive, "damaged": damaged}


@pytest.mark.parametrize("mode", [m for m in MODES if m != "as it is"])
@pytest.mark.parametrize("name", PLAIN_COMMANDS)
@pytest.mark.slow
def test_commands_without_a_model(given: tuple[Path, dict[str, bytes]], name: str, mode: str) -> None:
    folder, inputs = given
    args, data = PLAIN_COMMANDS[name][0], inputs[PLAIN_COMMANDS[name][1]]
    usual = subprocess.run([*LLMZIP, *args], input=data, cwd=folder, capture_output=True, check=False, timeout=PATIENCE)
    assert len(usual.stdout) > 30_000 or name == "test"
    blocking, more = MODES[mode]
    assert dripped(args, data, blocking, folder, os.environ | more) == (usual.returncode, usual.stdout, usual.stderr)


@pytest.mark.slow
def test_commands_with_a_model(run: Run, tiny_folder: Path) -> None:  # noqa: F811
    work, short = run.work, TEXT[:300]  # type: ignore[attr-defined]
    env = os.environ | {"LLMZIP_CACHE": str(work.parent / "cache"), "LLMZIP_MODEL": str(tiny_folder), "PYTHONUNBUFFERED": "1"}
    raw = run("message", "--format", "raw", stdin=short[:50]).stdout
    exported = run("models", "export", str(tiny_folder), "-o", "-").stdout
    assert len(exported) > 100_000
    for args, data, expected in (
        (["message", "-d", "-n", "--format", "raw"], raw, short[:50]),
        (["inspect", "--html", "-", "-"], short, run("inspect", "--html", "-", "-", stdin=short).stdout),
        (["models", "export", str(tiny_folder), "-o", "-"], b"", exported),
    ):
        assert dripped(args, data, False, work, env) == (0, expected, b""), args
    assert run("models", "rm", str(tiny_folder)).returncode == 0
    assert dripped(["models", "import", "-"], exported, False, work, env)[::2] == (0, b"")
    assert run("models", "path", str(tiny_folder)).returncode == 0


def test_named_pipes(given: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    _, inputs = given
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    taken: list[bytes] = []
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    command = [*LLMZIP, "-d", "-o", "out", "in"]
    with (
        beside(lambda: fed_slowly(os.open(tmp_path / "in", os.O_WRONLY), inputs["archive"])),
        beside(lambda: taken_slowly(os.open(tmp_path / "out", os.O_RDONLY), taken)),
    ):
        assert subprocess.run(command, cwd=tmp_path, env=env, check=False, timeout=PATIENCE).returncode == 0
    assert b"".join(taken) == NOISE


def test_sockets_as_standard_streams(given: tuple[Path, dict[str, bytes]]) -> None:
    """One socket for both ways, without blocking, as a server's child may have."""
    _, inputs = given
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_PIPE)
    process = subprocess.Popen([*LLMZIP, "-d"], stdin=theirs, stdout=theirs, env=os.environ | {"PYTHONUNBUFFERED": "1"})  # type: ignore[call-overload]
    theirs.close()

    def feeding() -> None:
        for at in range(0, len(inputs["archive"]), 40_000):
            ours.sendall(inputs["archive"][at : at + 40_000])
            time.sleep(0.1)
        ours.shutdown(socket.SHUT_WR)

    taken: list[bytes] = []
    try:
        with beside(feeding):
            taken_slowly(os.dup(ours.fileno()), taken)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        ours.close()
    assert b"".join(taken) == NOISE


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.slow
def test_stopped_and_continued(given: tuple[Path, dict[str, bytes]], mode: str) -> None:
    """Also while it waits to read, and to write."""
    folder, inputs = given
    blocking, more = MODES[mode]
    (stdin, feed), (take, stdout) = small_pipe(), small_pipe()
    for end in (stdin, stdout):
        os.set_blocking(end, blocking)
    process = subprocess.Popen([*LLMZIP, "-d"], stdin=stdin, stdout=stdout, cwd=folder, env=os.environ | more)
    os.close(stdin)
    os.close(stdout)
    taken: list[bytes] = []

    def nagging() -> None:
        for _ in range(12):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGSTOP)
                time.sleep(0.03)
                process.send_signal(signal.SIGCONT)
            time.sleep(0.05)

    try:
        with (
            beside(nagging),
            beside(lambda: fed_slowly(feed, inputs["archive"], 20_000, 0.2)),
            beside(lambda: taken_slowly(take, taken, 0.2)),
        ):
            assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
    assert b"".join(taken) == NOISE


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("name", [n for n in PLAIN_COMMANDS if n != "test"])
@pytest.mark.slow
def test_output_that_finds_no_more_room(given: tuple[Path, dict[str, bytes]], name: str, unbuffered: str, tmp_path: Path) -> None:
    """After a part of it was written: one line, and no success."""
    _, inputs = given
    args, data = PLAIN_COMMANDS[name][0], inputs[PLAIN_COMMANDS[name][1]]
    (tmp_path / "many.llz").write_bytes(inputs["archive"])

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open(tmp_path / "out", "wb") as out:
        result = subprocess.run(
            [*LLMZIP, *args],
            input=data,
            stdout=out,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=env,
            preexec_fn=little,
            check=False,
            timeout=PATIENCE,
        )
    assert result.returncode == 1
    said = [line for line in result.stderr.decode().splitlines() if "missing: block" not in line]
    assert len(said) == 1, result.stderr
    assert "standard output" in said[0]
    assert "file too large" in said[0]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.slow
def test_a_message_that_finds_no_room(run: Run, tiny_folder: Path, unbuffered: str) -> None:  # noqa: F811
    work = run.work  # type: ignore[attr-defined]
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered, "LLMZIP_CACHE": str(work.parent / "cache"), "LLMZIP_MODEL": str(tiny_folder)}
    assert run("message", "first").returncode == 0
    for args in (["message", "hello"], ["message", "--format", "raw", "hello"]):
        with open("/dev/full", "wb") as full:
            result = subprocess.run([*LLMZIP, *args], stdout=full, stderr=subprocess.PIPE, check=False, timeout=PATIENCE, cwd=work, env=env)
        assert result.returncode == 1
        assert result.stderr.count(b"\n") == 1, result.stderr
        assert b"no space left" in result.stderr
