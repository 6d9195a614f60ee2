"""What the command line does to files: names, modes, times, what is on disk when, what damage lets out, one start for many files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llmzip.archive.records import CodedBlock, encode_record, frame_start
from llmzip.cli import main
from tests.cli.test_cli import SHORT
from tests.support.archives import frames_of
from tests.support.codecs import TEXT

PLAIN = bytes(5000)  # packed without a model, so that this is quick
LAST_YEAR = 1_000_000_000_123_456_789  # in nanoseconds


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def llmzip(*args: str, stdin: bytes = b"") -> Result:
    """Runs the command in this process, where nothing has to be started."""
    return CliRunner().invoke(main, args, input=stdin)


def refused(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    assert result.stderr.count("\n") == 1
    assert all(w in result.stderr for w in words), result.stderr
    assert result.stdout_bytes == b""


def test_suffix(here: Path) -> None:
    """Another one is an error, unless the output is named."""
    Path("a").write_bytes(PLAIN)
    assert llmzip("-o", "b.zip", "a").exit_code == 0
    refused(llmzip("-d", "b.zip"), 1, "b.zip", ".llz", "-o", "-c")
    Path(".llz").write_bytes(Path("b.zip").read_bytes())
    refused(llmzip("-d", ".llz"), 1, ".llz")
    assert sorted(os.listdir()) == [".llz", "a", "b.zip"]
    assert llmzip("-dc", "b.zip").stdout_bytes == PLAIN
    assert llmzip("-d", "-o", "c", "b.zip").exit_code == 0
    assert Path("c").read_bytes() == PLAIN
    assert llmzip("-t", "b.zip").exit_code == 0


def test_mode_and_time(here: Path) -> None:
    def state(name: str) -> tuple[int, int]:
        found = os.stat(name)
        return found.st_mode & 0o7777, found.st_mtime_ns

    Path("a").write_bytes(PLAIN)
    os.chmod("a", 0o604)
    os.utime("a", ns=(LAST_YEAR, LAST_YEAR))
    assert llmzip("a").exit_code == llmzip("-o", "named.llz", "a").exit_code == 0
    assert state("a.llz") == state("named.llz") == (0o604, LAST_YEAR)
    os.chmod("a.llz", 0o440)
    assert llmzip("-d", "-o", "back", "a.llz").exit_code == 0
    assert state("back") == (0o440, LAST_YEAR)
    before = os.umask(0o027)
    try:
        assert llmzip("-o", "piped.llz", stdin=PLAIN).exit_code == 0  # nothing to copy from
    finally:
        os.umask(before)
    assert state("piped.llz")[0] == 0o640
    assert state("piped.llz")[1] != LAST_YEAR


_RECORDED = """
import json, os, stat, sys
events = []
def recording(name):
    real = getattr(os, name)
    def call(*args, **kwargs):
        out = real(*args, **kwargs)
        events.append([name, *(os.readlink(f"/proc/self/fd/{a}") if isinstance(a, int) else os.path.abspath(a) for a in args)])
        return out
    setattr(os, name, call)
for name in ("fsync", "link", "replace", "unlink"):
    recording(name)
from llmzip.cli import main
try:
    main(sys.argv[1:])
except SystemExit as e:
    assert not e.code
print(json.dumps(events))
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="asks the system which file is meant")
def test_an_output_is_on_disk_before_it_has_its_name_and_its_source_goes(here: Path) -> None:
    Path("a").write_bytes(PLAIN)

    def events(*args: str) -> list[list[str]]:
        result = subprocess.run([sys.executable, "-c", _RECORDED, *args], capture_output=True, check=True)
        found: list[list[str]] = json.loads(result.stdout)
        return found

    for args, source, target in ((["--rm", "a"], "a", "a.llz"), (["-d", "--rm", "a.llz"], "a.llz", "a")):
        synced, named, folder, *rest = events(*args)
        work_file = Path(synced[1])
        assert work_file.parent == here  # the same file system, so that a rename is all that is needed
        assert synced[0] == "fsync"
        assert named == ["link", str(work_file), str(here / target)]  # which fails where there is one already
        assert folder == ["fsync", str(here)]
        assert [e for e in rest if e[0] == "unlink"][-1] == ["unlink", str(here / source)]
    assert os.listdir() == ["a"]
    assert Path("a").read_bytes() == PLAIN


