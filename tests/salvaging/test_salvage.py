"""Salvage: what is undamaged comes back at its place, and nothing wrong ever does."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmzip
from llmzip.archive import parser
from llmzip.archive import records as rec
from llmzip.archive.records import Block, CodedBlock, EndRecord, ModelRecord, StoredBlock, XzBlock, encode_record, frame_start
from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModels, PretrainedModel
from llmzip.errors import DamagedArchiveError, LLZError, ModelUnavailableError, NotAnArchiveError, OutputLimitError, UnsupportedArchiveError
from llmzip.models.convert import IntegerModel
from llmzip.options import Options
from llmzip.salvaging import recovery
from llmzip.salvaging.items import Found, Lost, Start
from llmzip.salvaging.landmarks import Landmarks
from llmzip.salvaging.recovery import NOT_REPRODUCED, recoverable
from llmzip.salvaging.result import Salvaged
from llmzip.salvaging.scan import scan
from tests.support.codecs import TEXT
from tests.support.profiles import examples

RNG = random.Random(5)
CONTENTS = (
    TEXT[:380] + b"\n" + RNG.randbytes(350) + b"\n" + b"ab cd ef gh " * 30 + b"\n" + TEXT[1000:1500],
    TEXT[3000:3700],
)
CONTENT = b"".join(CONTENTS)
Span = tuple[int, int]


class RememberingBlocks(BlockCodec):
    """Decodes a block once, however often it is asked for."""

    def __init__(self, models: LoadedModels) -> None:
        super().__init__(models)
        self._known: dict[object, bytes | LLZError] = {}

    def decode(self, record: Block, model: ModelRecord | None, *_: object) -> bytes:
        key = record, model
        if key not in self._known:
            try:
                self._known[key] = super().decode(record, model)
            except LLZError as e:
                self._known[key] = e
        known = self._known[key]
        if isinstance(known, LLZError):
            raise known
        return known


def remembering(model: IntegerModel, **options: Any) -> Codec:
    made = Options(**options)
    return Codec(made, blocks=RememberingBlocks(LoadedModels(made, PretrainedModel("local:tiny", model, made))))


@dataclass(frozen=True)
class Made:
    """An archive of two frames, and how to salvage it."""

    data: bytes
    codec: Codec

    @cached_property
    def items(self) -> list[Start | Found | Lost]:
        return scan(self.data)

    @cached_property
    def records(self) -> list[Found]:
        return [item for item in self.items if isinstance(item, Found)]

    @cached_property
    def blocks(self) -> list[tuple[Found, int, bytes]]:
        """Each with its position and content."""
        out, at = [], 0
        for found in self.records:
            if isinstance(found.record, Block):
                out.append((found, at, CONTENT[at : at + found.record.size]))
                at += found.record.size
        return out

    def of(self, kind: type) -> list[Found]:
        return [found for found in self.records if isinstance(found.record, kind)]

    def salvage(self, data: bytes) -> Salvaged:
        """What is recovered; nothing of it is wrong."""
        result = llmzip.salvage(data, codec=self.codec)
        known = [content for _, _, content in self.blocks]
        for piece in result.pieces:
            assert piece.content in known
            assert piece.size == len(piece.content)
            assert not piece.exact or (piece.start is not None and CONTENT.startswith(piece.content, piece.start))
        assert not result.complete or result.content == CONTENT
        return result

    def expect(self, data: bytes, touched: Span, placed: bool = True) -> Salvaged:
        """All blocks that the damage did not touch come back, at their places, too, if `placed`."""
        result = self.salvage(data)
        found = {piece.content: piece for piece in result.pieces}
        for block, position, content in self.blocks:
            if not overlap((block.start, block.stop), touched):
                assert content in found
                assert found[content].start == position or (found[content].start is None and not placed)
        return result


def overlap(one: Span, two: Span) -> bool:
    """Whether they share a byte, or the second, if empty, lies within the first."""
    return one[0] < two[1] and two[0] < one[1] if two[0] < two[1] else one[0] < two[0] < one[1]


@pytest.fixture(scope="module")
def made(tiny_model: IntegerModel) -> Made:
    codec = remembering(tiny_model, level=1, block_bytes=400)
    return Made(b"".join(map(codec.compress, CONTENTS)), codec)


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def overwritten(data: bytes, start: int, stop: int, rng: random.Random) -> bytes:
    """With other bytes, the first and the last one certainly."""
    new = bytearray(rng.randbytes(stop - start))
    for i in {0, len(new) - 1}:
        new[i] = data[start + i] ^ rng.randrange(1, 256)
    return data[:start] + bytes(new) + data[stop:]


def test_the_archive_has_all_kinds(made: Made) -> None:
    kinds = [type(item.record) for item in made.records]
    assert kinds == [
        ModelRecord, CodedBlock, StoredBlock, XzBlock, CodedBlock, CodedBlock, ModelRecord, EndRecord,
        ModelRecord, CodedBlock, CodedBlock, ModelRecord, EndRecord,
    ]  # fmt: skip
    result = made.salvage(made.data)
    assert (result.content, result.gaps, result.complete) == (CONTENT, [], True)
    assert [(p.start, p.content) for p in result.pieces] == [(at, content) for _, at, content in made.blocks]
    assert all(
        p.exact and not p.mended and p.archive == range(f.start, f.stop) for p, (f, *_) in zip(result.pieces, made.blocks, strict=True)
    )


@pytest.mark.slow
def test_a_flipped_bit_is_put_right(made: Made) -> None:
    """Every bit of all records' beginnings and ends and of the starts of frames; of the rest, some."""
    near = {at + i for item in made.items for at in (item.start, item.stop - 6) for i in range(6)}
    for bit in (bit for byte in range(len(made.data)) for bit in range(8 * byte, 8 * byte + 8) if byte in near or bit % 61 == 0):
        result = made.salvage(flipped(made.data, bit))
        assert result.complete
        assert result.content == CONTENT
        notes = [piece.mended for piece in result.pieces if piece.mended] + [gap.reason for gap in result.gaps]
        assert len(notes) == 1
        assert f"bit {bit % 8} of byte {bit // 8:,} " in notes[0] or "start of a frame" in notes[0]


