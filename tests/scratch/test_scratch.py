"""The network that starts from nothing: its streams, what compiles it, and how it looks to users."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import pytest
import scratch as definition
from click.testing import CliRunner

import llmzip
from llmzip.archive.records import CodedBlock
from llmzip.archive.summary import summarise
from llmzip.cli import main
from llmzip.codec import cutting
from llmzip.codec.codec import Codec
from llmzip.codec.new_model import NewModel
from llmzip.errors import NotEnoughMemoryError, ParameterError
from llmzip.message.message_codec import MessageCodec
from llmzip.options import NEW, NEW_ID, Options
from llmzip.parameters import MAX_BLOCK
from llmzip.scratch import coder, numerics, state
from llmzip.scratch.kernels import contexts, network
from tests.support.codecs import ROOT, TEXT

FORMAT = (ROOT / "docs" / "format.md").read_text("utf-8")
LOG = b"".join(
    b"2026-11-%02d 12:%02d:07 harbour[%d]: lamp %s\n" % (d, d * 7 % 60, d * d, b"lit" if d % 3 else b"out") for d in range(1, 30)
)
CONTENTS = {
    "a byte": b"x",
    "a text": TEXT[:1500],
    "the same twice": TEXT[:600] * 2,
    "a log": LOG[:900],
    "one byte again and again": bytes(700),
    "bytes as they come": Random(7).randbytes(500),
    "letters of four kinds": bytes(Random(8).choices(b"ACGT", k=600)),
    "capitals and other letters": "Où est le GARDIEN ? Ärger!\n\nA\r\n".encode() * 12,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTENTS)
def test_equals_the_definition(name: str) -> None:
    """The decoder written from the specification alone, operation by operation, gives back what compiled code wrote."""
    content = CONTENTS[name]
    assert definition.decode_bytes(len(content), 1, coder.encode(content)) == content


@pytest.mark.slow
def test_every_probability_is_that_of_the_definition() -> None:
    content = np.frombuffer(TEXT[:400] * 2 + LOG[:200], np.uint8)
    curve = np.empty(33, np.float32)
    network.curve(curve)
    ours, theirs, before = state.fresh(len(content), curve), definition.Network(len(content)), bytearray()
    for at, byte in enumerate(content.tolist()):
        contexts.begin_byte(ours, content, at)
        theirs.begin_byte(before)
        node = 1
        for k in range(8):
            assert network.predict(ours, content, k, node) == theirs.predict(before, k, node)
            assert (ours.sums == np.array(theirs.sums, np.float32)).all()
            bit = byte >> (7 - k) & 1
            network.learn(ours, at, node, bit)
            theirs.learn(at, node, bit)
            node = 2 * node + bit
        before.append(byte)
        contexts.end_byte(ours, at, byte)
        theirs.end_byte(before)


@pytest.mark.slow
def test_another_order_of_a_sum_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = coder.encode(TEXT[:600])
    monkeypatch.setattr(definition, "ordered_sum", lambda products: np.add.accumulate(products)[-1])
    assert definition.decode_bytes(600, 1, stream) != TEXT[:600]


def test_check_values() -> None:
    table = zlib.crc32(numerics.stretched().astype("<f4").tobytes())
    first, curve = numerics.first_histories(), [network.probability(np.float32(t)) for t in (0, 1, -15.99)]
    shown = [f"`0x{np.float32(x).view(np.uint32):08X}`" for x in (*first[[2, 3, 170]], *curve)]
    section = FORMAT.partition("### 14.7")[2].partition("## 15")[0]
    assert f"`{table:08x}`" in section
    assert ", ".join(shown[:3]) in section
    assert ", ".join(shown[3:]) in section
    assert f"`{coder.encode(b'abracadabra, abracadabra').hex()}`" in section
    assert f"`{NewModel().digest.hex()}`" in FORMAT
    assert f"`{NewModel().tokenizer.hex()}`" in FORMAT


def test_the_table_does_not_depend_on_a_library() -> None:
    """No logarithm lies so near the middle between two entries that another library's last digit could matter."""
    for i in range(4096):
        exact = 4096 * math.log2(Fraction(2 * i + 1, 8191 - 2 * i))
        assert abs(exact % 1 - 0.5) > 1e-5


@pytest.mark.parametrize("size", [1, 2, 4095, 4096, 4097, 30000])
def test_sizes(size: int) -> None:
    content = (TEXT * 3)[:size]
    counts: list[tuple[int, int]] = []
    stream = coder.encode(content, lambda n, written: counts.append((n, written)))
    assert coder.decode(stream, size) == content
    assert sum(n for n, _ in counts) == size
    assert counts[-1][1] <= len(stream) + 4
    assert not stream.endswith(b"\0")


def test_little_is_needed_where_all_is_known() -> None:
    assert len(coder.encode(bytes(100_000))) < 60
    assert len(coder.encode(Random(1).randbytes(20_000))) < 20_600
    assert len(coder.encode(TEXT)) < 0.85 * len(cutting.xz_block(TEXT).stream)


def test_archives() -> None:
    archive = llmzip.compress(TEXT, model=NEW)
    assert llmzip.decompress(archive) == TEXT
    summary = summarise(io.BytesIO(archive))
    assert [model.model_id for model in summary.models] == [NEW_ID]
    assert len(archive) < len(cutting.xz_block(TEXT).stream)
    assert llmzip.compress(TEXT, model=NEW, level=9) == archive
    assert llmzip.compress(TEXT, model=NEW_ID) == archive
    assert llmzip.compress(TEXT, model=NEW, threads=1) == archive


