"""Zeros after an archive, as a tape adds them: they mean nothing, to whatever reads archives."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import llmzip
from llmzip.archive.parity.layout import MARKER
from llmzip.archive.parity.repair import repair, repair_archive
from llmzip.archive.summary import summarise
from llmzip.cli import main
from llmzip.codec.codec import Codec
from llmzip.errors import DamagedArchiveError, LLZError
from llmzip.options import Options
from llmzip.salvaging.recovery import recoverable
from llmzip.salvaging.result import Salvaged

NOISE = random.Random(9).randbytes(9_000)
CODEC = Codec(Options(block_bytes=2_000))
ARCHIVE = CODEC.compress(NOISE)
TWO = CODEC.compress(NOISE[:5000]) + CODEC.compress(NOISE[5000:])
PROTECTED = Codec(Options(block_bytes=2_000, parity=10)).compress(NOISE)
END = 22  # bytes of the end record of ARCHIVE
SIZES = [1, 2, 3, 4, 5, 31, 32, 512, 10_240, 100_001]

Reader = Callable[[bytes], bytes]


def _in_pieces(archive: bytes) -> bytes:
    d = llmzip.Decompressor()
    content = b"".join(d.decompress(archive[at : at + 1000]) for at in range(0, len(archive), 1000) if not d.eof)
    assert d.eof
    assert not d.unused_data.strip(b"\0")
    return content


def _forward(archive: bytes) -> bytes:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    return llmzip.open(Pipe(archive)).read()


def _backward(archive: bytes) -> bytes:
    with llmzip.open(io.BytesIO(archive)) as f:
        size = f.seek(0, io.SEEK_END)
        f.seek(size - 10)
        tail = f.read()
        f.seek(0)
        return f.read(size - 10) + tail


READERS: dict[str, Reader] = {
    "decompress": llmzip.decompress,
    "in pieces": _in_pieces,
    "file": lambda archive: llmzip.open(io.BytesIO(archive)).read(),
    "forward": _forward,
    "backward": _backward,
    "salvage": lambda archive: llmzip.salvage(archive).content,
}


@pytest.mark.parametrize("name", READERS)
def test_readers(name: str) -> None:
    for size in SIZES:
        for archive in [ARCHIVE] if name == "in pieces" else [ARCHIVE, TWO, PROTECTED]:
            assert READERS[name](archive + bytes(size)) == NOISE
    assert summarise(io.BytesIO(ARCHIVE + bytes(70_000))) == summarise(io.BytesIO(ARCHIVE))


@pytest.mark.parametrize("after", [b"x", b"\0x", bytes(9) + b"\x89LLZ", bytes(70_000) + b"\1", bytes(512) + ARCHIVE])
def test_anything_else_is_damage(after: bytes) -> None:
    for archive in (ARCHIVE, TWO):
        for reader in (llmzip.decompress, READERS["file"], _forward):
            with pytest.raises(DamagedArchiveError):
                reader(archive + after)
        assert not llmzip.salvage(archive + after).complete or after.endswith(ARCHIVE)
    for start in (b"", ARCHIVE[:-1]):
        with pytest.raises(LLZError):  # no archive, and none that is whole
            llmzip.decompress(start + bytes(64))


def _same(one: Salvaged, other: Salvaged) -> bool:
    return one.pieces == other.pieces and [(g.reason, g.size, g.harmless) for g in one.gaps] == [
        (g.reason, g.size, g.harmless) for g in other.gaps
    ]


@pytest.mark.parametrize("size", [1, 4, 512])
def test_salvage_finds_the_same(size: int) -> None:
    """Whatever is damaged before the zeros: a bit, a head, a body, the start, an end record."""
    rng = random.Random(size)
    assert recoverable(ARCHIVE + bytes(size)) == recoverable(ARCHIVE)
    bits = [rng.randrange(8 * len(ARCHIVE)) for _ in range(60)] + [8 * (len(ARCHIVE) - END) + i for i in range(0, 8 * END, 3)]
    for bit in bits:
        damaged = bytearray(ARCHIVE)
        damaged[bit // 8] ^= 1 << bit % 8
        plain, padded = llmzip.salvage(bytes(damaged)), llmzip.salvage(bytes(damaged) + bytes(size))
        assert _same(padded, plain), bit
        assert padded.content == NOISE
    for at in (0, 5, 6, 2010, len(ARCHIVE) - END, len(ARCHIVE) - END + 4):
        damaged = ARCHIVE[:at] + bytes(b ^ 0x5A for b in ARCHIVE[at : at + 2]) + ARCHIVE[at + 2 :]  # type: ignore[assignment]
        assert _same(llmzip.salvage(damaged + bytes(size)), llmzip.salvage(damaged)), at  # type: ignore[arg-type]


@pytest.mark.parametrize("size", SIZES)
def test_repair(size: int) -> None:
    whole = PROTECTED + bytes(size)
    assert repair(whole) == whole
    frame = PROTECTED.index(MARKER)
    for at in (10, 4000, frame + 200, len(PROTECTED) - 40):
        damaged = PROTECTED[:at] + bytes(b ^ 0xFF for b in PROTECTED[at : at + 30]) + PROTECTED[at + 30 :] + bytes(size)
        mended = repair_archive(damaged)
        assert mended
        assert mended.damaged
        assert mended.archive.rstrip(b"\0") == PROTECTED.rstrip(b"\0")
        assert llmzip.decompress(mended.archive) == NOISE


def llmzip_on(*args: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(main, args, input=stdin)


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for size in (1, 512, 70_000):
        padded = ARCHIVE + bytes(size)
        Path("a.llz").write_bytes(padded)
        for args in (["-dc", "a.llz"], ["-dc"], ["-dc", "--salvage", "a.llz"]):
            result = llmzip_on(*args, stdin=padded)
            assert (result.exit_code, result.stdout_bytes, result.stderr) == (0, NOISE, "")
        for args in (["-t", "a.llz"], ["-t"], ["list", "a.llz"], ["info"]):
            result = llmzip_on(*args, stdin=padded)
            assert (result.exit_code, result.stderr) == (0, "")
        result = llmzip_on("repair", "a.llz")
        assert (result.exit_code, result.stderr) == (0, "llmzip: a.llz: is whole, and has no parity\n")
        Path("p.llz").write_bytes(PROTECTED + bytes(size))
        assert llmzip_on("repair", "p.llz").stderr == "llmzip: p.llz: is whole\n"
        assert llmzip_on("-t", "p.llz").exit_code == 0
    assert sorted(os.listdir()) == ["a.llz", "p.llz"]


@pytest.mark.parametrize("size", [1, 5, 10_240])
@pytest.mark.slow
def test_more_is_added_before_them(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.llz"
    path.write_bytes(ARCHIVE + bytes(size))
    with pytest.raises(KeyError), llmzip.open(path, "ab") as f:
        f.write(NOISE)
        raise KeyError
    assert path.read_bytes() == ARCHIVE + bytes(size)
    with llmzip.open(path, "ab") as f:
        f.write(b"more")
    assert path.read_bytes() == ARCHIVE + llmzip.compress(b"more")
    path.write_bytes(bytes(size))
    with pytest.raises(LLZError):
        llmzip.open(path, "ab")
    assert path.read_bytes() == bytes(size)