def test_every_block_in_turn(made: Made) -> None:
    for number, (block, position, content) in enumerate(made.blocks, 1):
        for seed in range(3):
            rng = random.Random(seed)
            start = rng.randrange(block.start + 12, block.stop - 8)
            result = made.expect(overwritten(made.data, start, start + 4, rng), (start, start + 4))
            assert [p.start for p in result.pieces] == [at for _, at, c in made.blocks if c != content]
            assert all(p.exact for p in result.pieces)
            (gap,) = result.gaps
            assert (gap.block, gap.start, gap.size, gap.exact) == (number, position, len(content), True)
            assert (gap.archive, gap.reason, gap.harmless) == (range(block.start, block.stop), "damaged", False)


def test_a_wrong_crc_alone_loses_nothing(made: Made) -> None:
    """The content's own check decides; of stored blocks, that of the frame."""
    for block, _, content in made.blocks:
        result = made.salvage(overwritten(made.data, block.stop - 4, block.stop, random.Random(1)))
        assert result.complete
        assert [p.content for p in result.pieces if "CRC" in p.mended] == [content]


def test_stored_blocks_need_proof_of_a_repair(made: Made) -> None:
    """A flipped bit is put right only while all other blocks of the frame are there, so that its end record can confirm it."""
    (stored,) = made.of(StoredBlock)
    other = made.blocks[0][0]
    damaged = flipped(made.data, 8 * (stored.start + 100))
    assert made.salvage(damaged).complete
    result = made.salvage(overwritten(damaged, other.start + 50, other.start + 60, random.Random(1)))
    assert [gap.block for gap in result.gaps] == [1, 2]
    assert "cannot be proven" in result.gaps[1].reason
    other = made.of(XzBlock)[0]
    assert made.salvage(flipped(damaged, 8 * (other.start + 30))).complete


