"""Content and archives in pieces: the pieces do not matter."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmzip import Compressor, Decompressor
from llmzip.archive import records as rec
from llmzip.archive import wire
from llmzip.codec.codec import Codec
from llmzip.codec.cutting import BlockCutter, read_blocks
from llmzip.errors import DamagedArchiveError, LLZError, NotAnArchiveError, ParameterError, UnsupportedArchiveError
from llmzip.fileobj.incremental import PushReader
from llmzip.models.convert import IntegerModel
from llmzip.options import Options
from tests.codec.test_codec import records
from tests.fileobj.test_llzfile import decoded, plain
from tests.support.codecs import TEXT, eager_codec
from tests.support.profiles import examples


@pytest.fixture(scope="module")
def eager(tiny_model: IntegerModel) -> Codec:
    return eager_codec(tiny_model, block_bytes=400, lanes=2)


def noise(seed: int) -> bytes:
    """250 bytes with no place to cut them but where a block is full."""
    return bytes(random.Random(seed).choices(range(0x80, 0xC0), k=250))


def pieces(data: bytes, seed: int, longest: int) -> list[bytes]:
    """`data` cut at random, now and then into nothing."""
    chance, out = random.Random(seed), []
    while data:
        n = chance.randint(0, longest)
        out.append(data[:n])
        data = data[n:]
    return out


def compressed(codec: Codec, parts: list[bytes]) -> bytes:
    c = Compressor(codec=codec)
    return b"".join(map(c.compress, parts)) + c.flush()


def decompressed(d: Decompressor, parts: list[bytes], max_length: int = -1) -> bytes:
    out = []
    for part in parts:
        if d.eof:
            break
        out.append(d.decompress(part, max_length))
        while not d.needs_input and not d.eof:
            out.append(d.decompress(b"", max_length))
        assert max_length < 0 or all(len(o) <= max_length for o in out)
    return b"".join(out)


@given(
    data=st.binary(max_size=600) | st.lists(st.sampled_from([b"ab\n", "é🙂".encode(), b"word " * 9])).map(b"".join),
    seed=st.integers(0, 1 << 32),
    longest=st.integers(1, 300),
    block=st.integers(1, 150),
    max_length=st.sampled_from([-1, 1, 7, 1000]),
)
@settings(max_examples=examples(100), deadline=None)
@pytest.mark.slow
def test_pieces_do_not_matter(data: bytes, seed: int, longest: int, block: int, max_length: int) -> None:
    codec = plain(block)
    archive = codec.compress(data)
    assert compressed(codec, pieces(data, seed, longest)) == archive
    d = Decompressor(codec=codec)
    assert decompressed(d, pieces(archive, seed + 1, longest), max_length) == data
    assert (d.eof, d.needs_input, d.unused_data) == (True, False, b"")
    cutter = BlockCutter(block)
    blocks = [b for piece in pieces(data, seed, longest) for b in cutter.feed(piece)] + list(cutter.end())
    assert blocks == list(read_blocks(io.BytesIO(data), block))


@pytest.mark.parametrize("longest", [50, 5000])
def test_with_a_model(eager: Codec, longest: int) -> None:
    data = TEXT[:1500]
    archive = eager.compress(data)
    assert sum(isinstance(r, rec.CodedBlock) for r in records(archive)) >= 4
    assert compressed(eager, pieces(data, 1, longest)) == archive
    d = Decompressor(codec=eager)
    assert decompressed(d, pieces(archive, 2, longest)) == data
    assert d.eof


def test_arguments() -> None:
    archive = Compressor(level=2, lanes=3, threads=1, device="cpu", model="/nonexistent").flush()
    assert archive == Codec().compress(b"")
    d = Decompressor(threads=1, device="cpu", model="/nonexistent")
    assert d.decompress(archive) == b""
    assert d.eof
    for arguments in ({"level": 0}, {"lanes": 0}, {"threads": 0}):
        with pytest.raises(ParameterError):
            Compressor(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ParameterError):
        Decompressor(threads=0)


def test_bytes_like() -> None:
    codec = plain()
    data = bytes(range(200))
    assert compressed(codec, [bytearray(data[:99]), memoryview(data)[99:]]) == codec.compress(data)  # type: ignore[list-item]
    d = Decompressor(codec=codec)
    assert d.decompress(memoryview(codec.compress(data))) == data


def test_blocks_come_as_soon_as_they_are_there() -> None:
    codec = plain(100)
    c = Compressor(codec=codec)
    data = noise(1)
    first = c.compress(data[:100])
    assert first.startswith(rec.MAGIC)
    assert c.compress(data[100:199]) == b""
    archive = first + c.compress(data[199:]) + c.flush()
    assert archive == codec.compress(data)
    d = Decompressor(codec=codec)
    assert d.decompress(archive[: len(first) - 1]) == b""
    assert d.needs_input
    given = d.decompress(archive[len(first) - 1 : len(first)])
    assert given
    assert data.startswith(given)


def test_one_frame_each() -> None:
    codec = plain()
    a, b = codec.compress(b"first"), codec.compress(b"second")
    d = Decompressor(codec=codec)
    assert d.unused_data == b""
    assert d.decompress(a + b[:3]) == b"first"
    assert (d.eof, d.unused_data) == (True, b[:3])
    with pytest.raises(EOFError):
        d.decompress(b[3:])
    e = Decompressor(codec=codec)
    assert e.decompress(d.unused_data) + e.decompress(b[3:]) == b"second"
    assert (e.eof, e.unused_data) == (True, b"")


def test_max_length() -> None:
    codec = plain(100)
    data = noise(2)
    d = Decompressor(codec=codec)
    archive = codec.compress(data)
    assert d.decompress(archive, 0) == b""
    assert decoded(codec) == []
    assert not d.needs_input
    assert d.decompress(b"", 30) == data[:30]
    assert len(decoded(codec)) == 1  # no more than is asked for
    assert d.decompress(b"", 220) == data[30:]
    assert (d.eof, d.needs_input) == (True, False)


def test_flushed_once() -> None:
    c = Compressor(codec=plain())
    c.compress(b"text")
    c.flush()
    assert not c.ready
    for call in (c.flush, lambda: c.compress(b""), lambda: c.compress(b"x")):
        with pytest.raises(ValueError, match="flushed"):
            call()


def test_a_frame_that_lacks_a_block_is_not_ended() -> None:
    c = Compressor(codec=Codec(Options(model="/nonexistent", block_bytes=4000)))
    with pytest.raises(LLZError):
        c.compress(TEXT)
    with pytest.raises(ValueError, match="failed"):
        c.flush()


def test_damage() -> None:
    codec, data = plain(60), b"".join(b"line %04d\n" % i for i in range(12))
    archive = codec.compress(data)
    for bit in range(8 * len(archive)):
        damaged = bytearray(archive)
        damaged[bit // 8] ^= 1 << bit % 8
        d, got, failed = Decompressor(codec=codec), b"", False
        for part in pieces(bytes(damaged), bit, 40):
            try:
                got += d.decompress(part)
            except LLZError:
                failed = True
                break
        assert data.startswith(got)
        assert not d.eof
        if failed:
            with pytest.raises(LLZError):
                d.decompress(b"more")
            assert not d.eof
        else:
            assert d.needs_input  # a length grew: it waits for more


def test_cut_short_is_no_end() -> None:
    codec = plain()
    archive = codec.compress(b"text")
    for cut in range(len(archive)):
        d = Decompressor(codec=codec)
        assert b"text".startswith(d.decompress(archive[:cut]))
        assert (d.eof, d.needs_input, d.unused_data) == (False, True, b"")


def test_whole_check_and_kinds_of_errors() -> None:
    codec = plain(100)
    parts = records(codec.compress(noise(3)))
    swapped = rec.frame_start() + b"".join(map(rec.encode_record, [parts[1], parts[0], *parts[2:]]))
    d = Decompressor(codec=codec)
    for _ in range(2):
        with pytest.raises(DamagedArchiveError, match="as a whole"):
            d.decompress(swapped if d.needs_input else b"")
    assert not d.eof
    with pytest.raises(NotAnArchiveError):
        Decompressor(codec=codec).decompress(b"text, not an archive")
    with pytest.raises(UnsupportedArchiveError):
        Decompressor(codec=codec).decompress(rec.MAGIC + b"\x63")
    with pytest.raises(DamagedArchiveError):
        Decompressor(codec=codec).decompress(rec.frame_start() + b"S" + wire.varint(1 << 34))


@given(st.lists(st.binary(max_size=30), max_size=5), st.integers(1, 40), st.integers(0, 1000))
@settings(deadline=None)
def test_both_readers_find_the_same_records(contents: list[bytes], longest: int, seed: int) -> None:
    wanted: list[rec.Record] = [*map(rec.StoredBlock, contents), rec.EndRecord(5, b"8 bytes!")]
    data = rec.frame_start() + b"".join(map(rec.encode_record, wanted))
    reader, found = PushReader(), []
    for piece in pieces(data + b"rest", seed, longest):
        reader.push(piece)
        while record := reader.record():
            found.append(record.record)
    assert found == wanted == records(data)
    assert (reader.ended, bytes(reader.rest)) == (True, b"rest")


def test_options_shape_the_bytes(eager: Codec) -> None:
    assert compressed(eager, [TEXT[:300]]) == eager.compress(TEXT[:300])
    assert Options(level=3).level_settings().span.window == 1024
