"""Blocks side by side: the same bytes and the same errors as one after another, and nothing is left of processes that are gone."""

from __future__ import annotations

import io
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmzip.archive import records as rec
from llmzip.codec.block_codec import EncodedBlock, holds
from llmzip.codec.codec import Codec
from llmzip.codec.ledger import Ledger
from llmzip.codec.policy import Policy
from llmzip.codec.pool import WorkerLostError
from llmzip.codec.processes import workers
from llmzip.codec.side_by_side import Workers
from llmzip.errors import DamagedArchiveError, LLZError, ModelUnavailableError, NotReproducedError, OutputLimitError
from llmzip.options import Options
from tests.support.archives import records_of
from tests.support.codecs import TEXT

NOISE = random.Random(8).randbytes(6000)
BLOCK = 1000
SOON = 20.0  # seconds; on a machine that has nothing else to do it is a fraction of one
INPUTS = {
    "nothing": b"",
    "one block": TEXT[:500],
    "text": TEXT[:5300],
    "text after what needs no model": NOISE[:2500] + TEXT[:3500],
    "text between": TEXT[:2500] + NOISE[:2500] + TEXT[2500:5000],
    "no model at all": NOISE,
    "all in turn": b"".join(TEXT[i : i + BLOCK] + NOISE[i : i + BLOCK] for i in range(0, 4000, BLOCK)),
}


@pytest.fixture(scope="module")
def options(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Options]:
    """Of a codec that finds the tiny model in a cache, as other processes must."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMZIP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Options(model=str(tiny_folder), threads=1)


@pytest.fixture(scope="module")
def three(options: Options) -> Workers:
    return workers(options, 3)


def given(options: Options, **more: Any) -> Options:
    return replace(options, **more)


@pytest.mark.parametrize("name", INPUTS)
def test_the_same_bytes(name: str, codec: Codec, three: Workers, options: Options) -> None:
    """With small blocks, and with blocks that may be held back and packed together."""
    for block_bytes, parity in ((BLOCK, None), (BLOCK, 10), (None, None)):
        o = given(options, block_bytes=block_bytes, parity=parity)
        content = INPUTS[name]
        archive = Codec(o, blocks=codec.blocks).compress(content)
        side_by_side = Codec(o, blocks=three)
        assert side_by_side.compress(content) == archive
        assert side_by_side.decompress(archive * 2) == content * 2


def test_blocks_that_are_held_back(codec: Codec, three: Workers, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, of which those without the model are held back: a guess may be wrong then."""
    from llmzip.codec import held_back

    class Holding(held_back.HeldBack):
        def __init__(self, _: int | None = None) -> None:
            super().__init__(None)

    monkeypatch.setattr("llmzip.codec.frame_writer.HeldBack", Holding)
    o = given(options, block_bytes=BLOCK)
    for content in (NOISE[:1000] + TEXT[:3000] + NOISE[:2000] + TEXT[:1000], bytes(3000) + TEXT[:2000] + NOISE[:1000] * 3 + TEXT[:900]):
        archive = Codec(o, blocks=codec.blocks).compress(content)
        assert Codec(o, blocks=three).compress(content) == archive


def test_a_guess_holds_or_not(codec: Codec) -> None:
    text, o = TEXT[:1000], codec.options
    alone = codec.blocks.encode(text, o)
    assert isinstance(alone.block, rec.CodedBlock)
    plain, other = EncodedBlock(rec.StoredBlock(NOISE), None), codec.blocks.models.own().record()
    size = len(rec.encode_record(alone.block))
    assert holds(alone, None, None, lambda: None)
    assert holds(alone, None, alone.model, lambda: None)
    assert holds(alone, alone.model, alone.model, lambda: size + 1)
    assert not holds(alone, alone.model, alone.model, lambda: size)
    assert not holds(alone, None, None, lambda: size + 1)  # the model record comes on top
    assert not holds(alone, None, alone.model, lambda: 1)
    assert other != alone.model
    assert not holds(alone, None, other, lambda: None)
    assert holds(plain, None, None, lambda: 1)
    assert not holds(plain, None, other, lambda: None)


def test_a_pipe(codec: Codec, three: Workers, options: Options) -> None:
    """Blocks come out while the input is still open, in their order."""
    o = given(options, block_bytes=BLOCK)
    reader, writer = os.pipe()
    out, sink = os.pipe()
    with os.fdopen(reader, "rb", 0) as source, os.fdopen(sink, "wb", 0) as target, os.fdopen(out, "rb", 0) as result:
        thread = threading.Thread(target=lambda: Codec(o, blocks=three).compress_stream(source, target))
        thread.start()
        try:
            os.write(writer, TEXT[: 20 * BLOCK])
            first = result.read(100)
        finally:
            os.write(writer, TEXT[20 * BLOCK :][:BLOCK])
            os.close(writer)
            thread.join()
        target.close()
        assert first + result.read() == Codec(o, blocks=codec.blocks).compress(TEXT[: 21 * BLOCK])


def test_progress(three: Workers, options: Options) -> None:
    seen: list[tuple[int, int]] = []
    archive = Codec(given(options, block_bytes=BLOCK), blocks=three)
    sink = io.BytesIO()
    archive.compress_stream(io.BytesIO(TEXT[:5000]), sink, lambda done, written: seen.append((done, written)))
    assert seen[-1][0] == 5000
    assert max(done for done, _ in seen) == 5000
    back = io.BytesIO()
    seen.clear()
    archive.decompress_stream(io.BytesIO(sink.getvalue()), back, lambda done, written: seen.append((done, written)))
    assert back.getvalue() == TEXT[:5000]
    assert seen[-1][0] == 5000


