"""Sole blocks: a frame of one coded block in one short record."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

import llmzip
from llmzip.archive import numbers
from llmzip.archive.numbers import Numbered
from llmzip.archive.parser import read_records
from llmzip.archive.records import (
    MAGIC,
    TAG_SOLE,
    CodedBlock,
    EndRecord,
    FormBlock,
    ModelRecord,
    StoredBlock,
    content_check,
    encode_record,
    frame_start,
    sole_block,
)
from llmzip.archive.summary import summarise
from llmzip.codec.block_codec import BlockCodec, EncodedBlock
from llmzip.codec.codec import Codec
from llmzip.codec.policy import Policy
from llmzip.errors import LLZError
from llmzip.fileobj.incremental import PushReader
from llmzip.models.convert import IntegerModel
from llmzip.models.registry import REGISTRY
from llmzip.parameters import DEFAULT_LEVEL, FROM_NOTHING, LEVELS
from llmzip.salvaging.recovery import recoverable
from tests.support.codecs import ROOT, TEXT, fixed_codec

FORMAT = (ROOT / "docs" / "format.md").read_text("utf-8")
SECTION = FORMAT[FORMAT.index("### 3.9") : FORMAT.index("## 4. Limits")]
OTHER = Codec().compress(bytes(range(256)))  # a frame of records, without a model
NUMBER = 200


@pytest.fixture
def number(tiny_model: IntegerModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The tiny model has a number."""
    record = fixed_codec(tiny_model).blocks.models.own().record(LEVELS[DEFAULT_LEVEL])
    numbered = Numbered(record.model_id, record.digest, record.tokenizer)
    monkeypatch.setitem(numbers.MODELS, NUMBER, numbered)
    monkeypatch.setitem(numbers._NUMBERS, numbered, NUMBER)
    yield NUMBER


def coded(tiny: IntegerModel, content: bytes, **options: Any) -> bytes:
    return fixed_codec(tiny, policy=Policy.MODEL, **options).compress(content)


def is_sole(archive: bytes) -> bool:
    return archive.startswith(MAGIC + TAG_SOLE)


def test_numbers_are_those_of_the_registry() -> None:
    known = {m.model_id: m for m in REGISTRY.values() if m.digest}
    numbered = [m for m in numbers.MODELS.values() if m != numbers.NEW_MODEL]  # which has no files to be registered
    assert {m.model_id for m in numbered} == set(known)
    for model in numbered:
        entry = known[model.model_id]
        assert (entry.digest[:20], entry.tokenizer_hash[:12]) == (model.digest.hex(), model.tokenizer.hex())


def test_numbers_are_those_of_the_specification() -> None:
    """What a number stands for never changes; the specification's tables are written by hand."""
    models = re.findall(r"^\| (\d+) \| `([\w:-]+)` \| `(\w{20})` \| `(\w{12})` \|$", SECTION, re.M)
    assert {int(n): Numbered(name, bytes.fromhex(d), bytes.fromhex(t)) for n, name, d, t in models} == numbers.MODELS
    rows = re.findall(r"^\| (\d) \| (\d+) \| (\w+) \| ([a-z, ]+) \| (\d*) ?\|$", SECTION, re.M)
    levels = {0: FROM_NOTHING, **LEVELS}
    assert [int(row[0]) for row in rows] == list(levels)
    for level, window, lane, parts, capacity in rows:
        mine = levels[int(level)]
        a = mine.adapter
        assert mine.span.window == int(window)
        assert (mine.lane_symbols or "all") == (lane if lane == "all" else int(lane))
        there = [name for name, part in (("biases", a.bias), ("neighbours", a.neighbours), ("corrections", a.corrections)) if part]
        assert (", ".join(there) or "nothing") == parts
        assert (a.neighbours.capacity_bits if a.neighbours else "") == (int(capacity) if capacity else "")
        assert mine.span.local is (level != "9")


def test_settings_name_a_level_and_what_learns() -> None:
    for number, level in LEVELS.items():
        for adapter in level.adapter.subsets():
            settings = numbers.settings_of(level.span, adapter, 9000, level.lanes(9000))
            assert settings is not None
            assert numbers.meaning(settings, 9000) == (level.span, adapter, level.lanes(9000)), number
    six = LEVELS[6]
    assert numbers.settings_of(six.span, six.adapter, 9000, 3) is None
    assert numbers.settings_of(replace(six.span, sinks=3), six.adapter, 9000, 2) is None
    assert numbers.settings_of(six.span, replace(six.adapter, round_symbols=31), 9000, 2) is None


