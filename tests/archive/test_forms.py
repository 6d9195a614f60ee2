"""Content that is text in another form: what is recognised, that it comes back, and side information made to do harm."""

from __future__ import annotations

import io
import tarfile
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmzip
from llmzip.archive import forms, wire
from llmzip.archive import records as rec
from llmzip.archive.forms import RUN, UTF_16BE, UTF_16LE, UTF_32BE, UTF_32LE, WINDOWS, Item, read_side, restore
from llmzip.archive.summary import summarise
from llmzip.codec.codec import Codec
from llmzip.codec.transcription import transcribe
from llmzip.errors import DamagedArchiveError, NotReproducedError, UnsupportedArchiveError
from llmzip.models.convert import IntegerModel
from tests.codec.test_codec import records
from tests.support.codecs import TEXT, eager_codec, fixed_codec
from tests.support.profiles import examples

ENGLISH = TEXT[:1200].decode()
RUSSIAN = "Маяк не горел уже три дня, и никто в деревне не знал почему.\nСтарый смотритель молчал.\n" * 4
CHINESE = "灯塔已经三天没有亮了，村里没有人知道为什么。\n老看守人沉默不语。\n" * 6
EMOJI = "all well 🙂 here, and there 🏠 too\n" * 5
FRENCH = "Où est passé le gardien ? « Il a été relevé », répondit Hélène à l'hôte.\n" * 3
TEXTS = {"English": ENGLISH, "Russian": RUSSIAN, "Chinese": CHINESE, "emoji": EMOJI, "French": FRENCH}
WIDE = {"utf-16-le": UTF_16LE, "utf-16-be": UTF_16BE, "utf-32-le": UTF_32LE, "utf-32-be": UTF_32BE}


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def kinds(content: bytes) -> set[int]:
    found = transcribe(content)
    return {item.kind for item in found.items} if found else set()


@pytest.mark.parametrize("codec_name", WIDE)
@pytest.mark.parametrize("language", TEXTS)
def test_fixed_width_is_its_utf_8(language: str, codec_name: str) -> None:
    text = TEXTS[language]
    for mark in ("", "\ufeff"):
        found = transcribe((mark + text).encode(codec_name))
        assert found
        assert found.text == (mark + text).encode()
        assert [(item.plain, item.kind) for item in found.items] == [(0, WIDE[codec_name])]


@pytest.mark.parametrize("codec_name", WIDE)
@pytest.mark.parametrize("language", TEXTS)
def test_cut_anywhere(language: str, codec_name: str) -> None:
    """Blocks end behind a byte 0x0A, or where they are full: within a character, or between the halves of a pair."""
    content = TEXTS[language].encode(codec_name)
    for first in range(9):
        for last in range(9):
            part = content[first : len(content) - last]
            found = transcribe(part)
            assert found
            assert restore(found.items, found.text, len(part)) == part
            assert len(found.items) == 1
            assert found.items[0].plain < 4
            assert len(found.text) < len(TEXTS[language].encode()) + 8


def test_faults_stay_as_they_are() -> None:
    wide = ENGLISH.encode("utf-16-le")
    content = wide[:200] + b"\x00\xd8" + wide[200:400] + b"\x05\xdc\x06\xdc" + wide[400:] + b"\x00\xd8"
    found = transcribe(content)
    assert found
    assert len(found.items) == 3
    assert restore(found.items, found.text, len(content)) == content


@pytest.mark.parametrize("text", [ENGLISH, RUSSIAN, CHINESE, EMOJI, "=" * 5000 + "\n", "\x07\x1b[0m" + ENGLISH, "a\n", ""])
def test_plain_text_has_no_form(text: str) -> None:
    assert transcribe(text.encode()) is None


def test_windows_1252() -> None:
    for encoding in ("latin-1", "windows-1252"):
        found = transcribe(FRENCH.encode(encoding))
        assert found
        assert found.text == FRENCH.encode()
        assert [item.kind for item in found.items] == [WINDOWS]
    quoted = "“C’est l’été”, a-t-il répété… – 20 €\n" * 3
    assert transcribe(quoted.encode("windows-1252")).text == quoted.encode()  # type: ignore[union-attr]
    for other in (
        RUSSIAN.encode("koi8-r"),
        FRENCH.encode() + b"\xff" * 7,
        b"\x00\x01" + FRENCH.encode("latin-1"),
        Random(1).randbytes(4000),
    ):
        assert WINDOWS not in kinds(other)