def test_the_ledger_is_the_same(codec: Codec, three: Workers, options: Options) -> None:
    o = given(options, block_bytes=BLOCK, explain=True)
    ledgers: list[Ledger] = []
    for blocks in (codec.blocks, three):
        one = Codec(o, blocks=blocks)
        one.compress(INPUTS["text between"])
        assert one.ledger
        ledgers.append(one.ledger)
    assert vars(ledgers[1]) == pytest.approx(vars(ledgers[0]))


def test_what_comes_before_damage_comes_out(codec: Codec, three: Workers, options: Options) -> None:
    archive = Codec(given(options, block_bytes=BLOCK), blocks=codec.blocks).compress(TEXT[:5000])
    blocks = [r for r in records_of(archive) if isinstance(r, rec.CodedBlock)]
    at = archive.index(blocks[2].stream)
    damaged = bytearray(archive)
    damaged[at + 20] ^= 1
    unlike = archive.replace(rec.encode_record(blocks[2]), rec.encode_record(replace(blocks[2], check=blocks[2].check ^ 1)))
    cases: list[tuple[bytes, type[LLZError], Options]] = [
        (bytes(damaged), DamagedArchiveError, options),
        (unlike, NotReproducedError, options),
        (archive, OutputLimitError, given(options, max_output=sum(b.size for b in blocks[:2]))),
    ]
    for data, kind, o in cases:
        results = []
        for one in (codec.blocks, three):
            sink = io.BytesIO()
            with pytest.raises(kind) as caught:
                Codec(o, blocks=one).decompress_stream(io.BytesIO(data), sink)
            results.append((sink.getvalue(), str(caught.value)))
        assert results[0] == results[1]
        assert results[1][0] == TEXT[: blocks[0].size + blocks[1].size]


def test_a_missing_model(options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path))
    nowhere = Options(model="nowhere", offline=True, threads=1, block_bytes=BLOCK)
    with pytest.raises(ModelUnavailableError, match="nowhere"):
        Codec(nowhere, blocks=workers(nowhere, 2)).compress(TEXT[:3000])


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2, 3])
def test_processes_that_are_killed(codec: Codec, options: Options, times: int) -> None:
    """Others do their work, twice at most; what comes next is done by others, too. Each is killed while it is still starting."""
    o = given(options, block_bytes=BLOCK)
    two = workers(o, 2, Policy.MODEL)
    seen = {child.pid for child in multiprocessing.active_children()}
    content, results = TEXT[:5000], list[Any]()

    def compress() -> None:
        try:
            results.append(Codec(o, blocks=two).compress(content))
        except Exception as e:
            results.append(e)

    thread = threading.Thread(target=compress)
    thread.start()
    for _ in range(times):
        while not (new := [child.pid for child in multiprocessing.active_children() if child.pid and child.pid not in seen]):
            time.sleep(0.01)
        time.sleep(0.1)
        seen |= {child.pid for child in multiprocessing.active_children()}
        os.kill(new[0], signal.SIGKILL)
    thread.join(120)
    if times < 3:
        assert codec.decompress(results[0]) == content
    else:
        assert isinstance(results[0], WorkerLostError), results
        assert "the block at byte 0 " in str(results[0])
    assert Codec(given(options), blocks=two).decompress(codec.compress(TEXT[:500])) == TEXT[:500]


_PARENT = """
import multiprocessing, sys, threading, time
from llmzip.codec.codec import Codec
from llmzip.codec.policy import Policy
from llmzip.codec.processes import workers
from llmzip.options import Options
if __name__ == "__main__":
    options = Options(model=sys.argv[1], threads=1, block_bytes=500_000)
    codec = Codec(options, blocks=workers(options, 2, Policy.MODEL))
    threading.Thread(target=codec.compress, args=[b"text " * 1_000_000]).start()
    while len(multiprocessing.active_children()) < 2:
        time.sleep(0.01)
    print("ready", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 4.0])
def test_processes_end_with_their_parent(options: Options, delay: float) -> None:
    """Even if it is killed. All of them hold the pipe, so it ends when the last one has ended."""
    with subprocess.Popen([sys.executable, "-c", _PARENT, str(options.model)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"ready\n"
        time.sleep(delay)
        parent.kill()
        start = time.monotonic()
        assert parent.stdout.read() == b""
        assert time.monotonic() - start < SOON


def test_a_file_that_fails_does_not_keep_processes_busy(codec: Codec, three: Workers, options: Options) -> None:
    """Work that nobody waits for any more ends soon."""

    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError("full")

    o = given(options, block_bytes=200_000)
    content = TEXT[:1000] + b"\n" + bytes(random.Random(1).choices(b"abcdefgh ", k=800_000))
    with pytest.raises(OSError, match="full"):
        Codec(given(options, block_bytes=300_000), blocks=three).compress_stream(io.BytesIO(content), Full())
    start = time.monotonic()
    assert Codec(o, blocks=three).decompress(codec.compress(TEXT[:500])) == TEXT[:500]
    assert time.monotonic() - start < SOON