@pytest.mark.parametrize(("size", "most"), [(1, 26), (127, 26), (16000, 29), (150_000, 32), ((1 << 21) - 1, 32)])
def test_at_most_32_bytes_beside_the_bitstream(size: int, most: int) -> None:
    six = LEVELS[6]
    symbols, stream = max(size // 4, 1), bytes(size // 5)
    model = ModelRecord(*numbers.MODELS[1], six.span, six.adapter)
    sole = sole_block(model, CodedBlock(size, symbols, six.lanes(symbols), 0, stream))
    assert sole is not None
    assert len(MAGIC + encode_record(sole)) - len(stream) <= most


def test_not_for_what_its_numbers_cannot_say(number: int) -> None:
    six, model = LEVELS[6], ModelRecord(*numbers.MODELS[number], LEVELS[6].span, LEVELS[6].adapter)
    block = CodedBlock(900, 300, 1, 0, b"stream")
    assert sole_block(model, block)
    assert sole_block(model, replace(block, lanes=2)) is None
    assert sole_block(replace(model, model_id="local:other"), block) is None
    assert sole_block(replace(model, digest=bytes(10)), block) is None
    assert sole_block(replace(model, span=replace(six.span, window=99)), block) is None
    assert sole_block(model, FormBlock(900, 300, 1, 0, b"stream", 900, False, b"")) is None


def test_it_stands_for_three_records(number: int, tiny_model: IntegerModel) -> None:
    archive = coded(tiny_model, TEXT[:500])
    assert is_sole(archive)
    model, block, end = read_records(io.BytesIO(archive))
    assert isinstance(model.record, ModelRecord)
    assert isinstance(block.record, CodedBlock)
    assert (block.record.size, block.record.check, block.model) == (500, content_check(TEXT[:500]), model.record)
    assert end.record == EndRecord(500, b"")
    assert [p.span for p in (model, block, end)] == [
        range(4, 4), range(4, len(archive)), range(len(archive), len(archive)),
    ]  # fmt: skip
    assert (summarise(io.BytesIO(archive)).content, summarise(io.BytesIO(archive)).archive) == (500, len(archive))


def test_every_way_of_reading_gives_the_content(number: int, tiny_model: IntegerModel) -> None:
    archive, codec = coded(tiny_model, TEXT[:500]), fixed_codec(tiny_model)
    several = archive + OTHER + archive
    content = TEXT[:500] + bytes(range(256)) + TEXT[:500]
    assert codec.decompress(archive) == TEXT[:500]
    assert codec.decompress(several) == content
    assert codec.decompress(several + bytes(9)) == content
    with llmzip.LLZFile(io.BytesIO(several), codec=codec) as file:
        assert file.seek(0, io.SEEK_END) == len(content)
        file.seek(300)
        assert file.read() == content[300:]
        file.seek(756)
        assert file.read(5) == TEXT[:5]
    pieces = llmzip.Decompressor(codec=codec)
    out = b"".join(pieces.decompress(several[i : i + 1]) for i in range(len(archive)))
    assert (out, pieces.eof, pieces.unused_data) == (TEXT[:500], True, b"")
    reader = PushReader()
    reader.push(several)
    assert [type(p.record) for p in iter(reader.record, None)] == [ModelRecord, CodedBlock, EndRecord]
    assert bytes(reader.rest) == OTHER + archive


def test_every_flipped_bit_and_every_cut_is_an_error(number: int, tiny_model: IntegerModel) -> None:
    archive, codec = coded(tiny_model, TEXT[:60]), fixed_codec(tiny_model)
    for bit in range(8 * len(archive)):
        flipped = bytearray(archive)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LLZError):
            codec.decompress(bytes(flipped))
    for size in range(len(archive)):
        with pytest.raises(LLZError):
            codec.decompress(archive[:size])


