"""The command line: stdout, stderr, exit code and the file system."""

from __future__ import annotations

import os
import pty
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmzip.archive import records as rec
from tests.support.codecs import TEXT

SHORT = TEXT[:400]
Result = subprocess.CompletedProcess[bytes]
Run = Callable[..., Result]


@pytest.fixture
def run(tiny_folder: Path, tmp_path: Path) -> Run:
    """Runs the command in an empty folder with the tiny model, and a cache of its own."""
    work = tmp_path / "work"
    work.mkdir()
    env = os.environ | {"LLMZIP_CACHE": str(tmp_path / "cache"), "LLMZIP_MODEL": str(tiny_folder)}

    def call(*args: str, stdin: bytes = b"", extra: dict[str, str] | None = None, **options: object) -> Result:
        command = [sys.executable, "-m", "llmzip", *args]
        return subprocess.run(command, input=stdin, cwd=work, env=env | (extra or {}), capture_output=True, check=False, **options)  # type: ignore[call-overload, no-any-return]

    call.work = work  # type: ignore[attr-defined]
    return call


@pytest.fixture
def work(run: Run) -> Path:
    return run.work  # type: ignore[attr-defined, no-any-return]


def fails(result: Result, code: int, *words: str) -> None:
    """One line on stderr with these words, this exit code, nothing on stdout."""
    lines = result.stderr.decode().splitlines()
    assert result.returncode == code, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("llmzip: ")
    assert all(w in lines[0] for w in words), lines[0]
    assert result.stdout == b""


@pytest.mark.slow
def test_files_there_and_back(run: Run, work: Path) -> None:
    (work / "a.txt").write_bytes(SHORT)
    (work / "b").write_bytes(b"\0\xff")
    os.chmod(work / "a.txt", 0o640)
    os.utime(work / "a.txt", (1_000_000_000, 1_000_000_000))
    result = run("compress", "a.txt", "b")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert sorted(p.name for p in work.iterdir()) == ["a.txt", "a.txt.llz", "b", "b.llz"]
    status = (work / "a.txt.llz").stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o640, 1_000_000_000)
    for name in ("a.txt", "b"):
        (work / name).unlink()
    assert run("decompress", "a.txt.llz", "b.llz").returncode == 0
    assert (work / "a.txt").read_bytes() == SHORT
    assert (work / "b").read_bytes() == b"\0\xff"
    assert (work / "a.txt").stat().st_mtime == 1_000_000_000


@pytest.mark.slow
def test_pipes_and_concatenation(run: Run, work: Path) -> None:
    one, two = run("compress", stdin=SHORT), run("compress", "-", "-q", stdin=b"")
    assert one.returncode == two.returncode == 0
    assert one.stderr == two.stderr == b""
    back = run("decompress", stdin=one.stdout + two.stdout + one.stdout)
    assert (back.returncode, back.stdout, back.stderr) == (0, SHORT * 2, b"")
    (work / "x").write_bytes(SHORT)
    assert run("compress", "-c", "x").stdout == one.stdout
    assert run("compress", "-o", "y.llz", "--lanes", "3", "--threads", "1", "--device", "cpu", "x").returncode == 0
    assert run("decompress", "-o", "-", "y.llz").stdout == SHORT


@pytest.mark.slow
def test_existing_output(run: Run, work: Path) -> None:
    (work / "x").write_bytes(SHORT)
    (work / "x.llz").write_bytes(b"precious")
    fails(run("compress", "x"), 1, "x.llz", "exists", "-f")
    assert (work / "x.llz").read_bytes() == b"precious"
    assert run("compress", "-f", "x").returncode == 0
    fails(run("decompress", "x.llz"), 1, "exists")
    assert sorted(p.name for p in work.iterdir()) == ["x", "x.llz"]


def test_bad_files(run: Run, work: Path) -> None:
    (work / "folder").mkdir()
    (work / "text.llz").write_bytes(b"just text")
    (work / "x.zip").write_bytes(b"PK")
    fails(run("compress", "absent"), 1, "absent", "cannot be read")
    fails(run("compress", "folder"), 1, "folder", "tar")
    fails(run("decompress", "text.llz"), 1, "text.llz", "not an llmzip archive")
    fails(run("decompress", "x.zip"), 1, ".llz", "-o")
    fails(run("info", "text.llz"), 1, "not an llmzip archive")
    fails(run("decompress", stdin=b""), 1, "standard input", "not an llmzip archive")
    if os.path.exists("/proc/self/mem"):  # opens, but cannot be read
        fails(run("compress", "-c", "/proc/self/mem"), 1, "/proc/self/mem", "input/output error")
    if os.geteuid():
        (work / "secret").write_bytes(b"x")
        os.chmod(work / "secret", 0)
        fails(run("compress", "secret"), 1, "permission")
    assert sorted(p.name for p in work.iterdir() if p.name != "secret") == ["folder", "text.llz", "x.zip"]


