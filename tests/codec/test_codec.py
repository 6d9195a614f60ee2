"""Archives end to end with the tiny model: whatever goes in comes back, whatever is damaged is refused."""

from __future__ import annotations

import io
import lzma
import os
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import llmzip
from llmzip.adapter.adapter import Adapter, Sizes
from llmzip.archive import records as rec
from llmzip.codec.codec import Codec
from llmzip.codec.cutting import read_blocks
from llmzip.codec.ledger import Ledger
from llmzip.coding import block_coder, session
from llmzip.coding.lanes import LaneLayout
from llmzip.engine.cache import KVCache
from llmzip.errors import (
    DamagedArchiveError,
    LLZError,
    ModelMismatchError,
    ModelUnavailableError,
    NotEnoughMemoryError,
    NotReproducedError,
    ParameterError,
)
from llmzip.models.convert import IntegerModel
from llmzip.options import Options
from llmzip.parameters import DEFAULT_LEVEL, FROZEN, LEVELS
from tests.support.archives import records_of
from tests.support.codecs import TEXT, eager_codec, fixed_codec
from tests.support.profiles import examples

SPAN = LEVELS[DEFAULT_LEVEL].span

CASES = {
    "empty": b"",
    "one byte": b"a",
    "one odd byte": b"\xff",
    "all byte values": bytes(range(256)) * 4,
    "invalid UTF-8": b"ordinary text \xc3( and \xe2\x82 then \xf0\x9f\x98 more text, " * 5,
    "NULs": b"a\0b\0\0\0c" * 40,
    "CRLF": b"line one\r\nline two\r\n\r\n" * 3 + b"\r\r\n\n",
    "long line": b"word and the thing " * 3000,
    "special tokens": b"<|im_start|>system\nthe thing<|im_end|>\n<|endoftext|>",
    "UTF-16": "the thing and the other".encode("utf-16"),
    "Latin-1": "Käse und Brötchen für ärmere Leute, daß es so sei".encode("latin-1"),
    "many scripts": "naïve 漢字かな العربية हिन्दी 🙂👩‍👩‍👧 \u2028\ufeff\U0010ffff".encode() * 3,
    "zeros": bytes(1 << 20),
    "random": random.Random(1).randbytes(100_000),
    "xz": lzma.compress(TEXT),
}


def records(archive: bytes) -> list[rec.Record]:
    return records_of(archive)


@pytest.mark.parametrize("name", CASES)
def test_round_trip(codec: Codec, name: str) -> None:
    data = CASES[name]
    archive = codec.compress(data)
    assert codec.decompress(archive) == data
    assert len(archive) <= len(data) + 64


@pytest.mark.parametrize("name", ["random", "xz", "zeros", "empty"])
def test_hopeless_input_needs_no_model(name: str) -> None:
    no_model = Codec(Options(model="/nonexistent"))
    archive = no_model.compress(CASES[name])
    assert no_model.decompress(archive) == CASES[name]
    assert not any(isinstance(r, rec.CodedBlock) for r in records(archive))


@pytest.fixture(scope="module")
def eager(tiny_model: IntegerModel) -> Codec:
    return eager_codec(tiny_model, block_bytes=2000, lanes=3)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
def test_round_trip_through_the_model(eager: Codec, name: str) -> None:
    data = CASES[name][:20_000]
    archive = eager.compress(data)
    assert eager.decompress(archive) == data
    assert bool(data) == any(isinstance(r, rec.CodedBlock) for r in records(archive))


@given(
    data=st.binary(max_size=400)
    | st.text(max_size=300).map(str.encode)
    | st.lists(st.sampled_from(["the ", "and", "\r\n", "\0", "é", "🙂"])).map(lambda x: "".join(x).encode())
)
@settings(max_examples=examples(120), deadline=None)
@pytest.mark.slow
def test_round_trip_of_anything(codec: Codec, eager: Codec, data: bytes) -> None:
    archive = codec.compress(data)
    assert codec.decompress(archive) == data
    assert len(archive) <= len(data) + 64
    assert eager.decompress(eager.compress(data)) == data


@pytest.mark.slow
def test_every_code_point(tiny_model: IntegerModel) -> None:
    codec = fixed_codec(tiny_model, level=1)
    data = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)])).encode()
    assert codec.decompress(codec.compress(data)) == data