def test_salvage(number: int, tiny_model: IntegerModel) -> None:
    archive, codec = coded(tiny_model, TEXT[:300]), fixed_codec(tiny_model)

    def pieces(damaged: bytes) -> list[tuple[int | None, bytes]]:
        found = llmzip.salvage(damaged, codec=codec)
        return [(p.start, p.content) for p in found.pieces]

    whole = llmzip.salvage(archive + OTHER, codec=codec)
    assert not whole.gaps
    assert recoverable(archive + OTHER) == 2
    assert [(p.start, p.content) for p in whole.pieces] == [(0, TEXT[:300]), (300, bytes(range(256)))]
    for bit in (*range(0, 8 * len(archive), 97), *range(8 * 4, 8 * 6)):
        flipped = bytearray(archive)
        flipped[bit // 8] ^= 1 << bit % 8
        assert pieces(bytes(flipped) + OTHER) == [(0, TEXT[:300]), (300, bytes(range(256)))], bit
        assert pieces(OTHER + bytes(flipped)) == [(0, bytes(range(256))), (256, TEXT[:300])], bit
    damaged = archive[:30] + bytes(8) + archive[38:]
    found = llmzip.salvage(OTHER + damaged + archive, codec=codec)
    assert [(p.start, p.content) for p in found.pieces] == [(0, bytes(range(256))), (556, TEXT[:300])]
    assert [(g.start, g.size, g.reason) for g in found.gaps if not g.harmless] == [(256, 300, "damaged")]
    crc_wrong = archive[:-4] + bytes(4)
    assert pieces(crc_wrong) == [(0, TEXT[:300])]


def test_only_where_it_is_alone(number: int, tiny_model: IntegerModel) -> None:
    """Several blocks are records, as they are without numbers, and so is what follows in another frame."""
    for content, size in ((TEXT[:500], 200), (TEXT[:500], 499), (TEXT[:40], 20)):
        made = fixed_codec(tiny_model, block_bytes=size).compress(content)
        assert not is_sole(made)
        assert fixed_codec(tiny_model).decompress(made) == content
    assert is_sole(coded(tiny_model, TEXT[:500], block_bytes=501))
    assert not is_sole(coded(tiny_model, TEXT[:500], lanes=2))
    assert not is_sole(coded(tiny_model, TEXT[:200].decode().encode("utf-16-le")))


def test_blocks_are_those_that_are_made_without_numbers(tiny_model: IntegerModel, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A first block that pays only alone is not coded if it is not alone."""
    short = b"The bell rang. " + b"It rang again."
    options: dict[str, Any] = {"block_bytes": 15, "adapter": LEVELS[DEFAULT_LEVEL].adapter}
    alone = fixed_codec(tiny_model, **options).compress(short[:15])
    with_numbers = fixed_codec(tiny_model, **options).compress(short)
    monkeypatch.delitem(numbers._NUMBERS, numbers.MODELS[number])
    assert fixed_codec(tiny_model, **options).compress(short) == with_numbers
    kinds = [type(p.record) for p in read_records(io.BytesIO(with_numbers))]
    assert kinds == [StoredBlock, StoredBlock, EndRecord]
    assert fixed_codec(tiny_model).decompress(alone) == short[:15]


def test_the_smaller_of_both_ways_is_taken(number: int, tiny_model: IntegerModel) -> None:
    """Coding pays for shorter texts than it does with a model record."""
    for size in (1, 10, 30, 60, 100, 200):
        made = fixed_codec(tiny_model).compress(TEXT[:size])
        assert len(made) == min(
            len(coded(tiny_model, TEXT[:size])), len(frame_start()) + 1 + 1 + size + 4 + (1 + 1 + 1 + 8 + 4) + (size > 127) * 2
        )


def test_processes_and_pieces_make_no_difference(number: int, tiny_model: IntegerModel) -> None:
    archive, codec = coded(tiny_model, TEXT[:500]), fixed_codec(tiny_model, policy=Policy.MODEL)
    made = llmzip.Compressor(codec=codec)
    assert b"".join([*(made.compress(TEXT[i : i + 100]) for i in range(0, 500, 100)), made.flush()]) == archive
    part = io.BytesIO()
    codec.resume_stream(io.BytesIO(TEXT[:500]), part)
    assert part.getvalue() == archive
    again = io.BytesIO(archive)  # complete, but never given its name
    codec.resume_stream(io.BytesIO(TEXT[:500]), again)
    assert again.getvalue() == archive
    cut = io.BytesIO(archive[:-9])
    codec.resume_stream(io.BytesIO(TEXT[:500]), cut)
    assert cut.getvalue() == archive


def test_the_first_block_is_out_before_the_second_is_coded(number: int, tiny_model: IntegerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """So an interrupted run need not code it again."""
    codec, part = fixed_codec(tiny_model, policy=Policy.MODEL, block_bytes=300), io.BytesIO()
    real, coded_blocks = BlockCodec.encode, list[bytes]()

    def encode(self: BlockCodec, content: bytes, *args: Any, **options: Any) -> EncodedBlock:
        if coded_blocks:
            raise KeyboardInterrupt
        coded_blocks.append(content)
        return real(self, content, *args, **options)

    monkeypatch.setattr(BlockCodec, "encode", encode)
    with pytest.raises(KeyboardInterrupt):
        codec.compress_stream(io.BytesIO(TEXT[:900]), part)
    monkeypatch.undo()
    done = part.getvalue()
    assert done.startswith(frame_start())
    assert len(done) > 100
    codec.resume_stream(io.BytesIO(TEXT[:900]), part)
    assert part.getvalue().startswith(done)
    assert codec.decompress(part.getvalue()) == TEXT[:900]


def test_parity(number: int, tiny_model: IntegerModel) -> None:
    archive = coded(tiny_model, TEXT[:500], parity=20)
    assert is_sole(archive)
    damaged = archive[:40] + bytes(30) + archive[70:]
    assert llmzip.repair(damaged) == archive
    with pytest.warns(UserWarning, match="damaged"):
        assert fixed_codec(tiny_model).decompress(damaged) == TEXT[:500]


@pytest.mark.real
def test_real_model(real_model: IntegerModel) -> None:
    text = b"The ferry leaves at seven; bring your own coffee, and tell nobody.\n"
    archive = llmzip.compress(text)
    assert is_sole(archive)
    assert len(archive) < 50
    assert llmzip.decompress(archive) == text
    with ThreadPoolExecutor(1) as pool:
        assert Codec().compress(text, executor=pool) == archive