@pytest.mark.slow
def test_one_bad_file_does_not_stop_the_others(run: Run, work: Path) -> None:
    (work / "x").write_bytes(SHORT)
    fails(run("compress", "absent", "x"), 1, "absent")
    assert (work / "x.llz").exists()


@pytest.mark.slow
def test_damaged_archive_leaves_nothing(run: Run, work: Path) -> None:
    archive = run("compress", stdin=SHORT).stdout
    damaged = bytearray(archive)
    damaged[len(damaged) // 2] ^= 4
    (work / "flip.llz").write_bytes(damaged)
    (work / "cut.llz").write_bytes(archive[:-3])
    (work / "new.llz").write_bytes(archive[:4] + b"\x07" + archive[5:])
    fails(run("decompress", "flip.llz"), 1, "flip.llz", "damaged")
    fails(run("decompress", "cut.llz"), 1, "cut.llz", "cut short")
    fails(run("decompress", "new.llz"), 1, "version 7", "newer llmzip")
    assert sorted(p.name for p in work.iterdir()) == ["cut.llz", "flip.llz", "new.llz"]


@pytest.mark.slow
def test_model_elsewhere(run: Run, work: Path, tmp_path: Path, tiny_folder: Path) -> None:
    (work / "x").write_bytes(TEXT[:400])
    assert run("compress", "x").returncode == 0
    assert b"local:tiny" in run("info", "x.llz").stdout
    (work / "x").unlink()
    none = {"LLMZIP_MODEL": "", "LLMZIP_CACHE": str(tmp_path / "empty")}
    fails(run("decompress", "x.llz", extra=none), 3, "local:tiny", "not here", "--model")
    assert run("decompress", "x.llz", "--model", str(tiny_folder), extra=none).returncode == 0
    assert (work / "x").read_bytes() == TEXT[:400]
    fails(run("compress", "-c", "x", "--model", "nowhere"), 3, "nowhere")


def test_usage_errors(run: Run, work: Path) -> None:
    (work / "x").write_bytes(b"x")
    for args in (
        ["compress", "-o", "a", "x", "x"],
        ["compress", "--lanes", "0", "x"],
        ["compress", "--what"],
        ["decompress", "--lanes", "2", "x"],
    ):
        result = run(*args)
        assert result.returncode == 2
        assert b"Usage" in result.stderr or b"Error" in result.stderr
    assert sorted(p.name for p in work.iterdir()) == ["x"]


def test_terminal_is_refused(run: Run, work: Path) -> None:
    (work / "x").write_bytes(SHORT)
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "llmzip", "compress", "-c", "x"]
    result = subprocess.run(command, cwd=work, stdout=slave, stderr=subprocess.PIPE, check=False)
    os.close(slave)
    os.close(master)
    assert result.returncode == 1
    assert b"terminal" in result.stderr


def test_no_space_left(run: Run, work: Path) -> None:
    (work / "x").write_bytes(os.urandom(200_000))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    fails(run("compress", "x", preexec_fn=limit), 1, "x.llz", "cannot be written")
    assert sorted(p.name for p in work.iterdir()) == ["x"]
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "llmzip", "compress", "-c", "x"]
        result = subprocess.run(command, cwd=work, stdout=full, stderr=subprocess.PIPE, check=False)
    assert result.returncode == 1
    assert b"no space left" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_output_folder_absent(run: Run, work: Path) -> None:
    (work / "x").write_bytes(SHORT)
    fails(run("compress", "-o", "no/where.llz", "x"), 1, "no/where.llz", "cannot be written")


@pytest.mark.slow
def test_info(run: Run, work: Path) -> None:
    (work / "x").write_bytes(TEXT[:400])
    assert run("compress", "--lanes", "2", "x").returncode == 0
    result = run("info", "x.llz")
    text = result.stdout.decode()
    for words in (
        "x.llz:",
        "local:tiny",
        "830d085992b1a151f979",
        "window 1280, sinks 4",
        "1 coded",
        "400 bytes",
        f"{(work / 'x.llz').stat().st_size} bytes",
        "ratio",
    ):
        assert words in text, words
    code = "import sys, llmzip.cli; llmzip.cli.main(['info', 'x.llz'], standalone_mode=False)"
    probe = f"import sys\ntry:\n    exec({code!r})\nexcept SystemExit:\n    pass\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], cwd=work, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_models(run: Run, tiny_folder: Path) -> None:
    default = next(line.split() for line in run("models").stdout.splitlines() if line.startswith(b"smollm2-135m-instruct"))
    assert default[1:4] == [b"93", b"MB", b"Apache-2.0"]
    assert b"no" in default  # not here yet
    pulled = run("models", "pull", str(tiny_folder))
    assert pulled.returncode == 0
    assert b"weights 830d085992b1a151f979" in pulled.stdout
    assert b"local:tiny" in run("models").stdout
    fails(run("models", "pull", "hf:owner/name"), 3, "@REVISION")