def test_opening_is_what_the_text_follows(tiny_model: IntegerModel) -> None:
    """Coding after an opening costs what coding it and the text costs more than coding it alone."""
    text = np.array([9, 80, 40, 40, 7] * 8, np.int32)

    def bits(opening: tuple[int, ...], symbols: NDArray[np.int32]) -> float:
        opened = fixed_codec(replace(tiny_model, config=replace(tiny_model.config, opening=opening))).blocks.models.own()
        coder, ledger = opened.coder(opened.record(LEVELS[1])), Ledger()
        stream = coder.encode(symbols, 1, ledger=ledger)
        assert (coder.decode(stream, len(symbols), 1) == symbols).all()
        assert coder.encode(np.tile(symbols, 3), 3)[:4] == stream[:4]  # every lane begins alike
        return ledger.corrected

    start = np.array([5, 80, 3], np.int32)
    whole = bits((2,), np.concatenate([start, text])) - bits((2,), start)
    assert bits((2, *start.tolist()), text) == pytest.approx(whole, abs=1e-6)
    assert bits((2,), text) != pytest.approx(whole, abs=1e-3)


@pytest.mark.slow
def test_short_texts_choose_what_learns(tiny_model: IntegerModel) -> None:
    full = LEVELS[DEFAULT_LEVEL].adapter
    seen = set()
    for text in (TEXT[:400], TEXT[:1500], b"sixteen letters!", b"a ball and a cat " * 40):
        sizes = {adapter: len(eager_codec(tiny_model, adapter=adapter).compress(text)) for adapter in full.subsets()}
        codec = eager_codec(tiny_model)
        archive = codec.compress(text)
        assert len(archive) == min(sizes.values())
        assert codec.decompress(archive) == text
        seen |= {r.adapter for r in records(archive) if isinstance(r, rec.ModelRecord)}
    assert len(full.subsets()) == 4
    assert len(seen) > 1


def test_later_blocks_learn_what_the_first_one_chose(tiny_model: IntegerModel) -> None:
    codec = eager_codec(tiny_model, block_bytes=400)
    text = TEXT[:400] + b"a ball and a cat " * 100
    archive = codec.compress(text)
    assert codec.decompress(archive) == text
    assert len({r for r in records(archive) if isinstance(r, rec.ModelRecord)}) == 1


@pytest.mark.parametrize("lanes", [1, 2, 7, 64])
@pytest.mark.slow
def test_coded_blocks_and_lanes(tiny_model: IntegerModel, lanes: int) -> None:
    codec = fixed_codec(tiny_model, lanes=lanes)
    symbols = codec.blocks.models.own().alphabet.encode(TEXT[:3000])
    coder = codec.blocks.models.own().coder(codec.blocks.models.own().record())
    stream = coder.encode(symbols, lanes)
    assert (coder.decode(stream, len(symbols), lanes) == symbols).all()


def test_blocks_are_independent_of_how_input_arrives(tiny_model: IntegerModel) -> None:
    codec = eager_codec(tiny_model, block_bytes=1000, lanes=3)

    class Dribble(io.RawIOBase):
        def __init__(self) -> None:
            self.rest = TEXT[:5000]

        def read(self, n: int = -1) -> bytes:
            part, self.rest = self.rest[: min(n, 7)], self.rest[min(n, 7) :]
            return part

    whole = codec.compress(TEXT[:5000])
    sink = io.BytesIO()
    codec.compress_stream(Dribble(), sink)  # type: ignore[arg-type]
    assert sink.getvalue() == whole
    assert sum(isinstance(r, rec.CodedBlock) for r in records(whole)) >= 5
    assert sum(isinstance(r, rec.ModelRecord) for r in records(whole)) == 2  # at both ends
    assert codec.decompress(whole) == TEXT[:5000]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100, 4096])
def test_cutting_keeps_everything(size: int) -> None:
    data = "naïve 漢字\n🙂 text\n".encode() * 20
    blocks = list(read_blocks(io.BytesIO(data), size))
    assert b"".join(blocks) == data
    assert all(1 <= len(b) <= size for b in blocks)
    if size >= 100:
        for block in blocks:
            block.decode()


def test_concatenated_archives(codec: Codec) -> None:
    a, b = codec.compress(TEXT[:1500]), codec.compress(b"\xff\0")
    assert codec.decompress(a + b + a) == TEXT[:1500] + b"\xff\0" + TEXT[:1500]


@pytest.fixture(scope="module")
def small(tiny_model: IntegerModel) -> tuple[Codec, bytes]:
    codec = eager_codec(tiny_model, lanes=2)
    return codec, codec.compress(TEXT[:120])


@pytest.mark.slow
def test_every_flipped_bit_is_an_error(small: tuple[Codec, bytes]) -> None:
    codec, archive = small
    for bit in range(8 * len(archive)):
        damaged = bytearray(archive)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LLZError):
            codec.decompress(bytes(damaged))