def test_heads_are_rebuilt(made: Made) -> None:
    """Tag and length destroyed: the CRC says which ones they were."""
    for record in made.records:
        head = 2 if record.stop - record.start < 128 else 3
        result = made.salvage(overwritten(made.data, record.start, record.start + head, random.Random(record.start)))
        assert result.complete


KINDS: dict[str, Callable[[bytes, random.Random], tuple[bytes, Span]]] = {}


def kind(do: Callable[[bytes, random.Random], tuple[bytes, Span]]) -> Callable[[bytes, random.Random], tuple[bytes, Span]]:
    KINDS[do.__name__] = do
    return do


@kind
def burst(data: bytes, rng: random.Random) -> tuple[bytes, Span]:
    start = rng.randrange(len(data))
    stop = min(len(data), start + rng.randrange(1, 65))
    return overwritten(data, start, stop, rng), (start, stop)


@kind
def zeros(data: bytes, rng: random.Random) -> tuple[bytes, Span]:
    start = rng.randrange(len(data))
    stop = min(len(data), start + 200)
    return data[:start] + bytes(stop - start) + data[stop:], (start, stop)


@kind
def deletion(data: bytes, rng: random.Random) -> tuple[bytes, Span]:
    start = rng.randrange(len(data))
    stop = min(len(data), start + rng.randrange(1, 65))
    return data[:start] + data[stop:], (start, stop)


@kind
def insertion(data: bytes, rng: random.Random) -> tuple[bytes, Span]:
    start = rng.randrange(len(data))
    return data[:start] + rng.randbytes(rng.randrange(1, 65)) + data[start:], (start, start)


@kind
def cut(data: bytes, rng: random.Random) -> tuple[bytes, Span]:
    start = rng.randrange(100, len(data))
    return data[:start], (start, len(data))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.slow
def test_damage_anywhere(made: Made, name: str) -> None:
    """Where the end of one frame and the start of the next are destroyed together, it is not known what more was between them."""
    borders = [(item.start - 20, item.stop + 20) for item in made.items if isinstance(item, Start) and item.start]
    for seed in range(24):
        data, touched = KINDS[name](made.data, random.Random(f"{name} {seed}"))
        result = made.expect(data, touched, placed=not any(overlap(touched, border) for border in borders))
        assert result.gaps or any(piece.mended for piece in result.pieces)


def test_bursts_over_borders(made: Made) -> None:
    for before, after in zip(made.items, made.items[1:], strict=False):
        for seed in range(3):
            rng = random.Random(seed)
            start, stop = max(0, before.stop - rng.randrange(1, 16)), after.start + rng.randrange(1, 16)
            data = overwritten(made.data, start, stop, rng)
            made.expect(data, (start, stop), placed=not isinstance(after, Start))


def test_all_model_records_of_a_frame_lost(made: Made) -> None:
    """The other frame's serves: the blocks' checks say that it is the same."""
    data = made.data
    for model in made.of(ModelRecord)[:2]:
        data = overwritten(data, model.start, model.stop, random.Random(1))
    result = made.expect(data, (0, 0))
    assert [(gap.size, gap.reason) for gap in result.gaps] == [(0, "damaged")] * 2
    assert result.content == CONTENT
    for model in made.of(ModelRecord):
        data = overwritten(data, model.start, model.stop, random.Random(1))
    result = made.salvage(data)
    assert [type(block.record) for block, _, c in made.blocks if c in {p.content for p in result.pieces}] == [StoredBlock, XzBlock]
    assert {gap.reason for gap in result.gaps if gap.size} == {"its model record is lost"}