def test_what_it_cannot_make_smaller_is_stored() -> None:
    noise = Random(2).randbytes(20_000)
    assert len(llmzip.compress(noise, model=NEW)) < len(noise) + 60
    assert llmzip.decompress(llmzip.compress(b"", model=NEW)) == b""


def test_blocks_are_large_and_independent() -> None:
    assert Options(model=NEW).level_settings().block_bytes == MAX_BLOCK
    codec = Codec(Options(model=NEW, block_bytes=5000))
    archive = codec.compress(TEXT)
    assert codec.decompress(archive) == TEXT
    assert len(archive) > len(llmzip.compress(TEXT, model=NEW))
    with llmzip.open(io.BytesIO(archive)) as file:
        file.seek(12_000)
        assert file.read(100) == TEXT[12_000:12_100]


def test_text_in_another_encoding() -> None:
    content = TEXT.decode().encode("utf-16-le")
    archive = llmzip.compress(content, model=NEW)
    assert llmzip.decompress(archive) == content
    assert len(archive) < len(llmzip.compress(TEXT, model=NEW)) + 80  # a form block is no sole block


def test_damage_is_noticed() -> None:
    archive = bytearray(llmzip.compress(TEXT, model=NEW))
    archive[len(archive) // 2] ^= 4
    with pytest.raises(llmzip.DamagedArchiveError):
        llmzip.decompress(bytes(archive))
    model = NewModel()
    block = CodedBlock(10, 10, 1, 0, b"anything")
    with pytest.raises(llmzip.NotReproducedError):
        Codec().blocks.decode(block, model.record())


def test_what_it_is_not_for() -> None:
    with pytest.raises(ParameterError, match="lanes"):
        llmzip.compress(TEXT, model=NEW, lanes=2)
    with pytest.raises(ParameterError, match="no pretrained model"):
        MessageCodec(Options(model=NEW)).encode([b"hello"])
    with pytest.raises(ParameterError, match="pretrained"):
        Codec(Options(model=NEW, explain=True)).compress(TEXT)


def test_other_archives_are_read_whatever_the_lanes() -> None:
    """Options of an encoder do not keep its codec from reading what the network wrote."""
    archive = llmzip.compress(TEXT[:3000], model=NEW)
    assert Codec(Options(lanes=3)).decompress(archive) == TEXT[:3000]
    assert Codec(Options(level=9)).decompress(archive) == TEXT[:3000]


def test_no_byte_takes_more_room_than_there_is() -> None:
    """Not even bits that were thought all but impossible: a bit moves at most the whole interval out."""
    content = bytes(5000) + Random(3).randbytes(5000) + b"\xff" * 5000 + Random(4).randbytes(200)
    stream = coder.encode(content)
    assert coder.decode(stream, len(content)) == content
    for low in (0, 1, 0x00FFFFFF, 0x7FFFFFFF, 0xFFFFFFFE):
        shifts, high = 0, low + 1
        while not (low ^ high) >> 24:
            low, high, shifts = low << 8 & 0xFFFFFFFF, high << 8 & 0xFFFFFFFF | 255, shifts + 1
        assert shifts <= 4


def test_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmzip.system.memory.available", lambda: 10_000_000)
    with pytest.raises(NotEnoughMemoryError, match="MB are free"):
        coder.encode(b"some")


def test_nothing_is_fetched(tmp_path: Path) -> None:
    """Neither a model nor torch, in a process that has no cache and may not use the network."""
    program = (
        "import sys, json, llmzip; content = open(sys.argv[1], 'rb').read(); archive = llmzip.compress(content, model='new'); "
        "print(json.dumps([llmzip.decompress(archive) == content, sorted({'torch', 'tokenizers'} & set(sys.modules))]))"
    )
    environment = os.environ | {"LLMZIP_OFFLINE": "1", "HOME": str(tmp_path), "LLMZIP_MODEL": ""}
    command = [sys.executable, "-c", program, str(ROOT / "examples" / "harbour.txt")]
    answer = json.loads(subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    assert answer == [True, []]


def test_at_the_prompt(tmp_path: Path) -> None:
    file, runner = tmp_path / "text.txt", CliRunner()
    file.write_bytes(TEXT)
    packed = str(file) + ".llz"
    for command in (
        ["compress", "--model", NEW, str(file)],
        ["test", packed],
        ["info", packed],
        ["measure", "--model", NEW, str(file)],
        ["decompress", "-f", packed],
    ):
        result = runner.invoke(main, command)
        assert result.exit_code == 0, result.output
        if command[0] in ("info", "measure"):
            assert NEW_ID in result.output
    assert file.read_bytes() == TEXT
    assert runner.invoke(main, ["compress", "-f", "--model", NEW, "--lanes", "2", str(file)]).exit_code == 2
    for words in (["add", NEW, str(file)], ["pull", NEW], ["info", NEW]):
        refused = runner.invoke(main, ["models", *words])
        assert refused.exit_code != 0
        assert "new" in refused.output
        assert "Traceback" not in refused.output
    measured = runner.invoke(main, ["bench", "--model", NEW, str(file)])
    assert measured.exit_code == 0
    assert NEW_ID in measured.output
