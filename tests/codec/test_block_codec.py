"""Which blocks the model is spared, and what becomes of consecutive blocks without it."""

from __future__ import annotations

import base64
import io
import lzma
import string
import uuid
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

import llmzip
from llmzip import parameters
from llmzip.archive import records as rec
from llmzip.codec.any_model import LoadedModel
from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.codec import Codec
from llmzip.codec.cutting import smallest_classic
from llmzip.codec.density import is_dense, is_hopeless
from llmzip.codec.held_back import HeldBack
from llmzip.codec.ledger import Ledger
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.sampling import pays
from llmzip.models.convert import IntegerModel
from llmzip.options import Options
from llmzip.parameters import Level
from tests.codec.test_codec import records
from tests.support.codecs import TEXT, fixed_codec

RNG = Random(1)
LETTERS = bytes(RNG.choices(string.ascii_lowercase.encode(), k=60_000))
BASE64 = base64.encodebytes(RNG.randbytes(50_000))
PASSWORDS = b"".join(bytes(RNG.choices(string.printable[:90].encode(), k=12)) + b"\n" for _ in range(4000))
UUIDS = "".join(f"{uuid.UUID(int=RNG.getrandbits(128), version=4)}\n" for _ in range(1500)).encode()
DIGITS = bytes(RNG.choices(b"0123456789", k=50_000))
LOG = "".join(
    f"2026-11-26T10:{n // 60:02}:{n % 60:02}Z node-{RNG.randrange(9)} load 0.{RNG.randrange(99):02}\n" for n in range(1500)
).encode()
CSV = "".join(f"{n},{RNG.random():.3f},{RNG.randrange(99)},ok\n" for n in range(2000)).encode()
MAIL = TEXT + BASE64


def packed(content: bytes) -> int:
    return len(smallest_classic(content).body())


@pytest.mark.parametrize("content", [LETTERS, BASE64, PASSWORDS, UUIDS, DIGITS])
def test_dense(content: bytes) -> None:
    assert is_dense(content)
    assert is_dense(content[:8192])


@pytest.mark.parametrize(
    "content",
    [TEXT, TEXT[:8192], LOG, CSV, MAIL, b"a" * 20_000, "灯塔已经三天没有亮了，村里没有人知道。\n".encode() * 400, b"", LETTERS[:4000]],
)
def test_not_dense(content: bytes) -> None:
    assert not is_dense(content)


def test_hopeless() -> None:
    """No gain is possible where xz is as near to the entropy as that; where it is not, a sample must tell."""
    assert [is_hopeless(c, packed(c)) for c in (LETTERS, BASE64, PASSWORDS, UUIDS, DIGITS)] == [True, True, True, False, False]


class NoModels(LoadedModels):
    def own(self) -> LoadedModel:
        raise AssertionError("the model is not needed")


@pytest.mark.parametrize("content", [LETTERS, BASE64, PASSWORDS])
def test_hopeless_text_needs_no_model(content: bytes) -> None:
    archive = Codec(blocks=BlockCodec(NoModels(Options()))).compress(content)
    assert [type(r) for r in records(archive)] == [rec.XzBlock, rec.EndRecord]
    assert llmzip.decompress(archive) == content


def test_a_sample_decides(tiny_model: IntegerModel) -> None:
    """The tiny model knows nothing of digits, but it could be worse than what is claimed that xz made."""
    codec = fixed_codec(tiny_model)
    loaded, level = codec.blocks.models.own(), codec.options.level_settings()
    assert not pays(loaded, level, DIGITS, packed(DIGITS))
    assert pays(loaded, level, DIGITS, len(DIGITS) * 3)
    account = Ledger()
    assert type(codec.blocks.encode(DIGITS, codec.options, account=account).block) is rec.XzBlock
    assert not account.symbols  # the model coded nothing
    assert [type(r) for r in records(codec.compress(DIGITS))] == [rec.XzBlock, rec.EndRecord]