def test_every_truncation_is_an_error(small: tuple[Codec, bytes]) -> None:
    codec, archive = small
    for cut in range(len(archive)):
        sink = io.BytesIO()
        with pytest.raises(LLZError):
            codec.decompress_stream(io.BytesIO(archive[:cut]), sink)


def test_nothing_is_released_before_its_check(small: tuple[Codec, bytes]) -> None:
    """A block whose record is intact but whose content decodes wrongly."""
    codec, archive = small
    parts = records(archive)
    block = next(r for r in parts if isinstance(r, rec.CodedBlock))
    for wrong in (
        rec.CodedBlock(block.size, block.symbols, block.lanes, block.check ^ 1, block.stream),
        rec.CodedBlock(block.size, block.symbols, block.lanes, block.check, block.stream[:-9]),
        rec.CodedBlock(block.size, block.symbols, block.lanes + 1, block.check, block.stream),
        rec.CodedBlock(block.size, block.symbols - 1, block.lanes, block.check, block.stream),
    ):
        rebuilt = rec.frame_start() + b"".join(rec.encode_record(wrong if r is block else r) for r in parts)
        sink = io.BytesIO()
        with pytest.raises(NotReproducedError, match="cannot reproduce"):
            codec.decompress_stream(io.BytesIO(rebuilt), sink)
        assert sink.getvalue() == b""


@pytest.mark.slow
def test_a_decoder_out_of_step_notices(small: tuple[Codec, bytes]) -> None:
    """One that sees a key less than the encoder did: right up to the window's end, then soon wrong, and told so long before the block's end."""
    coder, data = small[0], (TEXT * 4)[:50_000]
    loaded = coder.blocks.models.own()
    record = loaded.record()
    symbols = loaded.alphabet.encode(data)
    stream = loaded.coder(record).encode(symbols, 8)
    far = loaded.coder(replace(record, span=replace(record.span, window=record.span.window - 1)))
    with pytest.raises(NotReproducedError) as caught:
        far.decode(stream, len(symbols), 8)
    noticed = int(re.search(r"symbol ([\d,]+) of", str(caught.value))[1].replace(",", ""))  # type: ignore[index]
    assert 8 * (record.span.window - 1) < noticed < len(symbols) - 1000


@pytest.mark.slow
def test_rubbish_is_noticed_within_some_4096_symbols(small: tuple[Codec, bytes]) -> None:
    loaded, rng = small[0].blocks.models.own(), np.random.default_rng(5)
    coder = loaded.coder(replace(loaded.record(), adapter=FROZEN))
    noticed = []
    for _ in range(40):
        with pytest.raises(NotReproducedError) as caught:
            coder.decode(rng.bytes(60_000), 60_000, 40)
        noticed.append(int(re.search(r"symbol ([\d,]+) of", str(caught.value))[1].replace(",", "")))  # type: ignore[index]
    assert 2048 < np.mean(noticed) < 8192
    assert max(noticed) < 40_000


def test_the_model_is_named_again_if_several_blocks_need_it(small: tuple[Codec, bytes], tiny_model: IntegerModel) -> None:
    parts = records(fixed_codec(tiny_model, block_bytes=1000).compress(TEXT[:2500]))
    assert [type(r).__name__ for r in parts] == ["ModelRecord", *["CodedBlock"] * 3, "ModelRecord", "EndRecord"]
    assert parts[0] == parts[-2]
    assert [type(r).__name__ for r in records(small[1])] == ["ModelRecord", "CodedBlock", "EndRecord"]


def test_whole_check(small: tuple[Codec, bytes]) -> None:
    codec, archive = small
    parts = records(archive)
    twice = [parts[0], parts[1], parts[1], parts[2]]
    with pytest.raises(DamagedArchiveError, match="as a whole"):
        codec.decompress(rec.frame_start() + b"".join(map(rec.encode_record, twice)))
    with pytest.raises(DamagedArchiveError, match="before its model"):
        codec.decompress(rec.frame_start() + b"".join(map(rec.encode_record, parts[1:])))


def test_model_that_is_not_here(small: tuple[Codec, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path))
    with pytest.raises(ModelUnavailableError, match=r"local:tiny .* --model"):
        llmzip.decompress(small[1])
    assert list(tmp_path.iterdir()) == []