def test_table_of_windows_1252() -> None:
    """What Python defines, and the bytes that it leaves out as the control characters of that number."""
    for b in range(256):
        character = bytes([b]).decode("windows-1252", "replace").replace("\ufffd", chr(b))
        assert restore([Item(0, WINDOWS, len(character.encode()))], character.encode(), 1) == bytes([b])


def test_runs() -> None:
    content = b"head" + bytes(8) + b"middle" + b"\xff" * 30 + b"=" * 300 + b"end" + bytes(7)
    found = transcribe(content)
    assert found
    assert found.text == b"headmiddle" + b"=" * 300 + b"end" + bytes(7)  # what is printed stays
    assert [(item.plain, item.length, item.byte) for item in found.items] == [(4, 8, 0), (6, 30, 255)]
    assert transcribe(bytes(5000)) is None  # no text at all


def test_tars_of_notes_of_any_encoding() -> None:
    notes = {
        "plain": ENGLISH.encode(),
        "wide": RUSSIAN.encode("utf-16"),
        "old": FRENCH.encode("latin-1"),
        "four": ENGLISH.encode("utf-32-be"),
    }
    content = tar(notes)
    found = transcribe(content)
    assert found
    assert kinds(content) >= {RUN, UTF_16LE, WINDOWS}
    assert b"\0\0" not in found.text
    for text in (ENGLISH, RUSSIAN, FRENCH):
        assert text.encode()[10:-10] in found.text
    many = transcribe(tar({f"note-{n}": TEXT[200 * n :][: 150 + n] for n in range(50)}))
    assert many
    side, packed = many.side()
    assert packed
    assert len(side) < 400
    assert [item.written() for item in read_side(side, packed, 1 << 24, 1 << 24)] == [item.written() for item in many.items]


_bytes = st.one_of(
    st.binary(max_size=40),
    st.integers(1, 600).map(bytes),
    st.tuples(st.integers(0, 255), st.integers(1, 400)).map(lambda x: bytes([x[0]]) * x[1]),
    st.tuples(st.text(max_size=40), st.sampled_from(sorted(WIDE))).map(lambda x: (x[0] + ENGLISH[:60]).encode(x[1], "surrogatepass")),
    st.sampled_from([FRENCH.encode("latin-1"), RUSSIAN.encode("utf-16-be"), CHINESE.encode("utf-16-le"), TEXT[:300]]),
)


@given(content=st.lists(_bytes, max_size=6).map(b"".join), cut=st.integers(0, 5))
@settings(max_examples=examples(300), deadline=None)
def test_anything_comes_back(content: bytes, cut: int) -> None:
    content = content[cut:]
    found = transcribe(content)
    if found:
        side, packed = found.side()
        assert restore(read_side(side, packed, len(content), len(found.text)), found.text, len(content)) == content


@given(
    side=st.binary(max_size=60) | st.lists(st.sampled_from([0, 1, 2, 5, 9, 0x80, 0xFF])).map(bytes),
    packed=st.booleans(), size=st.integers(1, 3000), text=st.binary(min_size=1, max_size=300) | st.just(FRENCH.encode()),
)  # fmt: skip
@settings(max_examples=examples(500), deadline=None)
def test_any_side_information_is_refused_or_exact(side: bytes, packed: bool, size: int, text: bytes) -> None:
    try:
        content = restore(read_side(side, packed, size, len(text)), text, size)
    except (DamagedArchiveError, NotReproducedError):
        return
    assert len(content) == size


@pytest.mark.parametrize(
    ("items", "text", "size"),
    [
        ([Item(0, UTF_16LE, 3)], "é€".encode(), 9),  # within a character
        ([Item(0, UTF_16LE, 3)], b"\xed\xa0\x80", 2),  # a surrogate
        ([Item(0, WINDOWS, 3)], "中".encode(), 1),
        ([Item(0, WINDOWS, 2)], "\x80".encode(), 1),  # € has its place
        ([Item(0, UTF_32LE, 5)], b"abcde", 19),
        ([Item(0, UTF_16BE, 4)], "🙂".encode(), 3),  # of two units
        ([Item(0, RUN, 5)], b"abc", 9),
        ([], b"abc", 2),
    ],
)
def test_not_reproduced(items: list[Item], text: bytes, size: int) -> None:
    with pytest.raises(NotReproducedError):
        restore(items, text, size)


