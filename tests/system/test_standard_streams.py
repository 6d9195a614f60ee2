"""Standard output is the program's alone, by whatever name it is called; descriptors that were given are written where they stand."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llmzip.codec.codec import Codec
from llmzip.system import descriptors

NOISE = random.Random(10).randbytes(40_000)
ARCHIVE = Codec().compress(NOISE)
LLMZIP = f"{sys.executable} -m llmzip"
STDOUT = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1", "dev/stdout", "link", "links/to", "../work/link"]
HARMLESS = ["/proc/self/fd/1", "link", "links/to", "../work/link"]  # to be replaced, should that go wrong: nobody else's, or not to be had


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file, and links of several kinds to standard output."""
    folder = tmp_path / "work"
    (folder / "links").mkdir(parents=True)
    monkeypatch.chdir(folder)
    Path("x").write_bytes(NOISE)
    Path("dev").symlink_to("/dev")
    Path("link").symlink_to("/proc/self/fd/1")
    Path("links/to").symlink_to("../link")
    return folder


def shell(words: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", words.replace("llmzip", LLMZIP)], capture_output=True, check=False, timeout=120, env=os.environ | env
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "force"), [(name, "") for name in STDOUT] + [(name, "-f") for name in HARMLESS])
def test_names_of_standard_output(work: Path, name: str, force: str) -> None:
    """A pipe, a file that is emptied before, a file that is added to; none of them is replaced, nor the name."""
    before = os.readlink("link"), sorted(os.listdir())
    assert shell(f"llmzip {force} -o {name} x | cat").stdout == ARCHIVE
    Path("out").write_bytes(b"before")
    inode = os.stat("out").st_ino
    assert shell(f"llmzip {force} -o {name} x >> out").returncode == 0
    assert Path("out").read_bytes() == b"before" + ARCHIVE
    assert shell(f"llmzip {force} -o {name} x > out").returncode == 0
    assert Path("out").read_bytes() == ARCHIVE
    assert shell(f"(echo first; llmzip {force} -o {name} x; echo last) > out").returncode == 0
    assert Path("out").read_bytes() == b"first\n" + ARCHIVE + b"last\n"
    assert os.stat("out").st_ino == inode
    os.unlink("out")
    assert (os.readlink("link"), sorted(os.listdir())) == before


@pytest.mark.slow
@pytest.mark.parametrize("command", ["repair -f -o link x.llz", "-d -o dev/stdout x.llz", "inspect -q --html link x"])
def test_other_commands(work: Path, command: str, tiny_folder: Path) -> None:
    Path("x.llz").write_bytes(ARCHIVE)
    Path("x").write_bytes(b"a few words")
    usual = shell(f"llmzip {command} | cat", LLMZIP_MODEL=str(tiny_folder), LLMZIP_CACHE=str(work / "cache")).stdout
    assert usual
    result = shell(f"(echo first; llmzip {command}) >> out", LLMZIP_MODEL=str(tiny_folder), LLMZIP_CACHE=str(work / "cache"))
    assert (result.returncode, result.stdout) == (0, b"")
    assert Path("out").read_bytes() == b"first\n" + usual
    assert os.path.islink("link")


@pytest.mark.slow
def test_other_descriptors(work: Path) -> None:
    Path("out").write_bytes(b"before")
    assert shell("llmzip -o /dev/fd/7 x 7>> out").returncode == 0
    assert Path("out").read_bytes() == b"before" + ARCHIVE
    assert shell("llmzip -o /proc/self/fd/2 x").stderr == ARCHIVE
    assert shell("llmzip -o >(cat > piped) x; sleep 0.5").returncode == 0
    assert Path("piped").read_bytes() == ARCHIVE
    for number in range(3, 12):  # among them those that the program itself has open
        result = shell(f"llmzip -f -o /dev/fd/{number} x")
        assert result.returncode == 1
        assert result.stderr.count(b"\n") == 1
        assert b"bad file descriptor" in result.stderr or b"own output" in result.stderr
    assert shell("cat x | llmzip -c /dev/stdin").stdout == ARCHIVE
    assert shell("llmzip -c <(cat x)").stdout == ARCHIVE
    assert shell("llmzip -c /dev/fd/0 < x").stdout == ARCHIVE


