"""Coding on a processor does not import torch: only the first start with a kind of model does, for the answers that prove compiled code."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmzip.codec.codec import Codec
from llmzip.message.message_codec import MessageCodec
from llmzip.options import Options
from tests.support.codecs import ROOT, TEXT

pytestmark = pytest.mark.slow

CONTENT = TEXT[:700]
API = f"""
import json, sys
import llmzip
from llmzip.message.message_codec import MessageCodec
CONTENT = {CONTENT!r}
model = sys.argv[1]
archive = llmzip.compress(CONTENT, model=model, device="cpu")
assert llmzip.decompress(archive, model=model, device="cpu") == CONTENT
with llmzip.open(sys.argv[2], "wb", model=model, device="cpu") as f:
    f.write(CONTENT)
with llmzip.open(sys.argv[2], "rb", model=model, device="cpu") as f:
    assert f.read() == CONTENT
messages = MessageCodec(llmzip.Options(model=model, device="cpu"))
made = messages.encode([b"we sail at noon"])
assert messages.decode(made) == [b"we sail at noon"]
print(json.dumps(dict(torch="torch" in sys.modules, archive=archive.hex(), message=made[0].hex())))
"""
CLI = """
import os, sys
def ends(status):
    sys.stderr.write(f"torch: {'torch' in sys.modules}")
    sys.stderr.flush()
    leave(status)
leave, os._exit = os._exit, ends
from llmzip.__main__ import run
run()
"""
# What a caller may have done to its thread before: the floating-point environment of C, as glibc has it on x86-64.
FLUSH = """
import ctypes
library, environment = ctypes.CDLL("libm.so.6"), (ctypes.c_uint32 * 8)()
library.fegetenv(environment)
environment[7] |= 0x8040
library.fesetenv(environment)
assert sys.float_info.min / 2 == 0
"""
ROUND = """
import ctypes
library = ctypes.CDLL("libm.so.6")
library.fesetround({mode})
assert library.fegetround() == {mode}
"""
MODES = {
    "subnormals are zero": FLUSH,
    "upward": ROUND.format(mode=0x800),
    "downward": ROUND.format(mode=0x400),
    "to zero": ROUND.format(mode=0xC00),
}


@pytest.fixture(scope="module")
def known(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A cache with the tiny model and the answers of its kind; and what its first start made."""
    cache = tmp_path_factory.mktemp("without torch") / "cache"
    return {"cache": str(cache), "model": str(tiny_folder), "first": program(API, cache, tiny_folder)}


def program(source: str, cache: Path | str, model: Path | str) -> dict[str, Any]:
    """What a process says that ran `source`."""
    command = [sys.executable, "-c", source, str(model), f"{cache}.llz"]
    result = subprocess.run(command, cwd=ROOT, env=os.environ | {"LLMZIP_CACHE": str(cache)}, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_only_the_first_start_asks_torch(known: dict[str, Any]) -> None:
    assert known["first"]["torch"]
    assert program(API, known["cache"], known["model"]) == known["first"] | {"torch": False}


def test_same_as_where_torch_is(known: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMZIP_CACHE", known["cache"])
    for kernel in (None, "torch"):
        options = Options(model=known["model"], device="cpu", kernel=kernel)
        assert Codec(options).decompress(bytes.fromhex(known["first"]["archive"])) == CONTENT
        assert MessageCodec(options).decode([bytes.fromhex(known["first"]["message"])]) == [b"we sail at noon"]


def test_it_need_not_even_be_there(known: dict[str, Any]) -> None:
    program("import sys\nsys.modules['torch'] = None" + API.replace('"torch" in sys.modules', "False"), known["cache"], known["model"])


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_command(known: dict[str, Any], tmp_path: Path, device: str) -> None:
    """With `auto`, on a machine without a driver."""
    from llmzip.engine import build

    if device == "auto" and build._may_have_cuda():
        pytest.skip("torch is asked for a device here")
    env = os.environ | {"LLMZIP_CACHE": known["cache"], "LLMZIP_MODEL": known["model"], "PYTHONPATH": str(ROOT)}
    (tmp_path / "a.txt").write_bytes(CONTENT)

    def run(*arguments: str, stdin: bytes = b"") -> bytes:
        command = [sys.executable, "-c", CLI, *arguments, "--device", device]
        result = subprocess.run(command, input=stdin, cwd=tmp_path, env=env, capture_output=True, check=False)
        assert (result.returncode, result.stderr) == (0, b"torch: False"), result.stderr
        return result.stdout

    run("compress", "--rm", "a.txt")
    run("decompress", "a.txt.llz")
    assert (tmp_path / "a.txt").read_bytes() == CONTENT
    message = run("message", stdin=b"we sail at noon")
    assert run("message", "-d", stdin=message) == b"we sail at noon\n"


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="modes as glibc on x86-64 has them")
@pytest.mark.parametrize("mode", MODES)
def test_modes_of_the_callers_thread(known: dict[str, Any], mode: str) -> None:
    """Threads inherit them, and torch is not there to set them back."""
    found = program("import sys\n" + MODES[mode] + API, known["cache"], known["model"])
    assert found == known["first"] | {"torch": False}
