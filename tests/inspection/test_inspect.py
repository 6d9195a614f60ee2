"""What `inspect` says of a text is what its archive spends, and what the coder expected; library and command line."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from llmzip.cli import main
from llmzip.codec.codec import Codec
from llmzip.entropy import frequencies as fq
from llmzip.entropy.likeliest import likeliest
from llmzip.inspection import inspect, other_compressors
from llmzip.inspection.display_text import pieces, printable, surroundings
from llmzip.inspection.result import GUESSES, LIMITS, heat
from llmzip.inspection.terminal import coloured, listed
from llmzip.inspection.trace import Attempt
from llmzip.models.convert import IntegerModel
from llmzip.parameters import LEVELS
from tests.cli.test_cli import Result, Run, fails, run, work  # noqa: F401  fixtures
from tests.entropy.test_frequencies import rows, some_votes
from tests.support.codecs import ROOT, TEXT, fixed_codec
from tests.support.profiles import examples
from tests.support.terminal import at_terminal

NASTY = 'a\tb\r\n\x1b[31m<script>alert("x")</script>\x00 שלום, мир 漢字 👩‍👧\u202e.\n'.encode() + b"\xff\xc3(" + b"x" * 300 + b"\n"


@pytest.mark.parametrize("options", [{"lanes": 1}, {"lanes": 7}, {"level": 1, "lanes": 3}, {"level": 9}, {"level": 2}])
@pytest.mark.slow
def test_costs_are_what_the_archive_spends(tiny_model: IntegerModel, options: dict[str, Any]) -> None:
    """Also where several ways are tried first, as up to 4,096 symbols; observing changes nothing."""
    for content in (TEXT[:9000], TEXT[:500]):
        codec = fixed_codec(tiny_model, **options)
        found = inspect(codec, content)
        assert codec.ledger is None
        assert b"".join(found.token(i).data for i in range(len(found))) == content
        assert np.array_equal(found.symbols, codec.blocks.models.own().alphabet.encode(content))
        assert found.held == (["coded"] if len(content) == 500 else ["xz"])  # the tiny model is no match for xz
        assert abs(8 * found.stream - found.total) <= 32 * found.lanes[0]
        archive = codec.compress(content)
        assert found.archive == len(archive)
        assert codec.decompress(archive) == content
        account = fixed_codec(tiny_model, explain=True, **options)
        account.compress(content)
        assert account.ledger
        assert account.ledger.stream == found.stream
        assert account.ledger.voted == pytest.approx(found.total, abs=1e-6)


def test_several_blocks(tiny_model: IntegerModel) -> None:
    found = inspect(fixed_codec(tiny_model, block_bytes=2000), TEXT[:5000])
    assert len(found.held) == len(found.lanes) >= 3
    assert b"".join(found.token(i).data for i in range(len(found))) == TEXT[:5000]
    assert found.starts[-1] + len(found.token(len(found) - 1).data) == 5000


def test_where_the_archive_does_without_the_model(codec: Codec) -> None:
    """The tokens still show what the model makes of it."""
    for content, how in ((b"ab" * 2000, "xz"), (bytes(range(128, 256)), "stored")):
        found = inspect(codec, content)
        assert found.held == [how]
        assert len(found)
        assert found.archive == len(codec.compress(content))


def test_nothing_to_inspect(codec: Codec) -> None:
    found = inspect(codec, b"")
    assert (len(found), found.total, found.archive, found.held) == (0, 0.0, len(codec.compress(b"")), [])
    assert pieces(found) == []


@given(st.integers(0, 1 << 30), st.integers(1, 600), st.sampled_from([0.0, 0.1, 3.0, 20.0]), st.integers(0, 300), st.integers(1, 6))
@settings(max_examples=examples(60), deadline=None)
def test_guesses_are_the_largest_frequencies(seed: int, vocab: int, spread: float, extra: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    logits, symbols = rows(seed, 4, vocab, spread), vocab + extra
    bias, votes, most = rows(seed + 1, 1, vocab, 2.0)[0], some_votes(rng, 4, symbols), min(most, symbols)
    f = fq.frequencies(logits, bias, votes, symbols)
    found, freq = likeliest(logits, bias, votes, symbols, most)
    want = np.argsort(-f, axis=1, kind="stable")[:, :most]
    assert np.array_equal(found, want)
    assert np.array_equal(freq, np.take_along_axis(f, want, axis=1))


def test_what_was_expected_of_a_text(codec: Codec) -> None:
    """Costs and guesses of every row under all that is learned, against the definition of frequencies."""
    loaded = codec.blocks.models.own()
    symbols = loaded.alphabet.encode(TEXT[:2500])

    class Both(Attempt):
        def see(self, logits, bias, votes, symbols, coded) -> None:  # type: ignore[no-untyped-def]
            super().see(logits, bias, votes, symbols, coded)
            seen = self._parts[-1]
            f = fq.frequencies(logits, bias, votes, symbols)
            assert np.array_equal(seen.freq, f[np.arange(len(f)), coded])
            assert np.array_equal(seen.guessed, -np.sort(-f, axis=1)[:, :5])
            assert np.array_equal(seen.guessed, np.take_along_axis(f, seen.guesses.astype(np.int64), axis=1))

    page = Both(5)
    loaded.coder(loaded.record(LEVELS[6])).encode(symbols, 3, ledger=page)
    assert np.array_equal(page.in_text_order(3).symbols, symbols)


def test_tokens_of_a_text(codec: Codec) -> None:
    found = inspect(codec, TEXT[:3000])
    for i in range(len(found)):
        start, data, bits, guesses = found.token(i)
        assert TEXT[start : start + len(data)] == data
        chances = [g.chance for g in guesses]
        assert len(guesses) == 5
        assert chances == sorted(chances, reverse=True)
        assert 0 < chances[-1] < chances[0] < 1
        own = [g.chance for g in guesses if g.data == data]
        assert own == [] or own[0] == pytest.approx(2.0**-bits)
    bits = found.bits[found.dearest(4)]  # type: ignore[assignment]
    assert (np.diff(bits) <= 0).all()
    assert bits[0] == found.bits.max()  # type: ignore[index]
    bands = found.bands()
    assert sum(b.tokens for b in bands) == len(found)
    assert sum(b.bits for b in bands) == pytest.approx(found.total)
    assert [heat(b) for b in (0, *LIMITS, 99)] == [0, *range(1, len(LIMITS) + 1), len(LIMITS)]


def test_other_compressors() -> None:
    sizes = other_compressors.sizes(TEXT)
    assert list(sizes) == ["gzip -9", "xz -9", "zstd -19"]
    assert gzip.decompress(gzip.compress(TEXT, 9)) == TEXT
    assert sizes["xz -9"] == len(lzma.compress(TEXT, preset=9))
    command = subprocess.run(["gzip", "-9"], input=TEXT, capture_output=True, check=True).stdout
    assert sizes["gzip -9"] == len(command)
    assert 0.8 < sizes["zstd -19"] / sizes["gzip -9"] < 1.1


def test_zstd_is_left_out_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("zstandard", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    assert list(other_compressors.sizes(b"x")) == ["gzip -9", "xz -9"]


def test_every_byte_can_be_seen() -> None:
    assert printable(b" a\n\tb\r\x1b\x7f") == "␣a↵→b␍␛␡"
    assert printable(b" a\n\tb", layout=True) == " a↵\n→\tb"
    assert printable(b"\xff\xe2\x82") == r"\xff\xe2\x82"
    assert printable("\u202e\u0085\u2028\ufeff".encode()) == "⟨U+202E⟩⟨U+0085⟩⟨U+2028⟩⟨U+FEFF⟩"
    assert printable("👩\u200d👧 漢é".encode(), layout=True) == "👩\u200d👧 漢é"
    for code in range(0x110000):
        text = printable(chr(code).encode("utf-8", "surrogatepass"))
        unseen = {unicodedata.category(c) for c in text} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
        assert not unseen or text in "\u200c\u200d", hex(code)


def test_pieces_are_whole_characters(codec: Codec) -> None:
    found = inspect(codec, NASTY)
    parts = pieces(found)
    assert "".join(p.text for p in parts) == printable(NASTY, layout=True)
    assert [p.first for p in parts] + [len(found)] == [0] + [p.end for p in parts]
    assert sum(p.bits for p in parts) == pytest.approx(found.total)
    split = [p for p in parts if p.end - p.first > 1]
    assert "漢" in {p.text for p in split}  # three bytes, none of which the tiny vocabulary has together
    around = surroundings(found, split[0].first)
    assert all("\n" not in part for part in around)


def test_text_in_colours(codec: Codec) -> None:
    """Nothing that the text holds reaches the terminal as a control."""
    found = inspect(codec, NASTY)
    text = "".join(coloured(found))
    plain = re.sub(r"\x1b\[(0|38;5;\d+;48;5;\d+)m", "", text)
    assert plain == printable(NASTY, layout=True)
    assert len(set(re.findall(r"48;5;(\d+)m", text))) > 2
    assert not re.search(r"48;5;\d+m[^\x1b]*\n", text)  # no background runs on to the end of a line
    lines = list(listed(found))
    assert len(lines) == len(found) + 1
    assert all(line.count("\t") == 3 and not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", line) for line in lines)


def inspected(result: Result) -> str:
    assert (result.returncode, result.stderr) == (0, b""), result.stderr
    return result.stdout.decode()


@pytest.mark.slow
def test_a_token_a_line_where_there_are_no_colours(run: Run, work: Path) -> None:  # noqa: F811
    (work / "a.txt").write_bytes(TEXT[:600])
    text = inspected(run("inspect", "--lanes", "2", "a.txt"))
    tokens, _, summary = text.partition("\n\n")
    head, *lines = [line.split("\t") for line in tokens.split("\n")]
    assert head == ["byte", "bits", "token", "guesses"]
    assert lines[0][0] == "0"
    assert "\x1b" not in text
    archive = len(run("compress", "--lanes", "2", "-c", "a.txt").stdout)
    assert f"a.txt: 600 bytes, {len(lines)} tokens; local:tiny, level 6, 2 lanes" in summary
    assert re.search(rf"llmzip +{archive:,} +{8 * archive / 600:.4f}", summary)
    assert abs(sum(float(line[1]) for line in lines) / 8 - archive) < 150
    for words in ("gzip -9", "xz -9", "zstd -19", "0–0.5", "16+", "most expensive"):
        assert words in summary, words
    assert inspected(run("inspect", "-q", "--lanes", "2", "a.txt")) == tokens + "\n"
    assert inspected(run("inspect", stdin=TEXT[:600])).splitlines()[1].startswith("0\t")
    assert "standard input: 600 bytes" in inspected(run("inspect", "-", stdin=TEXT[:600]))
    assert sorted(p.name for p in work.iterdir()) == ["a.txt"]


@pytest.mark.slow
def test_colours_are_for_terminals(run: Run, work: Path, tiny_folder: Path, tmp_path: Path) -> None:  # noqa: F811
    (work / "a.txt").write_bytes(TEXT[:300])

    def on_terminal(*args: str, **extra: str) -> str:
        env = {"LLMZIP_CACHE": str(tmp_path / "cache"), "LLMZIP_MODEL": str(tiny_folder), "TERM": "xterm"} | extra
        code, out, _ = at_terminal("stdout", "inspect", *args, "a.txt", cwd=work, **env)  # type: ignore[arg-type]
        assert code == 0
        return out.decode()

    colours = on_terminal()
    assert "\x1b[38;5;16;48;5;" in colours
    assert re.sub(r"\x1b\[[\d;]*m", "", colours).startswith(printable(TEXT[:300], layout=True))
    for plain in (on_terminal(NO_COLOR="1"), on_terminal("--color", "never"), on_terminal(TERM="dumb")):
        assert plain.startswith("byte\tbits\ttoken")
        assert "\x1b" not in plain
    assert inspected(run("inspect", "--color", "always", "a.txt")) == colours
    assert inspected(run("inspect", "--color", "always", "-q", "a.txt", extra={"NO_COLOR": "1"})) in colours


@pytest.mark.slow
def test_json(run: Run, work: Path) -> None:  # noqa: F811
    (work / "a").write_bytes(NASTY)
    document = json.loads(inspected(run("inspect", "--json", "-1", "a")))
    assert bytes.fromhex("".join(t["hex"] for t in document["tokens"])) == NASTY
    assert document["bits"] == pytest.approx(sum(t["bits"] for t in document["tokens"]))
    assert (document["file"], document["bytes"], document["file_bytes"], document["level"]) == ("a", len(NASTY), len(NASTY), 1)
    assert document["archive_bytes"] == document["sizes"]["llmzip"] == len(run("compress", "-1", "-c", "a").stdout)
    assert all(len(t["guesses"]) == 5 for t in document["tokens"])
    assert sum(b["tokens"] for b in document["histogram"]) == len(document["tokens"])


@pytest.mark.slow
def test_part_of_a_file(run: Run, work: Path) -> None:  # noqa: F811
    (work / "a").write_bytes("ab漢字".encode() * 50)
    for size, kept in (("12", 10), ("13", 13), ("1K", 400)):
        document = json.loads(inspected(run("inspect", "--json", "--bytes", size, "a")))
        assert (document["bytes"], document["file_bytes"]) == (kept, 400)
    assert "a: the first 13 of 400 bytes, " in inspected(run("inspect", "--bytes", "13", "a"))
    assert "standard input: the first 13 bytes, " in inspected(run("inspect", "--bytes", "13", stdin=b"x" * 400))
    endless = f"yes | {sys.executable} -m llmzip inspect -q --bytes 50 | wc -l"
    env = os.environ | {"LLMZIP_MODEL": "nowhere"}
    assert subprocess.run(endless, shell=True, capture_output=True, check=False, timeout=60, env=env).stdout.split() == [b"0"]


@pytest.mark.slow
def test_nothing_and_what_is_no_text(run: Run, work: Path) -> None:  # noqa: F811
    assert inspected(run("inspect", "--html", "x.html", stdin=b"")) == "standard input: 0 bytes\n"
    assert "Nothing to show" in (work / "x.html").read_text("utf-8")
    assert json.loads(inspected(run("inspect", "--json", stdin=b"")))["tokens"] == []
    binary = inspected(run("inspect", stdin=bytes(range(256)) * 2))
    assert r"\xff" in binary
    assert "It holds them packed as xz would, which is smaller" in binary


@pytest.mark.slow
def test_errors(run: Run, work: Path) -> None:  # noqa: F811
    (work / "a").write_bytes(TEXT[:300])
    (work / "page").write_text("precious")
    assert run("compress", "a").returncode == 0
    fails(run("inspect", "absent"), 1, "absent", "cannot be read")
    fails(run("inspect", "a.llz"), 1, "a.llz", "decompress")
    fails(run("inspect", "--html", "page", "a"), 1, "page", "exists", "-f")
    fails(run("inspect", "--html", "no/where", "a"), 1, "no/where", "cannot be written")
    fails(run("inspect", "--model", "nowhere", "a"), 3, "nowhere")
    assert (work / "page").read_text() == "precious"
    for args in (["a", "a"], ["--bytes", "0", "a"], ["--bytes", "x", "a"], ["--lanes", "0", "a"], ["--json", "--html", "-", "a"]):
        result = run("inspect", *args)
        assert (result.returncode, result.stdout) == (2, b""), args
        assert b"Error" in result.stderr
    assert sorted(p.name for p in work.iterdir()) == ["a", "a.llz", "page"]


def test_the_document_says_how_it_is(codec: Codec) -> None:
    text = (ROOT / "docs" / "inspect.md").read_text("utf-8")
    assert f"at {', '.join(map(str, LIMITS[:-1]))} and {LIMITS[-1]} bits" in text
    assert f"2^{fq.TOTAL_BITS} costs {fq.TOTAL_BITS} − log2 f bits" in text
    assert "The five symbols" in text
    assert GUESSES == 5
    shown_there = CliRunner().invoke(main, ["inspect", "--help"]).output
    for option in set(re.findall(r"`?(--[a-z]+)", text)):
        assert option in shown_there, option
    example = text.partition("```python\n")[2].partition("```")[0].replace("Codec(Options(level=6))", "codec")
    exec(example, {"codec": codec})


def test_help_names_every_option(run: Run) -> None:  # noqa: F811
    text = inspected(run("inspect", "--help"))
    for option in (
        "-1",
        "-9",
        "--bytes",
        "--html",
        "--json",
        "--force",
        "--color",
        "--lanes",
        "--model",
        "--threads",
        "--device",
        "--quiet",
    ):
        assert option in text, option
    assert "inspect" in inspected(run("--help"))


def test_text_in_another_form(codec: Codec) -> None:
    """Tokens are those of the text; sizes are those of the content."""
    content = TEXT[:400].decode().encode("utf-16-le")
    found = inspect(codec, content)
    assert found.text == TEXT[:400]
    assert b"".join(found.token(i).data for i in range(len(found))) == TEXT[:400]
    assert "".join(piece.text for piece in pieces(found)).startswith(TEXT[:20].decode())
    assert found.content == content