@pytest.mark.slow
def test_verbose_says_what_runs(run: Run, work: Path) -> None:
    (work / "a.txt").write_bytes(SHORT)
    told = run("compress", "-v", "-c", "a.txt")
    assert told.returncode == 0
    assert told.stdout == run("compress", "-c", "a.txt").stdout
    assert b"all layers as one: compiled" in told.stderr
    assert b"model read in" in told.stderr


@pytest.mark.slow
def test_output_starts_before_input_ends(run: Run, work: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """A pipe that stays open: the archive of the first blocks comes out, and their content from a decoder that is still fed."""
    env = os.environ | {"LLMZIP_CACHE": str(tmp_path / "cache"), "LLMZIP_MODEL": str(tiny_folder)}
    blocks = bytes(16 << 20)  # packed without the model, so this is quick, and together

    def pipe(action: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "llmzip", action]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)

    compressor, decompressor = pipe("compress"), pipe("decompress")
    for process in (compressor, decompressor):
        assert process.stdin
        assert process.stdout
    compressor.stdin.write(blocks + bytes(1 << 20) + b"x")  # type: ignore[union-attr]
    compressor.stdin.flush()  # type: ignore[union-attr]
    start = os.read(compressor.stdout.fileno(), 1 << 16)  # type: ignore[union-attr]
    assert start.startswith(b"\x89LLZ")
    decompressor.stdin.write(start)  # type: ignore[union-attr]
    decompressor.stdin.flush()  # type: ignore[union-attr]
    assert decompressor.stdout.read(16 << 20) == blocks  # type: ignore[union-attr]
    rest, _ = compressor.communicate(b"yz")
    tail, _ = decompressor.communicate(rest)
    assert tail == bytes(1 << 20) + b"xyz"
    assert (compressor.returncode, decompressor.returncode) == (0, 0)


def test_version_and_help(run: Run) -> None:
    versions = f"(format {rec.FORMAT_VERSION}, arithmetic {rec.ARITHMETIC_VERSION})"
    assert versions in run("--version").stdout.decode()
    for command in ([], ["compress"], ["decompress"], ["info"], ["models"], ["models", "pull"]):
        assert b"Usage" in run(*command, "--help").stdout


@pytest.mark.slow
def test_levels(run: Run, work: Path) -> None:
    """Any level there, one decoder back; the archive states what the level stands for."""
    (work / "a").write_bytes(TEXT[:2000])
    archives = {}
    for flags in ("-1", "-9", "-6", "", "-1 -9"):
        assert run("compress", "-f", *flags.split(), "a").returncode == 0
        archives[flags] = (work / "a.llz").read_bytes()
        assert run("decompress", "-c", "a.llz").stdout == TEXT[:2000]
        info = run("info", "a.llz").stdout.decode()
        assert ("neighbours (of 262144," in info) == ("-9" in flags)
        assert ("neighbours (of 32768," in info) == (flags in ("-6", ""))
    assert archives[""] == archives["-6"] != archives["-9"] == archives["-1 -9"]
    assert len(archives["-1"]) > len(archives["-6"])
    assert run("compress", "-0", "a").returncode == 2


@pytest.mark.slow
def test_explain(run: Run, work: Path) -> None:
    """The parts add up to the archive, which is the same as without."""
    (work / "a").write_bytes(TEXT[:3000])
    assert run("compress", "a").returncode == 0
    result = run("compress", "--explain", "-c", "a")
    assert result.stdout == (work / "a.llz").read_bytes()
    head, *rows, last = result.stderr.decode().splitlines()
    assert head.startswith("of 3,000 bytes, ")
    sizes = [float(row[34:48].replace(",", "")) for row in (*rows, last)]
    assert [row[:34].strip().split(":")[0] for row in rows] == [
        "frozen model", "learned", "learned", "range coder and ends of lanes", "container, blocks not coded",
    ]  # fmt: skip
    assert sizes[-1] == len(result.stdout)
    assert abs(sum(sizes[:-1]) - sizes[-1]) < 0.5
    assert sizes[1] + sizes[2] < 0  # learning helps this text even with the tiny model