def test_devices_and_pipes_are_written_to(here: Path) -> None:
    """They are never replaced by a file; what is a file is."""
    Path("a").write_bytes(PLAIN)
    os.mkfifo("pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(Path("pipe").read_bytes()))
    reader.start()
    try:
        assert llmzip("-f", "-o", "pipe", "a").exit_code == 0
    finally:
        if not Path("pipe").is_fifo():
            os.unlink("pipe")
            os.mkfifo("pipe")
            Path("pipe").write_bytes(b"")
        reader.join()
    assert Path("pipe").is_fifo()
    assert read == [llmzip("-c", "a").stdout_bytes]
    assert llmzip("-o", os.devnull, "a").exit_code == llmzip("--verify", "-o", os.devnull, "a").exit_code == 0
    refused(llmzip("--rm", "-o", os.devnull, "a"), 1, "a", "--rm", os.devnull)
    refused(llmzip("-f", "-o", str(here), "a"), 1, "cannot be written", "directory")
    assert sorted(os.listdir()) == ["a", "pipe"]


def test_damage_lets_nothing_of_a_block_out(here: Path) -> None:
    one, two = llmzip("-c", stdin=PLAIN).stdout_bytes, bytearray(llmzip("-c", stdin=b"other" * 900).stdout_bytes)
    two[20] ^= 1
    Path("a.llz").write_bytes(one + two)
    result = llmzip("-dc", "a.llz")
    assert result.stdout_bytes == PLAIN
    assert result.exit_code == 1
    assert result.stderr.startswith("llmzip: a.llz: ")
    assert "damaged" in result.stderr
    refused(llmzip("-dc", stdin=bytes(two)), 1, "standard input", "damaged")
    refused(llmzip("-d", "a.llz"), 1, "damaged")
    assert os.listdir() == ["a.llz"]


def test_text_that_decodes_wrongly_is_not_let_out(here: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container is sound, and what the model makes of it is text: only the content's own check tells."""
    monkeypatch.setenv("LLMZIP_MODEL", str(tiny_folder))
    monkeypatch.setenv("LLMZIP_CACHE", str(here / "cache"))
    archive = llmzip("-c", stdin=SHORT).stdout_bytes
    (found,) = frames_of(archive)
    (coded,) = (r for r in found if isinstance(r, CodedBlock))
    altered = replace(coded, stream=coded.stream[:50] + bytes([coded.stream[50] ^ 1]) + coded.stream[51:])
    wrong = b"".join(encode_record(altered if r is coded else r) for r in found)
    refused(llmzip("-dc", stdin=frame_start() + wrong), 3, "standard input")
    assert llmzip("-dc", stdin=archive).stdout_bytes == SHORT


def test_exit_codes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst of many files counts; each error has its line."""
    monkeypatch.setenv("LLMZIP_CACHE", str(here / "cache"))
    Path("text").write_bytes(TEXT)
    Path("plain").write_bytes(PLAIN)
    assert llmzip("plain").exit_code == 0
    assert llmzip("-t", "plain.llz", "text").exit_code == 1
    assert llmzip("-o", "x", "plain", "text").exit_code == 2
    result = llmzip("--offline", "-f", "absent", "text", "plain")
    assert result.exit_code == 3
    assert [line.split(":")[1] for line in result.stderr.splitlines()] == [" absent", " text"]
    assert sorted(os.listdir()) == ["cache", "plain", "plain.llz", "text"]


def test_many_files_load_the_model_once(
    here: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LLMZIP_MODEL", str(tiny_folder))
    monkeypatch.setenv("LLMZIP_CACHE", str(here / "cache"))
    caplog.set_level("INFO", "llmzip")
    for i in range(3):
        Path(f"{i}").write_bytes(TEXT[i * 300 :][:300])
    assert llmzip("0", "1", "2").exit_code == 0
    assert caplog.text.count("model read in") == 1
    assert llmzip("-dc", "0.llz", "1.llz", "2.llz").stdout_bytes == TEXT[:900]
    assert caplog.text.count("model read in") == 2


def test_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands for options, which count more; LLMZIP_MODEL and LLMZIP_CACHE are used by most tests."""
    for name, option in (("LLMZIP_THREADS", "--threads"), ("LLMZIP_DEVICE", "--device")):
        with monkeypatch.context() as patch:
            patch.setenv(name, "rubbish")
            result = llmzip("-c", stdin=PLAIN)
            assert result.exit_code == 2
            assert option in result.stderr
            assert llmzip("-c", option, {"--threads": "1", "--device": "cpu"}[option], stdin=PLAIN).exit_code == 0
    monkeypatch.setenv("LLMZIP_CACHE", str(here / "cache"))
    monkeypatch.setenv("LLMZIP_MODEL", "nowhere")
    refused(llmzip("-c", stdin=SHORT), 3, "nowhere")
    refused(llmzip("-c", "--model", "elsewhere", stdin=SHORT), 3, "elsewhere")


def test_binary_input_hardly_grows(here: Path) -> None:
    for data in (b"", b"\xff", os.urandom(300_000)):
        archive = llmzip("-c", stdin=data).stdout_bytes
        assert len(archive) <= len(data) + 35
        assert llmzip("-dc", stdin=archive).stdout_bytes == data


def test_list_and_info_need_no_model(here: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("LLMZIP_MODEL", str(tiny_folder))
        patch.setenv("LLMZIP_CACHE", str(here / "cache"))
        archive = llmzip("-c", stdin=SHORT).stdout_bytes
    monkeypatch.setenv("LLMZIP_CACHE", str(here / "none"))
    refused(llmzip("-t", stdin=archive), 3, "local:tiny")
    for command in (["list"], ["info"], ["-l"]):
        assert llmzip(*command, stdin=archive).exit_code == 0
        (found,) = json.loads(llmzip(*command, "--json", stdin=archive).stdout)
        assert (found["content"], found["archive"], found["models"][0]["model_id"]) == (len(SHORT), len(archive), "local:tiny")
    (twice,) = json.loads(llmzip("list", "--json", stdin=archive * 2).stdout)
    assert (twice["frames"], twice["content"]) == (2, 2 * len(SHORT))
    assert not (here / "none").exists()


@pytest.mark.slow
def test_names_of_any_bytes(here: Path, tiny_folder: Path) -> None:
    """They are shown in one line and in any encoding's characters, and used as they are."""
    odd = [b"caf\xe9.txt", b"new\nline", b"esc\x1b[31m", "caf\u00e9".encode()]
    for name in odd:
        Path(os.fsdecode(name)).write_bytes(b"a few words for the model " * 3)

    def run(*args: str | bytes, encoding: str = "utf-8:strict") -> tuple[int, bytes, bytes]:
        env = os.environ | {"PYTHONIOENCODING": encoding, "LLMZIP_MODEL": str(tiny_folder), "LLMZIP_CACHE": str(here / "cache")}
        result = subprocess.run([sys.executable, "-m", "llmzip", *args], capture_output=True, check=False, env=env)
        return result.returncode, result.stdout, result.stderr

    assert run("-1", *odd) == (0, b"", b"")
    archives = [name + b".llz" for name in odd]
    shown = [rb"caf\xe9.txt.llz", rb"new\nline.llz", rb"esc\x1b[31m.llz", "caf\u00e9.llz".encode()]
    for encoding in ("utf-8:strict", "latin-1:strict"):
        for command in ("list", "info"):
            code, out, said = run(command, *archives, encoding=encoding)
            assert (code, said) == (0, b"")
            assert all(name in out for name in shown[:3])
            assert shown[3] in out or b"caf\xe9.llz" in out
    assert [entry["file"] for entry in json.loads(run("info", "--json", *archives)[1])] == [name.decode() for name in shown]
    assert run("-t", *archives) == (0, b"", b"")
    code, out, said = run(*odd)  # each is there already
    assert (code, out, len(said.splitlines())) == (1, b"", 4)
    assert all(b"llmzip: %s: %s exists already" % (name.removesuffix(b".llz"), name) in said for name in shown)
    code, out, said = run("bench", "--bytes", "30", "--timeout", "0.001", "-q", *odd[:2])
    assert (code, b"caf\\xe9.txt" in out, b"new\\nline" in out) == (0, True, True), said
    code, out, said = run("inspect", odd[0], encoding="ascii:strict")
    assert (code, said) == (0, b"")
    assert b"caf\\xe9.txt" in out
    assert b"caf\\xe9" in run("list", b"caf\xe9")[2]
    assert sorted(os.listdir(os.fsencode(here))) == sorted([*odd, *archives, b"cache"])


def test_names_that_are_too_long_are_found_out_first(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmzip.codec.codec import Codec

    with monkeypatch.context() as patch:
        patch.setattr(Codec, "compress_stream", None)  # nothing is to be coded
        for name in ("x" * 252, "\u00e9" * 126):
            Path(name).write_bytes(PLAIN)
            for args in ([name], ["-f", name], ["--verify", name]):
                refused(llmzip(*args), 1, "file name too long", "-o")
            os.unlink(name)
        Path("a").write_bytes(PLAIN)
        for args in (["-o", "y" * 256, "a"], ["inspect", "--html", "y" * 256, "a"], ["models", "export", "tiny", "-o", "y" * 256]):
            refused(llmzip(*args), 1, "file name too long")
        assert os.listdir() == ["a"]
    Path("z" * 251).write_bytes(PLAIN)
    assert llmzip("z" * 251).exit_code == 0
    assert llmzip("-dc", "z" * 251 + ".llz").stdout_bytes == PLAIN


def test_archives_are_not_compressed_again(here: Path) -> None:
    """Unless that is asked for; other files go on."""
    for name in ("a", "b"):
        Path(name).write_bytes(PLAIN)
    assert llmzip("a").exit_code == 0
    result = llmzip("a.llz", "b")
    assert (result.exit_code, result.stdout_bytes) == (1, b"")
    assert result.stderr == "llmzip: a.llz: ends in .llz already, and is left alone; use -f to compress it again, or -o\n"
    assert sorted(os.listdir()) == ["a", "a.llz", "b", "b.llz"]
    archive = Path("a.llz").read_bytes()
    for args in (["-c", "a.llz"], ["-o", "-", "a.llz"], []):
        assert llmzip("-dc", stdin=llmzip(*args, stdin=archive).stdout_bytes).stdout_bytes == archive
    assert llmzip("-f", "a.llz").exit_code == llmzip("compress", "-o", "c.llz", "a.llz").exit_code == 0
    assert Path("a.llz.llz").read_bytes() == Path("c.llz").read_bytes()
    assert llmzip("-dc", "a.llz.llz").stdout_bytes == archive


def test_a_file_named_like_standard_output(here: Path) -> None:
    Path("-").write_bytes(b"mine")
    Path("a").write_bytes(PLAIN)
    assert llmzip("-dc", stdin=llmzip("-c", "a").stdout_bytes).stdout_bytes == PLAIN
    assert Path("-").read_bytes() == b"mine"
