"""Records and frames: literal bytes, bounds, and the three kinds of rejection."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmzip import container as ct
from llmzip.errors import DamagedArchiveError, NotAnArchiveError, UnsupportedArchiveError
from llmzip.parameters import FROZEN, AdapterParameters, BiasParameters, NeighbourParameters

ADAPTER = AdapterParameters(32, BiasParameters(46, 3), NeighbourParameters(15, 86))
MODEL = ct.ModelRecord("some-model", b"0123456789", b"abcdef", 1280, 4, ADAPTER)
BLOCK = ct.CodedBlock(1000, 300, 2, 0xDEADBEEF, b"stream")
NAME = b"\x01m" + b"0" * 10 + b"1" * 6  # the rest of a model record
END = ct.EndRecord(1000, b"8 bytes!")


def read(data: bytes) -> list[list[ct.Record]]:
    return [list(frame) for frame in ct.read_frames(io.BytesIO(data))]


def record(tag: bytes, body: bytes) -> bytes:
    framed = tag + ct.varint(len(body)) + body
    return framed + struct.pack("<I", zlib.crc32(framed))


def test_round_trip_of_every_record() -> None:
    records: list[ct.Record] = [MODEL, BLOCK, ct.StoredBlock(b"raw"), ct.XzBlock(50, 7, b"xz"), END]
    data = ct.frame_start() + b"".join(map(ct.encode_record, records))
    assert read(data) == [records]
    assert read(data * 3) == [records] * 3


@pytest.mark.parametrize(
    ("adapter", "fields"),
    [
        (FROZEN, b"\x00"),
        (AdapterParameters(32, BiasParameters(46, 3), None), b"\x01\x20\x2e\x03"),
        (AdapterParameters(4096, None, NeighbourParameters(20, 255)), b"\x02\x80\x20\x14\xff"),
        (ADAPTER, b"\x03\x20\x2e\x03\x0f\x56"),
    ],
)
def test_literal_parameters(adapter: AdapterParameters, fields: bytes) -> None:
    model = ct.ModelRecord("m", b"0" * 10, b"1" * 6, 64, 4, adapter)
    assert model.body() == b"\x04\x40\x04" + fields + NAME
    assert read(ct.frame_start() + ct.encode_record(model) + ct.encode_record(END)) == [[model, END]]


def test_literal_flags() -> None:
    far = ct.ModelRecord("m", b"0" * 10, b"1" * 6, 64, 4, FROZEN, near=False)
    assert far.body() == b"\x04\x40\x04\x04" + NAME
    assert read(ct.frame_start() + ct.encode_record(far) + ct.encode_record(END)) == [[far, END]]


def test_literal_bytes() -> None:
    assert ct.frame_start() == b"\x89LLZ\x01"
    framed = b"E\x0a" + b"\xe8\x07" + b"8 bytes!"
    assert ct.encode_record(END) == framed + struct.pack("<I", zlib.crc32(framed))


@given(st.integers(0, (1 << 63) - 1))
def test_varint(value: int) -> None:
    encoded = ct.varint(value)
    assert ct._Cursor(encoded).varint(1 << 63) == value
    assert len(encoded) == max(1, -(-value.bit_length() // 7))


@pytest.mark.parametrize("data", [b"", b"P", b"\x89LL", b"hello, world", b"\x28\xb5\x2f\xfd" * 4])
def test_not_an_archive(data: bytes) -> None:
    with pytest.raises(NotAnArchiveError):
        read(data)


def test_unsupported() -> None:
    end = ct.encode_record(END)
    with pytest.raises(UnsupportedArchiveError, match="version 2"):
        read(ct.MAGIC + b"\x02" + end)
    with pytest.raises(UnsupportedArchiveError, match="unknown kind"):
        read(ct.frame_start() + record(b"Q", b"?") + end)
    with pytest.raises(UnsupportedArchiveError, match="way of predicting"):
        read(ct.frame_start() + record(b"M", b"\x04\x40\x04\x08" + NAME) + end)
    with pytest.raises(UnsupportedArchiveError, match="arithmetic version 9"):
        read(ct.frame_start() + record(b"M", b"\x09" + MODEL.body()[1:]) + end)


@pytest.mark.parametrize(
    ("tag", "body"),
    [
        (b"M", MODEL.body()[:-1]),
        (b"M", MODEL.body() + b"x"),
        (b"M", ct.ModelRecord("", b"0" * 10, b"1" * 6, 1, 0, FROZEN).body()),
        (b"M", ct.ModelRecord("a\nb", b"0" * 10, b"1" * 6, 1, 0, FROZEN).body()),
        (b"M", ct.ModelRecord("m", b"0" * 10, b"1" * 6, 0, 4, FROZEN).body()),
        (b"M", ct.ModelRecord("m", b"0" * 10, b"1" * 6, 1 << 20, 4, FROZEN).body()),
        (b"M", ct.ModelRecord("m", b"0" * 10, b"1" * 6, 64, 200, FROZEN).body()),
        (b"M", b"\x04\x40\x04\x01\x00\x2e\x03" + NAME),
        (b"M", b"\x04\x40\x04\x01\x81\x20\x2e\x03" + NAME),
        (b"M", b"\x04\x40\x04\x01\x20\x00\x03" + NAME),
        (b"M", b"\x04\x40\x04\x01\x20\x2e\x00" + NAME),
        (b"M", b"\x04\x40\x04\x02\x20\x03\x56" + NAME),
        (b"M", b"\x04\x40\x04\x02\x20\x15\x56" + NAME),
        (b"M", b"\x04\x40\x04\x02\x20\x0f\x00" + NAME),
        (b"C", ct.CodedBlock(10, 11, 1, 0, b"").body()),
        (b"C", ct.CodedBlock(10, 5, 6, 0, b"").body()),
        (b"C", ct.CodedBlock(10, 5, 0, 0, b"").body()),
        (b"C", ct.CodedBlock(ct.MAX_BLOCK + 1, 5, 1, 0, b"").body()),
        (b"M", MODEL.body().replace(b"some", "n\u00f6me".encode("latin-1"))),
        (b"C", b"\x80" * 12),
        (b"C", b"\x85\x00" + ct.CodedBlock(5, 5, 1, 0, b"").body()[1:]),
        (b"S", bytes(ct.MAX_BLOCK + 1)),
        (b"C", b"\x05"),
        (b"E", END.body() + b"x"),
    ],
)
def test_bodies_out_of_bounds(tag: bytes, body: bytes) -> None:
    with pytest.raises(DamagedArchiveError):
        read(ct.frame_start() + record(tag, body) + ct.encode_record(END))


def test_huge_length_is_refused_before_reading() -> None:
    with pytest.raises(DamagedArchiveError):
        read(ct.frame_start() + b"S" + ct.varint(1 << 34))


def test_every_flip_and_every_cut_is_noticed() -> None:
    data = ct.frame_start() + ct.encode_record(MODEL) + ct.encode_record(BLOCK) + ct.encode_record(END)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((NotAnArchiveError, DamagedArchiveError, UnsupportedArchiveError)):
            read(bytes(damaged))
    for cut in range(len(data)):
        with pytest.raises((NotAnArchiveError, DamagedArchiveError)):
            read(data[:cut])


def test_rubbish_after_an_archive() -> None:
    with pytest.raises(DamagedArchiveError, match="follows"):
        read(ct.frame_start() + ct.encode_record(END) + b"rubbish")


def test_overhead_of_a_one_block_file() -> None:
    name = "smollm2-135m-instruct"
    model = ct.ModelRecord(name, b"0" * ct.DIGEST_BYTES, b"0" * ct.TOKENIZER_BYTES, 8160, 4, ADAPTER)
    block = ct.CodedBlock(ct.MAX_BLOCK, ct.MAX_BLOCK, 4096, 0, b"")
    long = b"x" * (1 << 21)  # so that lengths take their most bytes
    data = [
        ct.encode_record(r)
        for r in (model, ct.CodedBlock(block.size, block.symbols, block.lanes, 0, long), ct.EndRecord(ct.MAX_BLOCK, b"0" * 8))
    ]
    assert len(ct.frame_start()) + sum(map(len, data)) - len(long) <= 96 + len(name)