def test_no_memory_is_taken_for_more_than_is_stated() -> None:
    """A run of 16 MiB again and again, and a mebibyte of text that would be four."""
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(DamagedArchiveError):
        read_side(Item(0, RUN, 1 << 24).written() * 100, False, 1 << 24, 1)
    with pytest.raises(NotReproducedError):
        restore([Item(0, RUN, 1 << 30)], b"x", 1000)
    with pytest.raises(NotReproducedError):
        restore([Item(0, UTF_32LE, 1 << 20)], b"x" * (1 << 20), 1000)
    assert tracemalloc.get_traced_memory()[1] < 6 << 20
    tracemalloc.stop()


@pytest.fixture(scope="module")
def eager(tiny_model: IntegerModel) -> Codec:
    return eager_codec(tiny_model, block_bytes=900, lanes=2)


FORMED = {
    "UTF-16": ENGLISH.encode("utf-16"), "UTF-32": CHINESE.encode("utf-32-be"), "Latin-1": FRENCH.encode("latin-1") * 3,
    "tar": tar({"a.txt": TEXT[:300], "b.txt": TEXT[300:900]}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMED)
@pytest.mark.slow
def test_archives(eager: Codec, name: str) -> None:
    content = FORMED[name]
    archive = eager.compress(content)
    assert eager.decompress(archive) == content
    blocks = [r for r in records(archive) if isinstance(r, rec.FormBlock)]
    assert blocks
    assert all(block.symbols <= block.text for block in blocks)
    pieces = llmzip.Decompressor(codec=eager)
    assert b"".join(pieces.decompress(archive[i : i + 7]) for i in range(0, len(archive), 7)) == content
    with llmzip.LLZFile(io.BytesIO(archive), codec=eager) as f:
        f.seek(1000)
        assert f.read(500) == content[1000:1500]
    found = summarise(io.BytesIO(archive))
    assert set(found.forms) & {name, "UTF-16LE", "UTF-32BE", "windows-1252", "runs"}
    assert found.content == len(content)


@pytest.mark.slow
def test_salvage(eager: Codec) -> None:
    content = FORMED["UTF-16"] + bytes(500) + FORMED["Latin-1"]
    archive = eager.compress(content)
    starts, at = [], len(rec.frame_start())
    for record in records(archive):
        length = len(rec.encode_record(record))
        if isinstance(record, rec.FormBlock):
            starts.append((at, at + length))
        at += length
    assert len(starts) > 2
    for start, stop in starts:
        flipped = bytearray(archive)
        flipped[(start + stop) // 2] ^= 4
        whole = llmzip.salvage(bytes(flipped), codec=eager)
        assert whole.content == content
        assert "flipped" in "".join(piece.mended for piece in whole.pieces)
        headless = llmzip.salvage(archive[:start] + bytes(3) + archive[start + 3 :], codec=eager)
        assert headless.content == content
        lost = llmzip.salvage(archive[: start + 12] + bytes(20) + archive[start + 32 :], codec=eager)
        (gap,) = lost.gaps
        assert gap.exact
        assert gap.start is not None
        assert gap.size is not None
        assert lost.content == content[: gap.start] + content[gap.start + gap.size :]


def test_an_unknown_form_is_unsupported(codec: Codec) -> None:
    body = wire.varint(9) + b"\2 from the future"
    framed = b"F" + wire.varint(len(body)) + body
    archive = rec.frame_start() + framed + rec.content_check(framed).to_bytes(4, "little")
    with pytest.raises(UnsupportedArchiveError):
        codec.decompress(archive)


def test_limit_of_output(tiny_model: IntegerModel, eager: Codec) -> None:
    archive = eager.compress(FORMED["tar"])
    small = fixed_codec(tiny_model, max_output=1000)
    with pytest.raises(llmzip.errors.OutputLimitError):
        small.decompress(archive)


def test_names_fit_kinds() -> None:
    assert len(forms.NAMES) == len(forms.KINDS)