def test_other_weights_or_tokenizer(
    small: tuple[Codec, bytes], tiny_model: IntegerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support import tiny

    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    other = tiny.write_folder(tmp_path / "other", seed="other")
    with pytest.raises(ModelMismatchError, match="weights"):
        llmzip.decompress(small[1], model=str(other))
    record = records(small[1])[0]
    assert isinstance(record, rec.ModelRecord)
    changed = rec.ModelRecord(record.model_id, record.digest, b"other!", record.span, record.adapter)
    rebuilt = rec.frame_start() + b"".join(map(rec.encode_record, [changed, *records(small[1])[1:]]))
    with pytest.raises(ModelMismatchError, match="tokenizer"):
        small[0].decompress(rebuilt)


@pytest.mark.parametrize(
    "options", [{"level": 0}, {"level": 10}, {"lanes": 0}, {"lanes": 5000}, {"threads": 0}, {"block_bytes": 0}, {"block_bytes": 1 << 25}]
)
def test_parameters_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(ParameterError, match="between"):
        Options(**options)  # type: ignore[arg-type]


def test_importing_is_light() -> None:
    import subprocess
    import sys

    code = "import sys, llmzip, llmzip.cli, llmzip.archive.parser; sys.exit(any(m in sys.modules for m in ('torch', 'numba', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0


def test_xz_blocks_must_end_where_they_end() -> None:
    from llmzip.archive import lzma2

    stream = lzma2.pack(TEXT[:3000])
    assert lzma2.unpack(stream, 3000) == TEXT[:3000]
    for wrong, size in ((stream[:-1], 3000), (stream + b"x", 3000), (stream, 2999), (stream, 3001), (b"", 0), (b"\x00", 1)):
        with pytest.raises(DamagedArchiveError):
            lzma2.unpack(wrong, size)


def test_local_names_fit_the_record(tmp_path: Path) -> None:
    from llmzip.models import resolve

    for name in ("plain", "näme with\u00a0spaces\t", "x" * 255, "\udc80"):
        assert rec.is_model_id(resolve.archive_id(str(tmp_path / name)))


@pytest.mark.slow
def test_too_little_memory(tiny_model: IntegerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (eager_codec(tiny_model, lanes=n) for n in (2, 12))
    archive = many.compress(TEXT)
    assert any(isinstance(r, rec.CodedBlock) for r in records(archive))
    own = many.blocks.models.own()
    sizes = Sizes(own.transformer.config.vocab, own.alphabet.size, tiny_model.config.width, 12, len(own.alphabet.encode(TEXT)))
    fixed = Adapter.memory(LEVELS[DEFAULT_LEVEL].adapter, sizes, own.transformer.threads) + block_coder._SYMBOL_BYTES * sizes.total
    fixed += session.logit_bytes(LaneLayout(sizes.total, 12), sizes.vocab)
    free = fixed + own.transformer.memory(2, SPAN, 2000, 256)[0]
    monkeypatch.setattr("llmzip.system.memory.available", lambda: free)
    with pytest.raises(NotEnoughMemoryError, match=r"12 lanes need .* MB .*; --lanes \d+ would fit"):
        many.compress(TEXT)
    with pytest.raises(NotEnoughMemoryError, match="where more memory is free"):
        many.decompress(archive)
    assert few.decompress(few.compress(TEXT[:4000])) == TEXT[:4000]
    monkeypatch.setattr("llmzip.system.memory.available", lambda: 1000)
    with pytest.raises(NotEnoughMemoryError, match="not even one lane fits"):
        few.compress(TEXT[:4000])


def test_memory_is_what_it_is_said_to_be(tiny_model: IntegerModel) -> None:
    for lanes, steps in ((1, 50), (3, 5000)):
        cache = KVCache(tiny_model.config, lanes, SPAN, steps, 16)
        held = sum(x.nbytes for x in (cache.k, cache.v, cache.ks, cache.vs))
        assert held == KVCache.bytes_needed(tiny_model.config, lanes, SPAN, steps, 16)


@pytest.mark.slow
def test_blocks_leave_one_by_one(tiny_model: IntegerModel) -> None:
    """A block's archive is written before more than the next block is read, and its content before the next is decoded."""
    data = TEXT[:6000]
    log: list[tuple[str, int]] = []

    class Source(io.BytesIO):
        def read(self, n: int | None = -1) -> bytes:
            part = super().read(min(n or 0, 512) if n != -1 else -1)
            log.append(("read", self.tell()))
            return part

    class Sink(io.BytesIO):
        def write(self, part: Any) -> int:
            n = super().write(part)
            log.append(("write", self.tell()))
            return n

    codec = fixed_codec(tiny_model, block_bytes=2000)
    archive, content = Sink(), Sink()
    codec.compress_stream(Source(data), archive)
    first = next(i for i, (what, _) in enumerate(log) if what == "write")
    assert max(at for _, at in log[:first]) <= 2 * 2000 + 512
    log.clear()
    codec.decompress_stream(Source(archive.getvalue()), content)
    assert content.getvalue() == data
    first = next(i for i, (what, _) in enumerate(log) if what == "write")
    assert max(at for _, at in log[:first]) < len(archive.getvalue()) * 2 / 3