def runs(size: int, seed: int = 2) -> Iterator[bytes]:
    """Blocks of a kind of log that xz shrinks to less than a 25th, with noise that comes again."""
    noise = Random(seed).randbytes(size // 8)
    line = b"2026-11-26 heartbeat ok, load 0.1, queue empty, all services up and running\n"
    for n in range(3):
        yield noise + line * (size // len(line)) + b"%d\n" % n


def together(run: HeldBack, contents: list[bytes]) -> tuple[list[rec.Record], list[bytes]]:
    out = [run.add(content, smallest_classic(content)) for content in contents]
    out.append(run.take())
    end = rec.WholeCheck()
    end.update(b"".join(contents))
    archive = rec.frame_start() + b"".join(out) + rec.encode_record(end.record())
    assert llmzip.decompress(archive) == b"".join(contents)
    return records(archive)[:-1], out


def test_a_run_becomes_one_block() -> None:
    contents = list(runs(100_000))
    found, out = together(HeldBack(), contents)
    assert [type(r) for r in found] == [rec.XzBlock]
    assert out[:-1] == [b""] * 3
    whole = b"".join(contents)
    assert len(out[-1]) + 26 < len(lzma.compress(whole, preset=9 | lzma.PRESET_EXTREME))
    assert 2 * len(out[-1]) < sum(packed(content) for content in contents)


def test_blocks_that_repeat_nothing_stay_as_they_are() -> None:
    noise = [Random(n).randbytes(5000) for n in range(4)]
    assert [type(r) for r in together(HeldBack(), noise)[0]] == [rec.StoredBlock] * 4
    assert [type(r) for r in together(HeldBack(), [*noise, noise[0]])[0]] == [rec.XzBlock]
    assert together(HeldBack(), [])[0] == []


@pytest.mark.slow
def test_a_run_has_no_more_than_a_block_may_have() -> None:
    contents = [Random(n).randbytes(1 << 20) for n in range(2)] + [bytes(1 << 20)] * 16
    found, out = together(HeldBack(), contents)
    assert all(isinstance(r, rec.Block) and r.size <= parameters.MAX_BLOCK for r in found)
    assert [len(part) > 0 for part in out] == [False] * 16 + [True, False, True]


def test_asked_for_small_blocks_run_no_longer() -> None:
    contents = list(runs(10_000))
    found, out = together(HeldBack(20_000), contents)
    assert len(found) == 3
    assert all(out[:-1])
    assert out[-1] == b""


def test_more() -> None:
    first, second, *_ = runs(50_000)
    run = HeldBack()
    assert run.added(first) is None
    run.add(first, smallest_classic(first))
    assert run.added(second) < 200  # type: ignore[operator]
    assert run.added(Random(9).randbytes(5000)) > 4900  # type: ignore[operator]


@pytest.fixture
def mixed(tiny_model: IntegerModel) -> tuple[Codec, bytes]:
    """Blocks of 64 KiB at most that are not asked for: as a level has them."""
    codec = fixed_codec(tiny_model)
    object.__setattr__(codec, "options", Small())
    first, second, _ = runs(60_000)
    text = (TEXT[:400].decode() + "\n").encode()
    return codec, first + second + text + first


class Small(Options):
    def level_settings(self) -> Level:
        return replace(super().level_settings(), block_bytes=1 << 16)


@pytest.mark.slow
def test_pieces_make_no_difference(mixed: tuple[Codec, bytes]) -> None:
    codec, content = mixed
    whole = codec.compress(content)
    assert sum(isinstance(r, rec.XzBlock) for r in records(whole)) < 3
    assert len(whole) < sum(packed(content[i : i + (1 << 16)]) for i in range(0, len(content), 1 << 16))
    for size in (1000, 65_536, 100_001):
        compressor = llmzip.Compressor(codec=codec)
        parts = [compressor.compress(content[i : i + size]) for i in range(0, len(content), size)]
        assert b"".join(parts) + compressor.flush() == whole
    sink = io.BytesIO()
    with llmzip.LLZFile(sink, "w", codec=codec) as f:
        f.write(content)
        f.flush()
        assert whole.startswith(sink.getvalue())
    assert sink.getvalue() == whole
    assert codec.decompress(whole) == content
    assert llmzip.salvage(whole, codec=codec).complete
