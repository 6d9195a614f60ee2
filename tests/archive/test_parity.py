"""Parity: layouts, the code, repair of all kinds of damage, and the commands."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reedsolo import RSCodec

import llmzip
from llmzip.archive.parity import erasure
from llmzip.archive.parity import frame as parity_frame
from llmzip.archive.parity import layout as parity_layout
from llmzip.archive.parity.layout import Layout
from llmzip.archive.parity.repair import repair, repair_archive, repair_frames
from llmzip.archive.records import ParityRecord, StoredBlock, WholeCheck, encode_record, frame_start
from llmzip.codec.codec import Codec
from llmzip.errors import DamagedArchiveError, LLZError, NotAnArchiveError, ParameterError
from llmzip.fileobj.incremental import Compressor, Decompressor
from llmzip.fileobj.llzfile import LLZFile
from llmzip.models.convert import IntegerModel
from llmzip.options import Options
from llmzip.parameters import PERCENTAGES
from tests.cli.test_cli import Run, fails, run, work  # noqa: F401  fixtures
from tests.support.archives import frames_of, records_of
from tests.support.codecs import ROOT, TEXT, fixed_codec
from tests.support.profiles import examples

FORMAT = (ROOT / "docs" / "format.md").read_text("utf-8")


def protected(size: int, percent: int = 10, seed: int = 1) -> tuple[bytes, Layout]:
    """Any bytes and their parity frame."""
    data = random.Random(seed).randbytes(size)
    layout = parity_layout.choose(size, percent)
    return data + parity_frame.frame(data, layout), layout


def inverted(data: bytes, begin: int, end: int) -> bytes:
    """Every byte of a piece is another one."""
    return data[:begin] + bytes(b ^ 0xFF for b in data[begin:end]) + data[end:]


def restored(data: bytes) -> bytes | None:
    repaired = repair_frames(data)
    return None if repaired is None else repaired.archive


def stored(content: bytes, percent: int | None = None) -> bytes:
    """An archive with one stored block."""
    whole = WholeCheck()
    whole.update(content)
    archive = frame_start() + encode_record(StoredBlock(content)) + encode_record(whole.record())
    return archive + (parity_frame.frame(archive, parity_layout.choose(len(archive), percent)) if percent else b"")


# The code and the layout.


def test_literal_code() -> None:
    """The check values of docs/format.md."""
    assert b"".join(erasure.parity([b"\1", b"\2", b"\3", b"\4"], 3)).hex(" ") == "79 87 fa"
    assert "The data 1, 2, 3, 4 have for m = 3 the parity `79 87 fa`" in FORMAT


def test_literal_frame() -> None:
    data, layout = b"hello, parity", Layout(13, 16, 1, 2)
    head = b"\xf5RSP\x0d\x10\x01\x02"
    check = bytes.fromhex("9467a7de")
    bodies = [head + b"\0\0\0\0" + check, head + b"\1\0\0\0", head + b"\2\0\0\0", head + b"\3\0\0\0" + check]
    shards = erasure.parity([data + bytes(3)], 2)
    bodies[1] += shards[0]
    bodies[2] += shards[1]
    assert parity_frame.frame(data, layout) == frame_start() + b"".join(encode_record(ParityRecord(b)) for b in bodies) + encode_record(
        WholeCheck().record()
    )
    assert parity_layout.MARKER.hex(" ") in FORMAT


@pytest.mark.parametrize(("data", "count"), [(1, 2), (3, 1), (79, 11), (200, 23), (110, 140)])
def test_columns_are_codewords(data: int, count: int) -> None:
    shards = [random.Random(i).randbytes(3) for i in range(data)]
    shards += erasure.parity(shards, count)
    assert all(RSCodec(count).check(bytes(column))[0] for column in zip(*shards, strict=True))


@given(st.integers(1, 30), st.integers(1, 12), st.data())
def test_any_erasures(size: int, count: int, data: st.DataObject) -> None:
    shards = [random.Random(i).randbytes(4) for i in range(size)]
    all_shards: list[bytes | None] = [*shards, *erasure.parity(shards, count)]
    for i in data.draw(st.sets(st.integers(0, size + count - 1), max_size=count)):
        all_shards[i] = None
    assert erasure.compute_missing(all_shards[:size], all_shards[size:]) == shards


@given(st.one_of(st.integers(1, 5000), st.integers(1, 1 << 32)), st.sampled_from(PERCENTAGES))
def test_layouts_keep_the_promise(size: int, percent: int) -> None:
    layout = parity_layout.choose(size, percent)
    assert layout.percent >= percent
    assert layout.group + layout.parity <= 255
    found = parity_frame.read(layout.body(1, bytes(layout.shard)))
    assert found == (layout, 1, bytes(layout.shard))


@pytest.mark.parametrize(
    ("size", "percent", "allowed"), [(1000, 10, 0.55), (20_000, 10, 0.20), (130_000, 10, 0.15), (2_000_000, 10, 0.135)]
)
def test_cost(size: int, percent: int, allowed: float) -> None:
    layout = parity_layout.choose(size, percent)
    assert layout.frame_size < allowed * size


def test_frame_size() -> None:
    for size in (1, 20, 511, 512, 513, 4000, 250_001):
        archive, layout = protected(size)
        assert len(archive) == size + layout.frame_size
        assert restored(archive) == archive


def test_refused_layouts() -> None:
    for percent in (0, -1, 51):
        with pytest.raises(ParameterError):
            Options(parity=percent)
        with pytest.raises(ParameterError):
            parity_layout.choose(1000, percent)
    good = Layout(950, 64, 2, 4)
    body = good.body(1, bytes(64))
    assert parity_frame.read(body) == (good, 1, bytes(64))
    for bad in (
        body[:-1], body + b"\0", b"\xf4" + body[1:], body[:6],
        Layout(0, 64, 1, 4).body(1, bytes(64)), Layout(1000, 15, 1, 4).body(1, bytes(15)), Layout(1000, 64, 17, 4).body(1, bytes(64)),
        Layout(1000, 64, 0, 4).body(1, bytes(64)), Layout(1000, 64, 2, 0).body(1, bytes(64)), Layout(1000, 64, 1, 250).body(1, bytes(64)),
        Layout(1 << 36, 16, 1 << 20, 4).body(1, bytes(16)), Layout((1 << 36) + 1, 1 << 16, 1 << 20, 4).body(1, bytes(1 << 16)),
        good.body(10, bytes(60)), good.body(9, bytes(64)),
    ):  # fmt: skip
        assert parity_frame.read(bad) is None


# Repair.


@pytest.mark.parametrize(("size", "percent"), [(20, 10), (700, 10), (2049, 5)])
def test_a_piece_lost_anywhere(size: int, percent: int) -> None:
    """Every place of the largest piece that may be lost: other bytes in it, or none."""
    archive, layout = protected(size, percent)
    assert layout.burst >= percent * len(archive) / 100
    for begin in range(0, len(archive) - layout.burst + 1, 1 + size // 200):
        end = begin + layout.burst
        assert restored(inverted(archive, begin, end)) == archive, begin
        if begin % 5 == 0:
            assert restored(archive[:begin] + archive[end:]) == archive, begin


def test_pieces_of_a_large_one() -> None:
    """Several groups of different sizes."""
    archive, layout = protected(261_001)
    assert layout.groups > 1
    assert layout.shards % layout.groups
    rng = random.Random(3)
    ends = [0, len(archive) - layout.burst, 261_001 - layout.burst // 2]
    for begin in [*ends, *(rng.randrange(len(archive) - layout.burst) for _ in range(5))]:
        assert restored(inverted(archive, begin, begin + layout.burst)) == archive


@settings(deadline=None, max_examples=examples(30))
@given(st.integers(1, 6000), st.integers(1, 30), st.data())
def test_scattered_damage_up_to_capacity(size: int, percent: int, data: st.DataObject) -> None:
    """In every group as many shards, of data or parity, as it has parity; and one of the lists of checks."""
    archive, layout = protected(size, percent)
    rng = random.Random(data.draw(st.integers(0, 1 << 30)))
    hits = [size + layout.payload_offset(rng.choice([0, layout.records - 1])) + rng.randrange(4 * layout.shards)]
    for group in range(layout.groups):
        for j in rng.sample(range(group, layout.shards + layout.groups * layout.parity, layout.groups), layout.parity):
            if j < layout.shards:
                hits.append(j * layout.shard + rng.randrange(min(layout.shard, size - j * layout.shard)))
            else:
                hits.append(size + layout.offset(j - layout.shards + 1) + rng.randrange(layout.record_size(1)))
    damaged = bytearray(archive)
    for at in hits:
        damaged[at] ^= rng.randrange(1, 256)
    mended = repair_frames(bytes(damaged))
    assert mended
    assert mended.archive == archive
    assert mended.damaged == layout.groups * layout.parity + 1


def test_both_lists_of_checks_damaged() -> None:
    """Their entries still serve where they are whole."""
    archive, layout = protected(5000)
    damaged = inverted(archive, 200, 203)
    for number, entry in ((0, 5), (layout.records - 1, 7)):
        at = 5000 + layout.payload_offset(number) + 4 * entry
        damaged = inverted(damaged, at, at + 4)
    assert restored(damaged) == archive
    for number in (0, layout.records - 1):  # and where an entry is whole in neither, the shard counts as lost
        at = 5000 + layout.payload_offset(number) + 4 * 20
        damaged = inverted(damaged, at, at + 8)
    assert restored(damaged) == archive


@pytest.mark.parametrize("size", [300, 20_000])
def test_cut_off(size: int) -> None:
    """At the end, the beginning and both: nothing of where things were is left but in the records."""
    archive, layout = protected(size)
    for lost in range(1, layout.burst + 1, layout.burst // 7):
        assert restored(archive[:-lost]) == archive
        assert restored(archive[lost:]) == archive
        assert restored(archive[lost // 2 : -(lost - lost // 2)]) == archive


def test_added_bytes() -> None:
    archive, _ = protected(3000)
    for at in range(0, len(archive) + 1, 97):
        for more in (b"\r", b"nineteen characters"):
            assert restored(archive[:at] + more + archive[at:]) == archive, at


def test_beyond_repair() -> None:
    archive, layout = protected(20_000)
    begin = 1000 - 1000 % layout.shard
    with pytest.raises(DamagedArchiveError, match=rf"beyond repair: {layout.parity + 1} of \d+ parts are damaged, and {layout.parity} of"):
        repair_frames(inverted(archive, begin, begin + (layout.parity + 1) * layout.shard))
    with pytest.raises(DamagedArchiveError, match="beyond repair: of 23,754 bytes only"):
        repair_frames(archive[-layout.record_size(0) - 30 :])
    assert repair_frames(archive[: 20_000 + 30]) is None
    assert repair_frames(b"") is None
    large, layout = protected(261_001)
    with pytest.raises(DamagedArchiveError, match="of them in one group"):
        repair_frames(inverted(large, 1000, 1000 + layout.groups * (layout.parity + 1) * layout.shard))


@settings(deadline=None, max_examples=examples(60))
@given(st.integers(1, 3000), st.integers(1, 20), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 300), st.booleans()), max_size=6))
def test_right_or_refused(size: int, percent: int, damage: list[tuple[float, int, bool]]) -> None:
    """Whatever happens to it, an archive comes back as it was or not at all, unless all of its parity is gone."""
    archive, _ = protected(size, percent)
    damaged = archive
    for share, length, drop in damage:
        at = int(share * len(damaged))
        damaged = damaged[:at] + damaged[at + length :] if drop else inverted(damaged, at, at + length)
    with contextlib.suppress(DamagedArchiveError):
        assert restored(damaged) in (archive, None)


def test_several_archives_in_one() -> None:
    one, two, plain = stored(b"one" * 300, 10), stored(b"two" * 500, 20), stored(b"plain" * 30)
    bare = stored(b"one" * 300)  # the same content as one's
    for parts in ([one, two], [two, one, one], [plain, one], [one, plain, two], [bare, one], [one, plain]):
        archive = b"".join(parts)
        damaged, at = archive, 0
        for part in parts:
            if part not in (plain, bare):
                damaged = inverted(damaged, at + 10, at + 60)
            at += len(part)
        mended = repair_archive(damaged)
        assert mended
        assert mended.archive == archive
        assert Codec().decompress(archive) == b"".join(Codec().decompress(p) for p in parts)
    with pytest.raises(DamagedArchiveError, match="damaged elsewhere"):
        repair(inverted(plain, 40, 50) + one)


def test_an_archive_in_another() -> None:
    """Only the outer one counts: it restores what the inner one could not."""
    inner = stored(random.Random(1).randbytes(900), 5)
    outer = stored(inner + b"more", 30)
    at = outer.index(inner)
    assert repair(inverted(outer, at + 50, at + 350)) == outer
    assert repair(inverted(outer, 0, 350)) == outer


def test_lost_parity_is_not_lost_content() -> None:
    archive = stored(b"content" * 100)
    whole = archive + parity_frame.frame(archive, parity_layout.choose(len(archive), 10))
    mended = repair_archive(whole[: len(archive) + 40])
    assert mended
    assert mended.lost
    assert mended.archive == archive
    assert repair_archive(archive) is None
    assert repair(archive) == archive
    assert repair(whole) == whole
    with pytest.raises(DamagedArchiveError, match="no parity"):
        repair(inverted(archive, 50, 51))
    with pytest.raises(NotAnArchiveError):
        repair(b"text")
    with pytest.raises(LLZError):  # what follows may be an archive's: nothing is cut off
        repair(whole[: len(archive) + 40] + archive)


@pytest.mark.parametrize(
    "hostile",
    [
        (b"P\xff\xff\xff\x07" + parity_layout.MARKER) * 60_000,  # records that claim 16 MB each
        b"".join(encode_record(ParityRecord(Layout(1 << 36, 1 << 16, 1 << 20, 254).body(i, bytes(1 << 16)))) for i in (1, 2)),
        b"".join(encode_record(ParityRecord(Layout(1 << 20, 16, 1 << 16, 254).body(1 + i, bytes(16)))) for i in range(2000)),
        b"".join(encode_record(ParityRecord(Layout(1 + i, 16, 1, 254).body(1, bytes(16)))) for i in range(16)) * 500,
    ],
    ids=["claims", "terabyte", "groups", "many"],
)
def test_hostile_records(hostile: bytes) -> None:
    tracemalloc.start()
    began = time.monotonic()
    with contextlib.suppress(DamagedArchiveError):
        repair_frames(hostile)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * len(hostile) + (1 << 20)
    assert time.monotonic() - began < 20  # two at most where nothing else runs


def test_costly_records() -> None:
    """Frames that are in order, but dear: all of the data is computed, and every frame has a matrix of its own."""
    rng, parts = random.Random(2), []
    for i in range(12):
        layout = Layout(16 * (120 - i), 16, 1, 120 + i)
        parts.append(parity_frame.frame(rng.randbytes(layout.size), layout))
    began = time.monotonic()
    mended = repair_frames(b"".join(parts))
    assert mended
    assert all(part in mended.archive for part in parts)
    assert time.monotonic() - began < 20  # one where nothing else runs


@settings(deadline=None, max_examples=examples(100))
@given(
    st.integers(1, 400), st.integers(16, 64), st.integers(1, 3), st.integers(1, 5), st.integers(0, 400),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 40), st.integers(0, 255)), max_size=3),
)  # fmt: skip
def test_wrong_fields_with_right_checks(
    size: int, shard: int, groups: int, count: int, lost: int, changes: list[tuple[int, int, int]]
) -> None:
    """What records say may be anything: the outcome is a repair or an error of the right kind."""
    layout = Layout(size, shard, min(groups, -(-size // shard)), count)
    data = random.Random(size).randbytes(size)
    records = records_of(parity_frame.frame(data, layout))
    for number, at, byte in changes:
        record = records[number % (len(records) - 1)]
        assert isinstance(record, ParityRecord)
        body = bytearray(record.content)
        body[at % len(body)] = byte
        records[number % (len(records) - 1)] = ParityRecord(bytes(body))
    changed = frame_start() + b"".join(map(encode_record, records))
    with contextlib.suppress(DamagedArchiveError):
        mended = repair_frames(inverted(data, 0, lost % (size + 1)) + changed)
        assert mended is None or changes or mended.archive == data + changed


def test_nested_records_take_no_square_of_time() -> None:
    body = parity_layout.MARKER
    for _ in range(3000):
        body = parity_layout.MARKER + encode_record(ParityRecord(body))
    began = time.monotonic()
    assert repair_frames(encode_record(ParityRecord(body))) is None
    assert time.monotonic() - began < 20


# Archives of a model, and the ways to make and read them.


@pytest.fixture
def keeping(tiny_model: IntegerModel) -> Codec:
    return fixed_codec(tiny_model, parity=15, block_bytes=500)


def test_coded_archive(keeping: Codec, codec: Codec) -> None:
    archive = keeping.compress(TEXT[:1200])
    assert codec.decompress(archive) == TEXT[:1200]
    size = -(-15 * len(archive) // 100)
    rng = random.Random(5)
    for _ in range(20):
        at = rng.randrange(len(archive) - size)
        assert repair(inverted(archive, at, at + size)) == llmzip.repair(archive) == archive


def test_every_way_to_write_and_read(keeping: Codec, codec: Codec, tmp_path: Path) -> None:
    archive = keeping.compress(TEXT[:1200])
    sink = io.BytesIO()
    written: list[int] = []
    keeping.compress_stream(io.BytesIO(TEXT[:1200]), sink, lambda done, out: written.append(out))
    assert sink.getvalue() == archive
    compressor = Compressor(codec=keeping)
    assert b"".join(compressor.compress(TEXT[i : i + 100]) for i in range(0, 1200, 100)) + compressor.flush() == archive
    with LLZFile(tmp_path / "a", "w", codec=keeping) as f:
        f.write(TEXT[:1200])
    with LLZFile(tmp_path / "a", "a", codec=keeping) as f:
        f.write(b"more")
    appended = (tmp_path / "a").read_bytes()
    assert appended.startswith(archive)
    assert repair(inverted(appended, 0, 30)[:-30]) == appended
    with LLZFile(tmp_path / "a", codec=codec) as f:
        assert f.read() == TEXT[:1200] + b"more"
        f.seek(1150)
        assert f.read() == TEXT[1150:1200] + b"more"
    content, rest = b"", appended
    while rest:
        d = Decompressor(codec=codec)
        content += d.decompress(rest)
        assert d.eof
        rest = d.unused_data
    assert content == TEXT[:1200] + b"more"


def test_empty(codec: Codec) -> None:
    archive = Codec(Options(parity=1)).compress(b"")
    assert codec.decompress(archive) == b""
    assert repair(archive[30:]) == archive


def test_records_elsewhere_are_passed_over(codec: Codec) -> None:
    archive = stored(b"abc")
    whatever = encode_record(ParityRecord(b"whatever"))
    assert codec.decompress(archive[:5] + whatever + archive[5:]) == b"abc"
    with pytest.raises(DamagedArchiveError):
        codec.decompress(archive[:5] + inverted(whatever, 4, 5) + archive[5:])
    assert len(frames_of(stored(b"abc", 10))) == 2


# The commands.


CONTENT = random.Random(9).randbytes(3000)  # stored, so that no model is loaded


@pytest.mark.slow
def test_commands(run: Run, work: Path) -> None:  # noqa: F811
    (work / "a").write_bytes(CONTENT)
    made = run("compress", "--parity", "10", "--verify", "a")
    assert (made.returncode, made.stdout, made.stderr) == (0, b"", b"")
    archive = (work / "a.llz").read_bytes()
    assert archive == run("--parity", "10", stdin=CONTENT).stdout == stored(CONTENT, 10)
    assert run("-dc", "a.llz").stdout == run("-d", stdin=archive).stdout == CONTENT
    whole = run("repair", "a.llz")
    assert (whole.returncode, whole.stdout, whole.stderr) == (0, b"", b"llmzip: a.llz: is whole\n")
    (work / "a").unlink()

    damaged = inverted(archive, 1000, 1200)
    (work / "a.llz").write_bytes(damaged)
    os.chmod(work / "a.llz", 0o640)
    said = rb"is damaged; \d+ of its \d+ parts were restored from its parity; run: llmzip repair a.llz\n"
    back = run("decompress", "a.llz")
    assert (back.returncode, back.stdout) == (0, b"")
    assert (work / "a").read_bytes() == CONTENT
    assert re.fullmatch(b"llmzip: a.llz: " + said, back.stderr)
    assert run("-dqc", "a.llz").stderr == b""
    fails(run("test", "a.llz"), 1, "a.llz: is damaged", "restored from its parity", "llmzip repair a.llz")

    done = run("repair", "a.llz")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.endswith(b"restored from its parity; the repaired archive is a.repaired.llz\n")
    assert (work / "a.repaired.llz").read_bytes() == archive
    assert (work / "a.repaired.llz").stat().st_mode & 0o777 == 0o640
    assert (work / "a.llz").read_bytes() == damaged
    fails(run("repair", "a.llz"), 1, "a.repaired.llz exists", "-f")
    assert run("repair", "-f", "a.llz").returncode == 0
    assert run("repair", "-q", stdin=damaged).returncode == 2
    assert run("repair", "-q", "-", stdin=damaged).stdout == run("repair", "-c", "a.llz").stdout == archive
    assert run("repair", "-qf", "-o", "a.llz", "a.llz").stderr == b""
    assert (work / "a.llz").read_bytes() == archive
    assert sorted(p.name for p in work.iterdir()) == ["a", "a.llz", "a.repaired.llz"]


@pytest.mark.slow
def test_commands_refuse(run: Run, work: Path) -> None:  # noqa: F811
    archive = stored(CONTENT, 10)
    (work / "far.llz").write_bytes(inverted(archive, 0, 1500))
    (work / "bare.llz").write_bytes(inverted(stored(CONTENT), 40, 50))
    (work / "text").write_bytes(b"text")
    for command in (["repair"], ["decompress"], ["repair", "-o", "out"]):
        fails(run(*command, "far.llz"), 1, "far.llz: beyond repair", "parts are damaged", "can be restored")
    tested = run("test", "far.llz")
    assert (tested.returncode, tested.stdout) == (1, b"")
    assert re.search(rb"far.llz: damaged: block 1, .*\nllmzip: far.llz: beyond repair: .* can be restored", tested.stderr)
    fails(run("repair", "bare.llz"), 1, "bare.llz", "has no parity", "get another copy")
    fails(run("repair", "text"), 1, "text", "not an llmzip archive")
    fails(run("repair", "absent"), 1, "absent", "cannot be read")
    fails(run("decompress", "bare.llz"), 1, "damaged")
    fails(run("decompress", stdin=inverted(archive, 1000, 1010)), 1, "standard input", "save it to a file", "llmzip repair FILE")
    for args in (["repair", "-o", "x", "far.llz", "bare.llz"], ["--parity", "0"], ["--parity", "51"], ["--parity", "ten"]):
        assert run(*args).returncode == 2
    assert sorted(p.name for p in work.iterdir()) == ["bare.llz", "far.llz", "text"]


def test_commands_and_damaged_parity(run: Run, work: Path) -> None:  # noqa: F811
    """The content is not lost with it; `test` tells."""
    plain, archive = stored(CONTENT), stored(CONTENT, 10)
    (work / "part.llz").write_bytes(inverted(archive, len(plain) + 50, len(plain) + 55))
    (work / "cut.llz").write_bytes(archive[: len(plain) + 40])
    for name, words in {
        "part.llz": ("restored from its parity",),
        "cut.llz": ("its parity is damaged beyond use", "the rest is whole"),
    }.items():
        back = run("decompress", "-c", name)
        assert (back.returncode, back.stdout) == (0, CONTENT)
        assert all(w in back.stderr.decode() for w in words)
        fails(run("test", name), 1, *words)
    assert run("repair", "part.llz", "cut.llz").returncode == 0
    assert (work / "part.repaired.llz").read_bytes() == archive
    assert (work / "cut.repaired.llz").read_bytes() == plain


def test_list_and_info(run: Run, work: Path) -> None:  # noqa: F811
    archive = stored(CONTENT, 10)
    layout = parity_layout.choose(len(stored(CONTENT)), 10)
    (work / "a.llz").write_bytes(archive)
    (work / "b.llz").write_bytes(stored(CONTENT))
    heading, *rows = run("list", "a.llz", "b.llz").stdout.decode().splitlines()
    assert heading.split()[6:] == ["parity", "file"]
    assert [row.split()[6] for row in rows] == [f"{layout.frame_size:,}", "-", f"{layout.frame_size:,}"]
    assert [row.split()[0] for row in rows] == ["1", "1", "2"]
    told = run("info", "a.llz").stdout.decode()
    assert f"{layout.frame_size} bytes" in told
    assert f"{layout.burst} bytes in one piece, {layout.percent}% of {len(archive)}" in told
    assert "parity" not in run("info", "b.llz").stdout.decode()


def read_back(archive: bytes, codec: Codec, tmp_path: Path) -> dict[str, bytes]:
    """The content by every way to decode a source that can be read twice; each must warn."""
    path = tmp_path / "damaged.llz"
    path.write_bytes(archive)

    def opened() -> bytes:
        with llmzip.open(path, codec=codec) as f:
            return f.read()

    def sought() -> bytes:
        source = io.BytesIO(b"before" + archive)
        source.seek(6)
        with LLZFile(source, codec=codec) as f:
            f.seek(-200, io.SEEK_END)
            last = f.read()
            f.seek(0)
            return f.read()[:-200] + last

    def streamed() -> bytes:
        sink = io.BytesIO()
        with path.open("rb") as source:
            codec.decompress_stream(source, sink)
        return sink.getvalue()

    found = {}
    for name, way in {"bytes": lambda: codec.decompress(archive), "open": opened, "seek": sought, "stream": streamed}.items():
        with pytest.warns(UserWarning, match=r"parts were restored from its parity; repair it with llmzip\.repair"):
            found[name] = way()
    return found


@pytest.mark.slow
def test_damage_is_repaired_on_the_way_to_any_decoder(keeping: Codec, codec: Codec, tmp_path: Path) -> None:
    archive = keeping.compress(TEXT[:1200])
    for at in (0, 2, len(archive) // 3, len(archive) // 2):  # in magic, in the model record, in blocks
        damaged = inverted(archive, at, at + 9)
        assert set(read_back(damaged, codec, tmp_path).values()) == {TEXT[:1200]}
    inserted = archive[:200] + b"some bytes" + archive[200:]
    assert set(read_back(inserted, codec, tmp_path).values()) == {TEXT[:1200]}


def test_damage_beyond_repair_is_refused_by_all(keeping: Codec, codec: Codec) -> None:
    archive = inverted(keeping.compress(TEXT[:1200]), 10, 400)
    for way in (codec.decompress, lambda a: LLZFile(io.BytesIO(a), codec=codec).read(), repair):
        with pytest.raises(DamagedArchiveError, match="beyond repair"):
            way(archive)


def test_what_can_be_read_once_is_not_repaired(keeping: Codec, codec: Codec) -> None:
    archive = inverted(keeping.compress(TEXT[:1200]), 300, 310)
    with pytest.raises(DamagedArchiveError, match="damaged"):
        d = Decompressor(codec=codec)
        d.decompress(archive)