def test_ends_and_starts_lost(made: Made) -> None:
    for end in made.of(EndRecord):
        result = made.expect(overwritten(made.data, end.start, end.stop, random.Random(1)), (end.start, end.stop))
        assert result.content == CONTENT
        assert not result.complete  # nothing tells whether more followed
        assert [(gap.size, gap.harmless) for gap in result.gaps] == [(0, False)]
    for start in (item for item in made.items if isinstance(item, Start)):
        result = made.expect(overwritten(made.data, start.start, start.stop, random.Random(1)), (start.start, start.stop))
        assert result.complete
        assert [(gap.archive, gap.harmless) for gap in result.gaps] == [(range(start.start, start.stop), True)]


def test_cut_off(made: Made) -> None:
    for record in made.records[1:-1]:
        for stop in (record.stop, record.stop - 1, record.start + 3):
            if stop == record.stop and isinstance(record.record, EndRecord):
                continue  # an archive of one frame, and whole
            result = made.expect(made.data[:stop], (stop, len(made.data)))
            assert all(piece.exact for piece in result.pieces)
            assert not result.complete
            if stop == record.start + 3 and isinstance(record.record, Block):
                assert result.gaps[-1].reason == "cut off"


def test_missing_without_a_trace(made: Made) -> None:
    """Whole records taken out leave nothing damaged, but the sizes do not add up."""
    block, _, content = made.blocks[3]
    result = made.salvage(made.data[: block.start] + made.data[block.stop :])
    assert content not in result.content
    assert not any(piece.exact for piece in result.pieces)
    assert [(gap.size, gap.reason) for gap in result.gaps] == [(len(content), "missing without a trace")]
    one, two = made.blocks[1][0], made.blocks[2][0]
    swapped = made.data[: one.start] + made.data[two.start : two.stop] + made.data[one.start : one.stop] + made.data[two.stop :]
    result = llmzip.salvage(swapped, codec=made.codec)
    assert [gap.reason for gap in result.gaps] == ["the content as a whole does not match its check"]


def rewritten(made: Made, number: int, change: Callable[[Block], Block]) -> bytes:
    """The archive with another block in place of one, records intact."""
    block = made.blocks[number][0]
    assert isinstance(block.record, Block)
    return made.data[: block.start] + encode_record(change(block.record)) + made.data[block.stop :]


def test_what_a_machine_does_not_reproduce(made: Made) -> None:
    data = rewritten(made, 0, lambda block: replace(block, check=1))  # type: ignore[arg-type]
    result = made.expect(data, (0, made.blocks[0][0].stop))
    assert [(gap.block, gap.start, gap.size, gap.reason) for gap in result.gaps] == [(1, 0, 381, NOT_REPRODUCED)]
    data = rewritten(made, 2, lambda block: replace(block, check=1))  # type: ignore[arg-type]
    assert [(gap.block, gap.reason) for gap in made.salvage(data).gaps] == [(3, "damaged")]


def test_records_of_a_newer_version(made: Made) -> None:
    end = made.of(EndRecord)[0]
    unknown = b"Q\x01?"
    unknown += rec.content_check(unknown).to_bytes(4, "little")
    result = made.expect(made.data[: end.start] + unknown + made.data[end.start :], (end.start, end.start))
    assert result.content == CONTENT
    assert ["newer llmzip" in gap.reason for gap in result.gaps] == [True]


def test_nothing_to_be_had(made: Made) -> None:
    with pytest.raises(NotAnArchiveError):
        llmzip.salvage(b"")
    with pytest.raises(NotAnArchiveError):
        llmzip.salvage(TEXT)
    with pytest.raises(UnsupportedArchiveError, match="version 9"):
        llmzip.salvage(rec.MAGIC + b"\x09" + TEXT)
    with pytest.raises(DamagedArchiveError, match="nothing of it"):
        llmzip.salvage(frame_start() + TEXT)


