"""The other compressors on this machine, each at its strongest common setting and on one thread."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from llmzip.errors import LLZError
from llmzip.system.libraries import ZSTD, import_first

Code = Callable[[bytes], bytes]
DEFAULT_TIMEOUT = 600.0  # seconds a program may take each way
_PPMD = (32, 192 << 20)  # order and memory, as 7z -mx=9 has them for large files


class CompetitorError(LLZError):
    """Another compressor failed, or took too long."""


@dataclass(frozen=True)
class Contender:
    """A way to compress, and back.

    Attributes:
        name: with its setting.
        by: "library", if calls are measured, or "process", if whole programs are, their start included.
    """

    name: str
    by: str
    compress: Code
    decompress: Code


def find(timeout: float = DEFAULT_TIMEOUT) -> tuple[list[Contender], list[str]]:
    """Compressors that are on this machine, and the names of those that are not. A library is preferred to a program."""
    found, absent = [], []
    for name, ways in _kinds(timeout).items():
        if contender := next(iter(ways), None):
            found.append(contender)
        else:
            absent.append(name)
    return found, absent


def _kinds(timeout: float) -> dict[str, Iterator[Contender]]:
    def program(name: str, compress: list[str], decompress: list[str]) -> Iterator[Contender]:
        """A program that filters standard input."""
        if path := shutil.which(compress[0]):
            there, back = [path, *compress[1:]], [path, *decompress]
            yield Contender(name, "process", lambda d: _run(there, d, timeout), lambda d: _run(back, d, timeout))

    return {
        "gzip": chain(
            _library("gzip -9", ("gzip",), lambda m, d: m.compress(d, 9)),
            program("gzip -9", ["gzip", "-9c"], ["-dc"]),
        ),
        "bzip2": chain(
            _library("bzip2 -9", ("bz2",), lambda m, d: m.compress(d, 9)),
            program("bzip2 -9", ["bzip2", "-9c"], ["-dc"]),
        ),
        "xz": chain(
            _library("xz -9e", ("lzma",), lambda m, d: m.compress(d, preset=9 | m.PRESET_EXTREME)),
            program("xz -9e", ["xz", "-9ecT1"], ["-dc"]),
        ),
        "zstd": chain(
            _library("zstd -19", ZSTD, lambda m, d: m.compress(d, 19)),
            program("zstd -19", ["zstd", "-19", "-qcT1"], ["-dqc"]),
        ),
        "brotli": chain(
            _library("brotli -11", ("brotli", "brotlicffi"), lambda m, d: m.compress(d, quality=11, lgwin=24)),
            program("brotli -11", ["brotli", "-q", "11", "-w", "24", "-c"], ["-dc"]),
        ),
        "7z PPMd": chain(
            _library("7z PPMd", ("pyppmd",), _ppmd, _from_ppmd),
            _seven_zip(timeout),
        ),
        "zpaq": _zpaq(timeout),
    }


def _library(
    name: str, modules: tuple[str, ...], compress: Callable[[Any, bytes], bytes],
    decompress: Callable[[Any, bytes], bytes] = lambda m, d: m.decompress(d),
) -> Iterator[Contender]:  # fmt: skip
    """By the first of these modules that can be imported."""
    if module := import_first(*modules):
        yield Contender(name, "library", partial(_call, compress, module), partial(_call, decompress, module))


def _call(function: Callable[[Any, bytes], bytes], module: Any, data: bytes) -> bytes:
    try:
        return function(module, data)
    except Exception as e:  # each library has its own
        raise CompetitorError(f"{module.__name__} failed ({e or type(e).__name__})") from e


def _ppmd(pyppmd: Any, data: bytes) -> bytes:
    """As 7z codes it, after the length, which a decoder needs."""
    encoder = pyppmd.Ppmd7Encoder(*_PPMD)
    return len(data).to_bytes(8, "little") + bytes(encoder.encode(data)) + bytes(encoder.flush())


def _from_ppmd(pyppmd: Any, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    decoder = pyppmd.Ppmd7Decoder(*_PPMD)
    content = bytes(decoder.decode(data[8:], length))
    while len(content) < length and (more := decoder.decode(b"", length - len(content))):
        content += more
    return content


def _seven_zip(timeout: float) -> Iterator[Contender]:
    path = next(filter(None, map(shutil.which, ("7zz", "7z", "7za"))), None)
    if path is None:
        return
    pack = [path, "a", "-t7z", "-m0=PPMd", "-mx=9", "-mmt=1", "-bd", "-y", "archive.7z", "content"]
    unpack = [path, "x", "-y", "-bd", "archive.7z"]
    yield Contender("7z PPMd", "process", *_with_files("archive.7z", pack, unpack, timeout))


def _zpaq(timeout: float) -> Iterator[Contender]:
    if path := shutil.which("zpaq"):
        pack, unpack = [path, "a", "archive.zpaq", "content", "-m5", "-t1"], [path, "x", "archive.zpaq", "-t1"]
        yield Contender("zpaq -m5", "process", *_with_files("archive.zpaq", pack, unpack, timeout))


def _with_files(archive: str, pack: list[str], unpack: list[str], timeout: float) -> tuple[Code, Code]:
    """Both ways for a program that makes `archive` of the file `content`, and back, in the folder it runs in."""

    def through(command: list[str], given: str, made: str, data: bytes) -> bytes:
        with tempfile.TemporaryDirectory(prefix="llmzip-bench-") as folder:
            Path(folder, given).write_bytes(data)
            _run(command, b"", timeout, folder)
            try:
                return Path(folder, made).read_bytes()
            except OSError as e:
                raise CompetitorError(f"{Path(command[0]).name} made no file") from e

    return lambda data: through(pack, "content", archive, data), lambda data: through(unpack, archive, "content", data)


def _run(command: list[str], data: bytes, timeout: float, folder: str | None = None) -> bytes:
    """What a program makes of `data`."""
    name = Path(command[0]).name
    try:
        result = subprocess.run(command, input=data, capture_output=True, timeout=timeout, cwd=folder, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as e:
        raise CompetitorError(f"{name} took more than {timeout:g} seconds") from e
    except OSError as e:
        raise CompetitorError(f"{name} cannot be run ({(e.strerror or 'error').lower()})") from e
    if result.returncode:
        said = result.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise CompetitorError(f"{name} failed with status {result.returncode} ({said[-1]})")
    return result.stdout
