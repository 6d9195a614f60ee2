"""Records and frames: literal bytes, bounds, and the three kinds of rejection."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmzip import parameters
from llmzip.archive import records as rec
from llmzip.archive import wire
from llmzip.errors import DamagedArchiveError, NotAnArchiveError, UnsupportedArchiveError
from llmzip.parameters import FROZEN, AdapterParameters, AttentionSpan, BiasParameters, CorrectionParameters, NeighbourParameters
from tests.support.archives import frames_of

ADAPTER = AdapterParameters(32, BiasParameters(46, 3), NeighbourParameters(15, 86))
MODEL = rec.ModelRecord("some-model", b"0123456789", b"abcdef", AttentionSpan(1280, 4), ADAPTER)
BLOCK = rec.CodedBlock(1000, 300, 2, 0xDEADBEEF, b"stream")
NAME = b"\x01m" + b"0" * 10 + b"1" * 6  # the rest of a model record
END = rec.EndRecord(1000, b"8 bytes!")


def read(data: bytes) -> list[list[rec.Record]]:
    return frames_of(data)


def record(tag: bytes, body: bytes) -> bytes:
    framed = tag + wire.varint(len(body)) + body
    return framed + struct.pack("<I", zlib.crc32(framed))


def test_round_trip_of_every_record() -> None:
    records: list[rec.Record] = [MODEL, BLOCK, rec.StoredBlock(b"raw"), rec.XzBlock(50, 7, b"xz"), END]
    data = rec.frame_start() + b"".join(map(rec.encode_record, records))
    assert read(data) == [records]
    assert read(data * 3) == [records] * 3


@pytest.mark.parametrize(
    ("adapter", "fields"),
    [
        (FROZEN, b"\x00"),
        (AdapterParameters(32, BiasParameters(46, 3), None), b"\x01\x20\x2e\x03"),
        (AdapterParameters(4096, None, NeighbourParameters(20, 255)), b"\x02\x80\x20\x14\xff"),
        (AdapterParameters(corrections=CorrectionParameters(16, 512, 255, 7)), b"\x08\x10\x07\xff\x80\x04"),
        (AdapterParameters(32, BiasParameters(46, 3), None, CorrectionParameters(8, 64, 20, 5)), b"\x09\x20\x2e\x03\x08\x05\x14\x40"),
        (ADAPTER, b"\x03\x20\x2e\x03\x0f\x56"),
    ],
)
def test_literal_parameters(adapter: AdapterParameters, fields: bytes) -> None:
    model = rec.ModelRecord("m", b"0" * 10, b"1" * 6, AttentionSpan(64, 4), adapter)
    assert model.body() == b"\x04\x40\x04" + fields + NAME
    assert read(rec.frame_start() + rec.encode_record(model) + rec.encode_record(END)) == [[model, END]]


def test_literal_flags() -> None:
    far = rec.ModelRecord("m", b"0" * 10, b"1" * 6, AttentionSpan(64, 4, False), FROZEN)
    assert far.body() == b"\x04\x40\x04\x04" + NAME
    assert read(rec.frame_start() + rec.encode_record(far) + rec.encode_record(END)) == [[far, END]]


def test_literal_bytes() -> None:
    assert rec.frame_start() == b"\x89LLZ\x01"
    framed = b"E\x0a" + b"\xe8\x07" + b"8 bytes!"
    assert rec.encode_record(END) == framed + struct.pack("<I", zlib.crc32(framed))


@given(st.integers(0, (1 << 63) - 1))
def test_varint(value: int) -> None:
    encoded = wire.varint(value)
    assert wire.Cursor(encoded).varint(1 << 63) == value
    assert len(encoded) == max(1, -(-value.bit_length() // 7))


@pytest.mark.parametrize("data", [b"", b"P", b"\x89LL", b"hello, world", b"\x28\xb5\x2f\xfd" * 4])
def test_not_an_archive(data: bytes) -> None:
    with pytest.raises(NotAnArchiveError):
        read(data)


def test_unsupported() -> None:
    end = rec.encode_record(END)
    with pytest.raises(UnsupportedArchiveError, match="version 2"):
        read(rec.MAGIC + b"\x02" + end)
    with pytest.raises(UnsupportedArchiveError, match="unknown kind"):
        read(rec.frame_start() + record(b"Q", b"?") + end)
    with pytest.raises(UnsupportedArchiveError, match="way of predicting"):
        read(rec.frame_start() + record(b"M", b"\x04\x40\x04\x10" + NAME) + end)
    with pytest.raises(UnsupportedArchiveError, match="arithmetic version 9"):
        read(rec.frame_start() + record(b"M", b"\x09" + MODEL.body()[1:]) + end)


@pytest.mark.parametrize(
    ("tag", "body"),
    [
        (b"M", MODEL.body()[:-1]),
        (b"M", MODEL.body() + b"x"),
        (b"M", rec.ModelRecord("", b"0" * 10, b"1" * 6, AttentionSpan(1, 0), FROZEN).body()),
        (b"M", rec.ModelRecord("a\nb", b"0" * 10, b"1" * 6, AttentionSpan(1, 0), FROZEN).body()),
        (b"M", rec.ModelRecord("m", b"0" * 10, b"1" * 6, AttentionSpan(0, 4), FROZEN).body()),
        (b"M", rec.ModelRecord("m", b"0" * 10, b"1" * 6, AttentionSpan(1 << 20, 4), FROZEN).body()),
        (b"M", rec.ModelRecord("m", b"0" * 10, b"1" * 6, AttentionSpan(64, 200), FROZEN).body()),
        (b"M", b"\x04\x40\x04\x01\x00\x2e\x03" + NAME),
        (b"M", b"\x04\x40\x04\x01\x81\x20\x2e\x03" + NAME),
        (b"M", b"\x04\x40\x04\x01\x20\x00\x03" + NAME),
        (b"M", b"\x04\x40\x04\x01\x20\x2e\x00" + NAME),
        (b"M", b"\x04\x40\x04\x02\x20\x03\x56" + NAME),
        (b"M", b"\x04\x40\x04\x02\x20\x15\x56" + NAME),
        (b"M", b"\x04\x40\x04\x02\x20\x0f\x00" + NAME),
        (b"C", rec.CodedBlock(10, 11, 1, 0, b"").body()),
        (b"C", rec.CodedBlock(10, 5, 6, 0, b"").body()),
        (b"C", rec.CodedBlock(10, 5, 0, 0, b"").body()),
        (b"C", rec.CodedBlock(parameters.MAX_BLOCK + 1, 5, 1, 0, b"").body()),
        (b"M", MODEL.body().replace(b"some", "n\u00f6me".encode("latin-1"))),
        (b"C", b"\x80" * 12),
        (b"C", b"\x85\x00" + rec.CodedBlock(5, 5, 1, 0, b"").body()[1:]),
        (b"S", bytes(parameters.MAX_BLOCK + 1)),
        (b"C", b"\x05"),
        (b"E", END.body() + b"x"),
    ],
)
def test_bodies_out_of_bounds(tag: bytes, body: bytes) -> None:
    with pytest.raises(DamagedArchiveError):
        read(rec.frame_start() + record(tag, body) + rec.encode_record(END))


def test_huge_length_is_refused_before_reading() -> None:
    with pytest.raises(DamagedArchiveError):
        read(rec.frame_start() + b"S" + wire.varint(1 << 34))


def test_every_flip_and_every_cut_is_noticed() -> None:
    data = rec.frame_start() + rec.encode_record(MODEL) + rec.encode_record(BLOCK) + rec.encode_record(END)
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
        read(rec.frame_start() + rec.encode_record(END) + b"rubbish")


def test_overhead_of_a_one_block_file() -> None:
    name = "smollm2-135m-instruct"
    model = rec.ModelRecord(name, b"0" * rec.DIGEST_BYTES, b"0" * rec.TOKENIZER_BYTES, AttentionSpan(8160, 4), ADAPTER)
    block = rec.CodedBlock(parameters.MAX_BLOCK, parameters.MAX_BLOCK, 4096, 0, b"")
    long = b"x" * (1 << 21)  # so that lengths take their most bytes
    data = [
        rec.encode_record(r)
        for r in (
            model,
            rec.CodedBlock(block.size, block.symbols, block.lanes, 0, long),
            rec.EndRecord(parameters.MAX_BLOCK, b"0" * 8),
        )
    ]
    assert len(rec.frame_start()) + sum(map(len, data)) - len(long) <= 96 + len(name)