def test_options_of_the_codec(made: Made, tiny_model: IntegerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = flipped(made.data, 8 * 100)
    with pytest.raises(OutputLimitError):
        llmzip.salvage(damaged, codec=remembering(tiny_model, max_output=1500))
    monkeypatch.setenv("LLMZIP_CACHE", "nowhere")
    with pytest.raises(ModelUnavailableError):
        llmzip.salvage(damaged)
    told: list[tuple[int, int]] = []
    pieces = list(recovery.recover(made.codec, damaged, lambda done, archive: told.append((done, archive))))
    assert len(pieces) == 7


def frame(*contents: bytes) -> bytes:
    whole, out = rec.WholeCheck(), frame_start()
    for content in contents:
        whole.update(content)
        out += encode_record(StoredBlock(content))
    return out + encode_record(whole.record())


def archives_inside(made: Made) -> list[bytes]:
    """Contents that are archives or hold some, as a tar file may."""
    padded = made.data + bytes(-len(made.data) % 512)
    return [RNG.randbytes(700) + padded + RNG.randbytes(300) + padded, made.data, made.data + RNG.randbytes(9), padded + bytes(2000)]


def test_an_archive_in_the_content_is_not_taken_for_the_archive(made: Made) -> None:
    inside = archives_inside(made)
    data = frame(*inside[:2], RNG.randbytes(500)) + frame(*inside[2:])
    records = [item for item in scan(data) if isinstance(item, Found) and isinstance(item.record, StoredBlock)]
    for seed in range(120):
        rng = random.Random(seed)
        do = rng.choice(list(KINDS.values()))
        damaged, touched = do(data, rng)
        if rng.randrange(2):  # where it is hardest: at a record's beginning
            at = rng.choice(records).start
            touched = at, at + rng.randrange(1, 30)
            damaged = overwritten(data, *touched, rng)
        try:
            result = llmzip.salvage(damaged, codec=made.codec)
        except DamagedArchiveError:
            continue
        contents = [piece.content for piece in result.pieces]
        for content in contents:
            assert content in inside or len(content) == 500
        assert all(r.record.content in contents for r in records if not overlap((r.start, r.stop), touched))  # type: ignore[union-attr]


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.randoms(use_true_random=False)), min_size=2, max_size=5))
def test_damage_of_many_kinds_at_once(made: Made, damages: list[tuple[str, random.Random]]) -> None:
    data = made.data
    for name, rng in damages:
        if len(data) > 100:
            data, _ = KINDS[name](data, rng)
    try:
        made.salvage(data)
    except (DamagedArchiveError, NotAnArchiveError):
        assert not recoverable(data)


@settings(max_examples=examples(50), deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(0, 2000), max_size=3))
def test_any_bytes(made: Made, noise: bytes, places: list[int]) -> None:
    """Noise alone, and in between."""
    with pytest.raises((NotAnArchiveError, DamagedArchiveError, UnsupportedArchiveError)):
        llmzip.salvage(noise, codec=made.codec)
    data = made.data
    for place in places:
        data = data[:place] + noise + data[place:]
    try:
        made.salvage(data)
    except (DamagedArchiveError, NotAnArchiveError):  # noise on both sides of all: it might be in the content of another archive
        assert len(noise) >= 19
        assert not recoverable(data)


def places(data: bytes) -> Iterator[int]:
    """Where something intact begins, by trial, the slow way."""
    for at in range(len(data)):
        try:
            if not data.startswith(frame_start(), at):
                parser.pull(parser.parse_record(), io.BytesIO(data[at:]))
            yield at
        except LLZError:
            pass


def test_landmarks(made: Made) -> None:
    noise = random.Random(1).randbytes(3000)
    data = noise + made.data[:1000] + b"SSSSSS" + made.data[990:] + noise[:100]
    assert list(Landmarks(data).after(-1)) == list(places(data))
    large = bytearray(random.Random(2).randbytes(3 << 20))
    record = encode_record(StoredBlock(bytes(1500)))
    at = [5, (1 << 20) - 2, (2 << 20) - 1, (2 << 20) + 2000, len(large) - len(record)]
    for place in at:
        large[place : place + len(record)] = record
    assert list(Landmarks(bytes(large)).after(-1)) == at
    assert list(Landmarks(bytes(large)).after(at[2])) == at[3:]
