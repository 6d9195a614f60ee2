"""Archives as files: what is written is what `compress` makes, what is read is what was written, or an error."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import inspect
import io
import lzma
import os
import re
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmzip
from llmzip.archive import records as rec
from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.policy import Policy
from llmzip.errors import (
    DamagedArchiveError,
    LLZError,
    ModelUnavailableError,
    NotAnArchiveError,
    NotReproducedError,
    ParameterError,
    UnsupportedArchiveError,
)
from llmzip.fileobj.llzfile import LLZFile
from llmzip.models import store
from llmzip.models.convert import IntegerModel, convert
from llmzip.models.registry import DEFAULT_MODEL, REGISTRY
from llmzip.models.sources import load_float_model
from llmzip.options import Options
from tests.support.archives import records_of
from tests.support.codecs import TEXT, eager_codec
from tests.support.profiles import examples

SHORT = TEXT[:1500]


def plain_codec(options: Options | None = None) -> Codec:
    """A codec that needs no model, for tests of all but coding."""
    return Codec(options, blocks=BlockCodec(LoadedModels(options or Options()), Policy.PLAIN))


class CountingBlocks(BlockCodec):
    """Notes the sizes of the blocks it decodes, and codes none with a model."""

    def __init__(self) -> None:
        super().__init__(LoadedModels(Options()), Policy.PLAIN)
        self.decoded: list[int] = []

    def decode(self, record: rec.Block, *rest: Any, **more: Any) -> bytes:
        self.decoded.append(record.size)
        return super().decode(record, *rest, **more)


def decoded(codec: Codec) -> list[int]:
    """Sizes of the blocks decoded so far, by a codec that `plain` gave."""
    assert isinstance(codec.blocks, CountingBlocks)
    return codec.blocks.decoded


class Pipe(io.RawIOBase):
    """What can only be read forward, and gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def readable(self) -> bool:
        return True

    def read(self, n: int = -1) -> bytes:
        n = len(self._rest) if n < 0 else min(n, 7)
        part, self._rest = self._rest[:n], self._rest[n:]
        return part


@pytest.fixture(scope="module")
def eager(tiny_model: IntegerModel) -> Codec:
    return eager_codec(tiny_model, block_bytes=400, lanes=2)


@pytest.fixture(scope="module")
def coded(eager: Codec) -> bytes:
    return eager.compress(SHORT)


def plain(block_bytes: int = 100) -> Codec:
    return Codec(Options(block_bytes=block_bytes), blocks=CountingBlocks())


def numbered(blocks: int) -> bytes:
    """Lines of ten bytes: ten to a block of a hundred."""
    return b"".join(b"line %04d\n" % i for i in range(10 * blocks))


def written(codec: Codec, data: bytes, step: int) -> bytes:
    target = io.BytesIO()
    with LLZFile(target, "w", codec=codec) as f:
        for at in range(0, len(data), step):
            assert f.write(data[at : at + step]) == len(data[at : at + step])
            assert f.tell() == min(at + step, len(data))
            f.flush()
    return target.getvalue()


@pytest.mark.parametrize("data", [b"", b"x", b"\xff\0" * 300, numbered(3)], ids=["empty", "byte", "binary", "lines"])
@pytest.mark.parametrize("step", [1, 99, 100, 101, 10_000])
@pytest.mark.slow
def test_writes_what_compress_makes(data: bytes, step: int) -> None:
    codec = plain()
    archive = written(codec, data, step)
    assert archive == codec.compress(data)
    assert LLZFile(io.BytesIO(archive), codec=codec).read() == data


def test_writes_what_compress_makes_with_a_model(eager: Codec, coded: bytes) -> None:
    assert written(eager, SHORT, 333) == coded
    assert sum(isinstance(r, rec.CodedBlock) for r in records_of(coded)) >= 4
    with LLZFile(io.BytesIO(coded), codec=eager) as f:
        assert f.read(10) == SHORT[:10]
        assert f.read() == SHORT[10:]


