"""`decompress --salvage` and what `test` says of damage: stdout, stderr, exit code, files."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from llmzip.archive.parity import frame as parity_frame
from llmzip.archive.parity import layout as parity_layout
from llmzip.archive.records import CodedBlock, encode_record
from llmzip.models.convert import IntegerModel
from tests.cli.test_cli_files import here, llmzip, refused  # noqa: F401  a fixture
from tests.salvaging.test_salvage import frame
from tests.support.archives import frames_of
from tests.support.codecs import TEXT, fixed_codec

pytestmark = pytest.mark.usefixtures("here")
RNG = random.Random(3)
BLOCKS = [RNG.randbytes(size) for size in (1200, 1000, 1500, 800, 5)]
ONE, TWO = BLOCKS[:3], BLOCKS[3:]
WHOLE = frame(*ONE) + frame(*TWO)
FIRST, SECOND, THIRD = 5, 5 + 1207, 5 + 1207 + 1007  # where the records are
NEXT = len(frame(*ONE))


def damaged(*places: int, data: bytes = WHOLE) -> bytes:
    """Five bytes inverted at each place."""
    changed = bytearray(data)
    for place in places:
        changed[place : place + 5] = bytes(255 - b for b in changed[place : place + 5])
    return bytes(changed)


def test_what_is_left_is_written() -> None:
    Path("a.llz").write_bytes(damaged(SECOND + 100))
    os.chmod("a.llz", 0o604)
    result = llmzip("decompress", "--salvage", "a.llz")
    assert result.stderr == (
        "llmzip: a.llz: missing: block 2, archive bytes 1,212 to 2,218, content bytes 1,200 to 2,199 (damaged)\n"
        "llmzip: a.llz: recovered 4 blocks, 3,505 bytes; the rest is missing\n"
    )
    assert (result.exit_code, result.stdout_bytes) == (1, b"")
    assert Path("a").read_bytes() == ONE[0] + ONE[2] + b"".join(TWO)
    assert os.stat("a").st_mode & 0o777 == 0o604
    refused(llmzip("-d", "--salvage", "a.llz"), 1, "a exists already", "-f")
    assert llmzip("-dc", "--salvage", "a.llz").stdout_bytes == Path("a").read_bytes()
    piped = llmzip("-d", "--salvage", stdin=damaged(SECOND + 100))
    assert (piped.exit_code, piped.stdout_bytes) == (1, Path("a").read_bytes())
    assert piped.stderr == result.stderr.replace("a.llz", "standard input")
    assert sorted(os.listdir()) == ["a", "a.llz"]


def test_nothing_missing() -> None:
    """A whole archive is like without; what could be mended is told, and does no harm."""
    Path("a.llz").write_bytes(WHOLE)
    result = llmzip("-d", "--salvage", "--rm", "a.llz")
    assert (result.exit_code, result.stderr, os.listdir()) == (0, "", ["a"])
    assert Path("a").read_bytes() == b"".join(BLOCKS)
    flip = bytearray(WHOLE)
    flip[THIRD + 50] ^= 8
    Path("b.llz").write_bytes(flip)
    result = llmzip("-d", "--salvage", "b.llz")
    assert (result.exit_code, Path("b").read_bytes()) == (0, b"".join(BLOCKS))
    assert result.stderr == (
        "llmzip: b.llz: repaired: block 3, archive bytes 2,219 to 3,725, content bytes 2,200 to 3,699 "
        "(bit 3 of byte 2,269 of the archive was flipped)\n"
    )
    Path("c.llz").write_bytes(damaged(NEXT))
    result = llmzip("-d", "--salvage", "c.llz")
    assert (result.exit_code, Path("c").read_bytes()) == (0, b"".join(BLOCKS))
    assert result.stderr == (
        f"llmzip: c.llz: damaged, but nothing is missing: archive bytes {NEXT:,} to {NEXT + 4:,}, no content (the start of a frame, damaged)\n"
    )


def test_archives_are_kept_if_anything_is_missing() -> None:
    Path("a.llz").write_bytes(damaged(SECOND + 100))
    Path("b.llz").write_bytes(WHOLE)
    result = llmzip("-d", "--salvage", "--rm", "a.llz", "b.llz")
    assert result.exit_code == 1
    assert sorted(os.listdir()) == ["a", "a.llz", "b"]


def test_unknown_extent() -> None:
    Path("a.llz").write_bytes(WHOLE[: THIRD + 100])
    result = llmzip("-dc", "--salvage", "a.llz")
    assert (result.exit_code, result.stdout_bytes) == (1, b"".join(ONE[:2]))
    assert "missing: block 3, archive bytes 2,219 to 2,318, content of unknown size, from byte 2,200 on (cut off)\n" in result.stderr
    Path("a.llz").write_bytes(WHOLE[:THIRD])
    result = llmzip("-dc", "--salvage", "a.llz")
    assert "missing: from archive byte 2,219 on, content of unknown size, from byte 2,200 on (cut off)\n" in result.stderr
    Path("a.llz").write_bytes(WHOLE[: SECOND + 50] + WHOLE[SECOND + 90 :])
    result = llmzip("-dc", "--salvage", "a.llz")
    assert "missing: block 2, archive bytes 1,212 to 2,178, probably content bytes 1,200 to 2,199 (damaged)\n" in result.stderr
    Path("a.llz").write_bytes(WHOLE[:SECOND] + WHOLE[THIRD:])
    result = llmzip("-dc", "--salvage", "a.llz")
    assert "probably 1,000 bytes of content (missing without a trace)\n" in result.stderr


def test_nothing_left() -> None:
    for name, data, words in (
        ("a", frame(BLOCKS[0])[:500], ("nothing of it can be recovered", "get another copy")),
        ("b", TEXT, ("not an llmzip archive",)),
        ("c", damaged(700, data=frame(BLOCKS[0])), ("nothing of it can be recovered",)),
    ):
        Path(f"{name}.llz").write_bytes(data)
        result = llmzip("-d", "--salvage", f"{name}.llz")
        assert result.exit_code == 1
        assert all(word in result.stderr.splitlines()[-1] for word in words)
        assert not Path(name).exists()


def test_strict_errors_advise_it() -> None:
    """Only where it helps."""
    Path("a.llz").write_bytes(damaged(SECOND + 100))
    refused(
        llmzip("-d", "a.llz"),
        1,
        "a.llz: the archive is damaged or cut short; get another copy, or recover the undamaged part with --salvage",
    )
    Path("a.llz").write_bytes(WHOLE[:-3])
    refused(llmzip("-d", "a.llz"), 1, "cut short", "--salvage")
    Path("a.llz").write_bytes(damaged(300, data=frame(BLOCKS[0])))
    refused(llmzip("-d", "a.llz"), 1, "damaged")
    assert "--salvage" not in llmzip("-d", "a.llz").stderr
    assert os.listdir() == ["a.llz"]


def test_test_names_the_blocks() -> None:
    Path("a.llz").write_bytes(damaged(FIRST + 100, NEXT + 5 + 100))
    result = llmzip("test", "a.llz")
    assert result.stderr == (
        "llmzip: a.llz: damaged: block 1, archive bytes 5 to 1,211, content bytes 0 to 1,199 (damaged)\n"
        f"llmzip: a.llz: damaged: block 4, archive bytes {NEXT + 5:,} to {NEXT + 811:,}, content bytes 3,700 to 4,499 (damaged)\n"
    )
    assert (result.exit_code, result.stdout_bytes, os.listdir()) == (1, b"", ["a.llz"])
    assert llmzip("-t", stdin=damaged(FIRST + 100, NEXT + 5 + 100)).stderr == result.stderr.replace("a.llz", "standard input")
    flip = bytearray(WHOLE)
    flip[THIRD + 50] ^= 8
    Path("a.llz").write_bytes(flip)
    refused(llmzip("test", "a.llz"), 1, "a.llz: damaged, but can be salvaged: block 3", "flipped")
    Path("a.llz").write_bytes(WHOLE)
    assert llmzip("test", "a.llz").exit_code == llmzip("-t", stdin=WHOLE).exit_code == 0


def test_test_checks_the_whole() -> None:
    """Records that are intact and in the wrong order."""
    swapped = WHOLE[:FIRST] + WHOLE[SECOND:THIRD] + WHOLE[FIRST:SECOND] + WHOLE[THIRD:]
    Path("a.llz").write_bytes(swapped)
    refused(llmzip("test", "a.llz"), 1, "as a whole does not match")
    refused(llmzip("-t", stdin=swapped), 1, "as a whole does not match")


def test_parity_comes_first() -> None:
    """What it can restore is not missing; where it cannot, the rest is salvaged."""
    plain = frame(*ONE)
    archive = plain + parity_frame.frame(plain, parity_layout.choose(len(plain), 10))
    Path("a.llz").write_bytes(damaged(SECOND + 100, data=archive))
    result = llmzip("-d", "--salvage", "a.llz")
    assert (result.exit_code, Path("a").read_bytes()) == (0, b"".join(ONE))
    assert "restored from its parity" in result.stderr
    many = damaged(*range(FIRST + 100, THIRD - 100, 15), data=archive)
    Path("b.llz").write_bytes(many)
    refused(llmzip("-d", "b.llz"), 1, "beyond repair", "--salvage")
    result = llmzip("-d", "--salvage", "b.llz")
    assert (result.exit_code, Path("b").read_bytes()) == (1, ONE[2])


@pytest.mark.slow
def test_models(tiny_model: IntegerModel, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that is missing ends it at once; a block that another machine made, and this one does not, is named."""
    codec = fixed_codec(tiny_model, level=1, block_bytes=400)
    archive = codec.compress(TEXT[:1100])
    (found,) = frames_of(archive)
    coded = [r for r in found if isinstance(r, CodedBlock)]
    other = archive.replace(encode_record(coded[1]), encode_record(replace(coded[1], check=1)))
    Path("a.llz").write_bytes(other)
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    for command in (["test"], ["decompress", "--salvage"]):
        refused(llmzip(*command, "a.llz"), 3, "local:tiny", "not here")
    monkeypatch.setenv("LLMZIP_MODEL", str(tiny_folder))
    refused(llmzip("decompress", "a.llz"), 3, "cannot reproduce", "or recover the undamaged part with --salvage")
    refused(llmzip("test", "a.llz"), 3, "damaged: block 2, archive bytes ", "(not reproduced by this machine or model)")
    result = llmzip("decompress", "--salvage", "a.llz")
    assert result.exit_code == 3
    size = coded[0].size
    assert Path("a").read_bytes() == TEXT[:size] + TEXT[size + coded[1].size : 1100]


def test_usage() -> None:
    Path("a").write_bytes(b"x")
    for args in (["--salvage", "a"], ["-t", "--salvage", "a"], ["-l", "--salvage", "a"], ["test", "--salvage", "a"]):
        assert llmzip(*args).exit_code == 2
    assert os.listdir() == ["a"]