@pytest.mark.slow
def test_what_a_name_means(work: Path) -> None:
    for name in STDOUT:
        assert descriptors.descriptor_of(name) == 1
    assert descriptors.descriptor_of("/dev/stdin") == 0
    Path("loop").symlink_to("loop")
    for name in ("x", "absent", "/dev/null", "/dev/fd", "/dev/fd/01", "/dev/fd/x", "/proc/1/fd/1", "loop", "-", "x/1"):
        assert descriptors.descriptor_of(name) is None
    assert descriptors.is_inherited(2)
    own = os.open("x", os.O_RDONLY)
    assert not descriptors.is_inherited(own)
    os.close(own)
    assert not descriptors.is_inherited(own)
    assert not descriptors.is_inherited(1 << 40)


_NOISY = """
import os, sys
from llmzip import __main__
from llmzip.archive import lzma2
real = lzma2.pack
def pack(content, *how):
    os.write(1, b"from C\\n")
    print("from Python")
    os.system("echo from a program")
    return real(content, *how)
lzma2.pack = pack
sys.argv[0] = "llmzip"
__main__.run()
"""


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_libraries_print_is_not_in_the_archive(work: Path, unbuffered: str) -> None:
    """It is on standard error."""
    for args in ([], ["-c", "x"], ["--verify", "-c", "x"]):
        result = subprocess.run(
            [sys.executable, "-c", _NOISY, *args],
            input=NOISE, capture_output=True, check=False, timeout=120, env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
        assert (result.returncode, result.stdout) == (0, ARCHIVE)
        assert b"from C" in result.stderr
        assert b"from Python" in result.stderr
        assert b"from a program" in result.stderr


@pytest.mark.slow
def test_verbose_libraries(work: Path, tiny_folder: Path) -> None:
    Path("x").write_bytes(b"The harbour wall. " * 6)
    env = {"LLMZIP_MODEL": str(tiny_folder), "LLMZIP_CACHE": str(work / "cache")}
    usual = shell("llmzip -c x", **env)
    loud = shell("llmzip -c x", **env, MKL_VERBOSE="1", ONEDNN_VERBOSE="1", DNNL_VERBOSE="1")
    assert usual.returncode == loud.returncode == 0
    assert loud.stdout == usual.stdout


@pytest.mark.slow
def test_the_library_leaves_streams_alone(work: Path) -> None:
    program = (
        "import os, sys; before = sys.stdin, sys.stdout, sys.stderr, os.fstat(1)\n"
        "import llmzip, llmzip.cli\n"
        "llmzip.decompress(llmzip.compress(bytes(99)))\n"
        "assert before == (sys.stdin, sys.stdout, sys.stderr, os.fstat(1))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, stdout=subprocess.DEVNULL, timeout=120).returncode == 0


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii:surrogateescape", "utf-8:replace"])
def test_text_is_encoded_as_python_would(encoding: str) -> None:
    program = "import sys; print([(s.encoding, s.errors, s.line_buffering, s.mode, s.name, s.isatty()) for s in (sys.stdin, sys.stdout)])"
    ours = f"from llmzip.system import standard_streams; standard_streams.install(); {program}; sys.stdout.flush()"
    env = os.environ | {"PYTHONIOENCODING": encoding}

    def said(what: str) -> bytes:
        return subprocess.run([sys.executable, "-c", what], capture_output=True, check=True, env=env).stdout

    expected = re.sub(
        rb"'strict', (\w+), 'w'", rb"'backslashreplace', \1, 'w'", said(program)
    )  # what has no characters is shown by its number
    assert said(ours) == expected