def test_paths_and_modes(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "a.llz"
    with llmzip.open(path, "xb", level=1, lanes=2, threads=1, model=str(tiny_folder)) as f:
        f.write(SHORT)
    assert path.read_bytes() == llmzip.compress(SHORT, level=1, lanes=2, threads=1, model=str(tiny_folder))
    codec = plain()
    with pytest.raises(FileExistsError):
        LLZFile(path, "x")
    with LLZFile(os.fsencode(path), "wb", codec=codec) as f:
        f.write(b"one ")
    with LLZFile(str(path), "a", codec=codec) as f:
        f.write(b"two")
    with LLZFile(path, codec=codec) as f:
        assert (f.name, f.mode, f.read()) == (str(path), "rb", b"one two")
        assert os.fstat(f.fileno()).st_size == path.stat().st_size
    assert codec.decompress(path.read_bytes()) == b"one two"
    for mode in ("", "rw", "bb", "rbb", "rt", "U"):
        with pytest.raises(ValueError, match="mode"):
            LLZFile(path, mode)
    with pytest.raises(ParameterError):
        LLZFile(path, "w", level=0)
    assert codec.decompress(path.read_bytes()) == b"one two"  # was not opened for writing before the arguments were looked at
    with pytest.raises(TypeError):
        LLZFile(3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        llmzip.open(tmp_path / "absent")


def test_file_objects_stay_open_and_may_stand_anywhere() -> None:
    codec, target = plain(), io.BytesIO()
    target.write(b"header")
    with LLZFile(target, "w", codec=codec) as f:
        f.write(numbered(3))
        assert not hasattr(f, "name")
    assert not target.closed
    target.seek(6)
    f = LLZFile(target, codec=codec)
    f.seek(250)
    assert f.read(20) == numbered(3)[250:270]
    assert f.seek(0) == 0
    assert f.read() == numbered(3)


def test_only_needed_blocks_are_decoded() -> None:
    codec, data = plain(), numbered(20)
    f = LLZFile(io.BytesIO(codec.compress(data)), codec=codec)
    assert f.seekable()
    f.seek(1234)
    assert decoded(codec) == []
    assert f.read(20) == data[1234:1254]
    assert len(decoded(codec)) == 1
    assert f.readline() == data[1254:1260]
    f.seek(-30, io.SEEK_CUR)
    assert f.peek()[:10] == data[f.tell() :][:10]
    assert len(decoded(codec)) == 1  # the last block is kept
    assert f.seek(-150, io.SEEK_END) == len(data) - 150
    assert len(decoded(codec)) == 1
    assert f.read() == data[-150:]
    assert len(decoded(codec)) == 3
    f.seek(95)
    assert f.read(10) == data[95:105]
    assert len(decoded(codec)) == 5
    f.seek(10**9)
    assert f.read() == b""
    assert f.read1() == b""
    assert f.readline() == b""
    assert f.peek() == b""
    assert len(decoded(codec)) == 5


OPERATIONS = st.one_of(
    st.tuples(st.sampled_from(["read", "readline", "readinto"]), st.integers(0, 400)),
    st.tuples(st.sampled_from(["read", "readline"]), st.just(-1)),
    st.tuples(st.just("seek"), st.integers(0, 1300), st.just(0)),
    st.tuples(st.just("seek"), st.integers(-50, 200), st.just(1)),
    st.tuples(st.just("seek"), st.integers(-600, 50), st.just(2)),
)


@given(
    frames=st.lists(
        st.binary(max_size=300) | st.lists(st.sampled_from([b"ab\n", b"\n", b"long " * 9])).map(b"".join), min_size=1, max_size=4
    ),
    operations=st.lists(OPERATIONS, max_size=12),
    block=st.integers(1, 120),
)
@settings(max_examples=examples(100), deadline=None)
def test_reads_like_bytes(frames: list[bytes], operations: list[tuple[Any, ...]], block: int) -> None:
    codec = plain(block)
    f, model = LLZFile(io.BytesIO(b"".join(map(codec.compress, frames))), codec=codec), io.BytesIO(b"".join(frames))
    for name, *arguments in operations:
        if name == "readinto":
            have, want = bytearray(arguments[0]), bytearray(arguments[0])
            assert f.readinto(have) == model.readinto(want)
            assert have == want
        elif name == "seek" and arguments[1] and arguments[0] + (model.tell() if arguments[1] == 1 else len(model.getvalue())) < 0:
            with pytest.raises(ValueError, match="negative"):
                f.seek(*arguments)
        else:
            assert getattr(f, name)(*arguments) == getattr(model, name)(*arguments)
        assert f.tell() == model.tell()
    rest = f.read1(50)
    assert model.read(len(rest)) == rest
    assert list(f) == list(model)


@pytest.mark.parametrize("step", [1, 64, 1000, -1])
def test_forward_only(step: int) -> None:
    codec = plain()
    data = numbered(5)
    f = LLZFile(Pipe(codec.compress(data) + codec.compress(b"") + codec.compress(data)), codec=codec)  # type: ignore[arg-type]
    assert not f.seekable()
    parts = []
    while part := f.read(step):
        parts.append(part)
    assert b"".join(parts) == data * 2
    assert len(decoded(codec)) == 10
    for call in (lambda: f.seek(0), lambda: f.write(b"")):
        with pytest.raises(io.UnsupportedOperation):
            call()  # type: ignore[no-untyped-call]


def test_keywords() -> None:
    """As `lzma.LZMAFile` has them."""
    codec, target = plain(), io.BytesIO()
    with LLZFile(target, "w", codec=codec) as f:
        f.write(data=numbered(3))
    f = LLZFile(io.BytesIO(target.getvalue()), codec=codec)
    assert f.seek(0, whence=io.SEEK_END) == f.seek(offset=300, whence=0) == 300
    f.seek(offset=0)
    assert f.peek(size=5)[:10] == f.read(size=10) == numbered(3)[:10]
    assert f.readline(size=4) == numbered(3)[10:14]
    assert f.readline(size=20) == numbered(3)[14:20]
    assert f.read1(size=3) == numbered(3)[20:23]
    ours, theirs = (
        {name: str(inspect.signature(getattr(kind, name))) for name in ("read", "read1", "readline", "peek", "seek", "write")}
        for kind in (LLZFile, lzma.LZMAFile)
    )
    assert {n: re.findall(r"(\w+)[:,=)]", s)[0] for n, s in ours.items()} == {
        n: re.findall(r"(\w+)[:,=)]", s)[0] for n, s in theirs.items()
    }


def test_closed_files() -> None:
    codec, target = plain(), io.BytesIO()
    f = LLZFile(target, "w", codec=codec)
    assert (f.readable(), f.writable(), f.seekable(), f.closed) == (False, True, False, False)
    for call in (f.read, f.readline, f.peek, f.read1, lambda: f.seek(0), lambda: next(f)):
        with pytest.raises(io.UnsupportedOperation):
            call()
    f.close()
    f.close()
    archive = target.getvalue()
    assert f.closed
    g = LLZFile(io.BytesIO(archive), codec=codec)
    assert (g.readable(), g.writable(), g.seekable(), g.read()) == (True, False, True, b"")
    g.close()
    for closed in (f, g):
        for name in ("read", "readline", "peek", "tell", "flush", "fileno", "readable", "writable", "seekable", "__enter__", "__next__"):
            with pytest.raises(ValueError, match="closed"):
                getattr(closed, name)()
        for call in (closed.write, closed.readinto):  # type: ignore[assignment]
            with pytest.raises(ValueError, match="closed"):
                call(bytearray(1))  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="closed"):
            closed.seek(0)
    assert target.getvalue() == archive


def never_wrong(codec: Codec, archive: bytes, content: bytes, expected: tuple[type[LLZError], ...]) -> None:
    """Damage leads to an error on the way; what is read before it is right, from the start or from the middle."""
    f = LLZFile(io.BytesIO(archive), codec=codec)
    got = b""
    with pytest.raises(expected):
        while part := f.read1(50):
            got += part
    assert content.startswith(got)
    with pytest.raises(expected):  # and again
        f.read()
    with pytest.raises(expected):
        LLZFile(io.BytesIO(archive), codec=codec).read()
    f = LLZFile(io.BytesIO(archive), codec=codec)
    for position in (len(content) // 2, len(content) - 5, 0):
        try:
            f.seek(position)
            part = f.read(20)
        except LLZError:
            continue
        assert part == content[position : position + 20]
    p = LLZFile(Pipe(archive), codec=codec)  # type: ignore[arg-type]
    got = b""
    for _ in range(2):
        with pytest.raises(LLZError):
            while part := p.read(30):
                got += part
    assert content.startswith(got)


def test_every_flip_is_an_error() -> None:
    codec, data = plain(60), numbered(2)
    archive = codec.compress(data[:100]) + codec.compress(data[100:])
    for bit in range(8 * len(archive)):
        damaged = bytearray(archive)
        damaged[bit // 8] ^= 1 << bit % 8
        never_wrong(codec, bytes(damaged), data, (LLZError,))


def test_every_cut_is_an_error() -> None:
    codec, data = plain(60), numbered(2)
    archive = codec.compress(data)
    for cut in range(len(archive)):
        never_wrong(codec, archive[:cut], data, (NotAnArchiveError,) if cut < 4 else (DamagedArchiveError,))
    never_wrong(codec, archive + b"rubbish", data, (DamagedArchiveError,))


@pytest.mark.slow
def test_damage_to_coded_blocks(eager: Codec, coded: bytes) -> None:
    for at in range(3, len(coded), len(coded) // 12):
        damaged = bytearray(coded)
        damaged[at] ^= 4
        never_wrong(eager, bytes(damaged), SHORT, (LLZError,))


def test_blocks_before_and_after_a_wrong_one_can_be_read(eager: Codec, coded: bytes) -> None:
    """The records are intact; one block's content does not match its check."""
    parts = records_of(coded)
    number = [i for i, r in enumerate(parts) if isinstance(r, rec.CodedBlock)][1]
    block = parts[number]
    assert isinstance(block, rec.CodedBlock)
    parts[number] = rec.CodedBlock(block.size, block.symbols, block.lanes, block.check ^ 1, block.stream)
    f = LLZFile(io.BytesIO(rec.frame_start() + b"".join(map(rec.encode_record, parts))), codec=eager)
    first, second = (len(b) for b in blocks_of(SHORT)[:2])
    with pytest.raises(NotReproducedError, match="end of a block"):
        f.read()
    assert f.tell() == first
    f.seek(0)
    assert f.read(first) == SHORT[:first]
    f.seek(first + second)
    assert f.read() == SHORT[first + second :]


def blocks_of(data: bytes) -> list[bytes]:
    from llmzip.codec.cutting import read_blocks

    return list(read_blocks(io.BytesIO(data), 400))


def rebuilt(archive: bytes, order: Callable[[list[rec.Record]], list[rec.Record]]) -> bytes:
    parts = records_of(archive)
    return rec.frame_start() + b"".join(map(rec.encode_record, order(parts)))


def test_whole_check() -> None:
    codec, data = plain(), numbered(3)
    archive = codec.compress(data)
    swapped = rebuilt(archive, lambda r: [r[1], r[0], *r[2:]])
    f = LLZFile(io.BytesIO(swapped), codec=codec)
    assert f.read(300) == data[100:200] + data[:100] + data[200:]  # each block is as it was
    for _ in range(2):
        with pytest.raises(DamagedArchiveError, match="as a whole"):
            f.read(1)
    f = LLZFile(io.BytesIO(swapped), codec=codec)
    f.seek(0, io.SEEK_END)  # now the end is known
    f.seek(0)
    assert f.read(200)
    for _ in range(2):
        with pytest.raises(DamagedArchiveError, match="as a whole"):
            f.read(100)
    for wrong in (rebuilt(archive, lambda r: [r[0], *r]), rebuilt(archive, lambda r: r[1:])):
        with pytest.raises(DamagedArchiveError, match="size"):
            LLZFile(io.BytesIO(wrong), codec=codec).seek(0, io.SEEK_END)
    empty = codec.compress(b"")[:-5] + bytes([codec.compress(b"")[-5] ^ 1])
    with pytest.raises(DamagedArchiveError):
        LLZFile(io.BytesIO(empty + b"1234"), codec=codec).read()
    end = rec.encode_record(rec.EndRecord(0, b"8 bytes!"))
    with pytest.raises(DamagedArchiveError, match="as a whole"):
        LLZFile(io.BytesIO(rec.frame_start() + end), codec=codec).read()


def test_blocks_without_content_are_checked_too() -> None:
    codec = plain()
    end = rec.encode_record(rec.WholeCheck().record())
    good = rec.frame_start() + rec.encode_record(rec.StoredBlock(b"")) + end
    assert LLZFile(io.BytesIO(good), codec=codec).read() == b""
    bad = rec.frame_start() + rec.encode_record(rec.XzBlock(0, 5, b"\0")) + end
    with pytest.raises(DamagedArchiveError):
        LLZFile(io.BytesIO(bad), codec=codec).read()


def test_an_archive_that_changes_while_it_is_read() -> None:
    codec, data = plain(), numbered(4)
    source = io.BytesIO(codec.compress(data))
    f = LLZFile(source, codec=codec)
    assert f.read() == data
    source.seek(0)
    source.write(codec.compress(numbered(4)[:50]))
    f.seek(0)
    with pytest.raises(DamagedArchiveError, match="changed"):
        f.read(10)


class Stop(Exception):
    pass


@pytest.mark.parametrize("size", [0, 50, 250])
@pytest.mark.parametrize("text", [False, True])
def test_exception_leaves_no_whole_archive(tmp_path: Path, size: int, text: bool) -> None:
    codec, path = plain(), tmp_path / "a.llz"
    content = numbered(3)[:size]
    with pytest.raises(Stop), llmzip.open(path, "wt" if text else "wb", codec=codec) as f:
        f.write(content.decode() if text else content)  # type: ignore[arg-type]
        raise Stop
    assert f.closed
    with pytest.raises(LLZError):
        codec.decompress(path.read_bytes())


def test_exception_while_appending_leaves_the_archive_as_it_was(tmp_path: Path) -> None:
    codec, path = plain(), tmp_path / "a.llz"
    path.write_bytes(codec.compress(b"before"))
    with pytest.raises(Stop), LLZFile(path, "a", codec=codec) as f:
        f.write(numbered(3))
        raise Stop
    assert codec.decompress(path.read_bytes()) == b"before"


@pytest.mark.parametrize("mode", ["a", "ab", "at"])
def test_only_archives_are_added_to(tmp_path: Path, mode: str) -> None:
    codec, path = plain(), tmp_path / "a.llz"
    archive = codec.compress(numbered(2))
    for content, error in {
        b"notes that are no archive": NotAnArchiveError,
        b"\x89": NotAnArchiveError,
        archive[:-1]: DamagedArchiveError,  # another frame could not be found behind it
        archive[:40] + b"?" + archive[41:]: DamagedArchiveError,
        archive + b"\n": DamagedArchiveError,
        archive[:4] + b"\x07" + archive[5:]: UnsupportedArchiveError,
    }.items():
        path.write_bytes(content)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        with pytest.raises(error):
            llmzip.open(path, mode, codec=codec)
        assert path.read_bytes() == content
        assert path.stat().st_mtime == 1_000_000_000
    path.write_bytes(b"")
    for _ in range(2):
        with llmzip.open(path, mode.replace("t", ""), codec=codec) as f:
            f.write(b"more")  # type: ignore[arg-type]
    assert codec.decompress(path.read_bytes()) == b"moremore"
    path.unlink()
    with llmzip.open(path, mode.replace("t", ""), codec=codec) as f:
        f.write(b"first")  # type: ignore[arg-type]
    assert codec.decompress(path.read_bytes()) == b"first"


def test_missing_model(tmp_path: Path) -> None:
    """The frame is not ended, and nothing is left open."""
    path = tmp_path / "a.llz"
    f = LLZFile(path, "w", codec=Codec(Options(model=str(tmp_path / "absent"), block_bytes=4000)))
    with pytest.raises(LLZError):
        f.write(TEXT)
    with pytest.raises(ValueError, match="failed"):
        f.write(b"more")
    f.close()
    assert path.read_bytes() == b""
    path.write_bytes(plain().compress(b"before"))
    f = LLZFile(path, "a", model=str(tmp_path / "absent"))
    f.write(TEXT)
    with pytest.raises(LLZError):
        f.close()
    assert f.closed
    assert plain().decompress(path.read_bytes()) == b"before"


def test_reading_without_the_model(coded: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path))
    f = LLZFile(io.BytesIO(coded))
    assert f.seek(0, io.SEEK_END) == len(SHORT)
    f.seek(0)
    with pytest.raises(ModelUnavailableError):
        f.read(1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32", "latin-1", "utf-8-sig"])
@pytest.mark.parametrize("newline", [None, "", "\n", "\r\n"])
@pytest.mark.slow
def test_text(tmp_path: Path, encoding: str, newline: str | None) -> None:
    codec, text = plain(), "Käse\nund\r\nBrötchen\n\nfür alle, daß es so sei " * 20
    path, like = tmp_path / "a.llz", tmp_path / "a.txt"
    with (
        llmzip.open(path, "wt", codec=codec, encoding=encoding, newline=newline) as f,
        open(like, "w", encoding=encoding, newline=newline) as g,
    ):
        f.write(text)
        g.write(text)
    assert codec.decompress(path.read_bytes()) == like.read_bytes()
    with llmzip.open(path, "rt", codec=codec, encoding=encoding, newline=newline) as f, open(like, encoding=encoding, newline=newline) as g:
        first, _ = f.readline(), g.readline()
        mark = f.tell()
        rest = list(f)
        assert rest == list(g)
        f.seek(mark)
        assert f.read() == "".join(rest)
        f.seek(0)
        assert f.readline() == first
    assert path.exists()
    assert f.closed


def test_text_arguments(tmp_path: Path) -> None:
    codec, path = plain(), tmp_path / "a.llz"
    with llmzip.open(path, "wb", codec=codec) as f:
        f.write(b"a\xffb")
    with llmzip.open(path, "rt", codec=codec, encoding="ascii", errors="replace") as f:
        assert f.read() == "a\ufffdb"
    with pytest.raises(UnicodeDecodeError), llmzip.open(path, "rt", codec=codec, encoding="ascii") as f:
        f.read()
    for mode, arguments in (("rbt", {}), ("rb", {"encoding": "utf-8"}), ("w", {"newline": ""}), ("r", {"errors": "strict"}), ("t", {})):
        with pytest.raises(ValueError, match=r"text|mode"):
            llmzip.open(path, mode, codec=codec, **arguments)  # type: ignore[call-overload]
    with pytest.raises(LookupError):
        llmzip.open(path, "wt", codec=codec, encoding="no such encoding")


def test_tar_and_csv(tmp_path: Path, eager: Codec) -> None:
    names = ["one.txt", "two.bin", "three.txt"]
    contents = [SHORT[:700], bytes(range(256)), b""]
    with llmzip.open(tmp_path / "a.tar.llz", "wb", codec=plain(1000)) as f, tarfile.open(fileobj=f, mode="w") as tar:
        for name, content in zip(names, contents, strict=True):
            (tmp_path / name).write_bytes(content)
            tar.add(tmp_path / name, name)
    with llmzip.open(tmp_path / "a.tar.llz", codec=plain()) as f, tarfile.open(fileobj=f) as tar:
        assert tar.getnames() == names
        for name, content in reversed(list(zip(names, contents, strict=True))):
            member = tar.extractfile(name)
            assert member
            assert member.read() == content
    rows = [["place", "height"], ["the harbour", "3.1"], ["the inner\nbasin", "2.8"]]
    with llmzip.open(tmp_path / "a.csv.llz", "wt", codec=eager, encoding="utf-8", newline="") as f:  # type: ignore[assignment]
        csv.writer(f).writerows(rows)  # type: ignore[arg-type]
    with llmzip.open(tmp_path / "a.csv.llz", "rt", codec=eager, encoding="utf-8", newline="") as f:  # type: ignore[assignment]
        assert list(csv.reader(f)) == rows  # type: ignore[arg-type]


def test_fsspec(tmp_path: Path, eager: Codec) -> None:
    import fsspec

    path = str(tmp_path / "x.txt.llz")
    text = SHORT.decode()
    try:
        llmzip.register_fsspec(eager)
        with fsspec.open(path, "wt", compression="infer", encoding="utf-8", newline="") as f:
            f.write(text)
        assert Path(path).read_bytes() == eager.compress(SHORT)
        with fsspec.open(path, "rt", compression="infer", encoding="utf-8", newline="") as f:
            assert f.read() == text
        with fsspec.open(path, "rb", compression="llz") as f:
            f.seek(800)
            assert f.read(100) == SHORT[800:900]
        llmzip.register_fsspec()  # again
        with fsspec.open(path + "x.llz", "wb", compression="infer") as f:
            f.write(bytes(100))
        with fsspec.open(path + "x.llz", "rb", compression="infer") as f:
            assert f.read() == bytes(100)
    finally:
        fsspec.compression.compr.pop("llz", None)
        fsspec.utils.compressions.pop("llz", None)


@pytest.mark.parametrize("size", [0, 50, 250])
@pytest.mark.parametrize("mode", ["wb", "wt"])
@pytest.mark.parametrize("place", ["", "memory://"])
def test_fsspec_leaves_no_whole_archive(tmp_path: Path, size: int, mode: str, place: str) -> None:
    """After an exception, whatever closes the file then; one that was there before has nothing to do with it."""
    import fsspec

    codec, path = plain(), f"{place}{tmp_path}/a.llz"
    content: Any = numbered(3)[:size] if mode == "wb" else numbered(3)[:size].decode()

    def left() -> bytes:
        with fsspec.open(path, "rb") as f:
            found: bytes = f.read()
            return found

    try:
        llmzip.register_fsspec(codec)
        with pytest.raises(Stop), fsspec.open(path, mode, compression="infer") as f:
            f.write(content)
            raise Stop
        with pytest.raises(LLZError):
            codec.decompress(left())
        with pytest.raises(Stop), contextlib.closing(fsspec.open(path, mode, compression="llz").open()) as f:
            f.write(content)
            raise Stop
        with pytest.raises(LLZError):
            codec.decompress(left())
        try:
            raise Stop
        except Stop:
            with fsspec.open(path, mode, compression="llz") as f:
                f.write(content)
        assert codec.decompress(left()) == numbered(3)[:size]
        with pytest.raises(Stop), fsspec.open(path, "rb", compression="llz") as f:
            assert f.read() == numbered(3)[:size]
            raise Stop
    finally:
        fsspec.compression.compr.pop("llz", None)
        fsspec.utils.compressions.pop("llz", None)


@pytest.mark.slow
def test_fsspec_loads_the_model_once(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the files belong to several threads."""
    import fsspec

    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    store.save(DEFAULT_MODEL, convert(load_float_model(tiny_folder)))
    model = store.load(next(store.cached_models()))
    pins = {"digest": model.digest().hex(), "tokenizer_hash": model.tokenizer.hash.hex()}
    monkeypatch.setitem(REGISTRY, DEFAULT_MODEL, dataclasses.replace(REGISTRY[DEFAULT_MODEL], **pins))  # type: ignore[arg-type]
    caplog.set_level("INFO", "llmzip")
    texts = {str(tmp_path / f"{i}.txt.llz"): TEXT[i * 1500 :][:1500] for i in range(4)}

    def there_and_back(path: str) -> bytes:
        with fsspec.open(path, "wb", compression="infer") as f:
            f.write(texts[path])
        with fsspec.open(path, "rb", compression="infer") as f:
            content: bytes = f.read()
            return content

    try:
        llmzip.register_fsspec()
        assert "model read in" not in caplog.text  # not before it is needed
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(there_and_back, texts)) == list(texts.values())
    finally:
        fsspec.compression.compr.pop("llz", None)
        fsspec.utils.compressions.pop("llz", None)
    assert caplog.text.count("model read in") == 1
    for path, text in texts.items():
        assert any(isinstance(r, rec.CodedBlock) for r in records_of(Path(path).read_bytes()))
        assert Path(path).read_bytes() == llmzip.compress(text)


def test_fsspec_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "fsspec.compression", None)
    with pytest.raises(ImportError, match="pip install fsspec"):
        llmzip.register_fsspec()
