"""What the documents state is what the program does."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import astuple

import click
from click.testing import CliRunner

from llmzip import parameters
from llmzip.archive import records as rec
from llmzip.archive.parity import layout as parity_layout
from llmzip.cli import main
from llmzip.cli.classic import classic
from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.policy import Policy
from llmzip.entropy import frequencies
from llmzip.message import text_forms
from llmzip.message.message_codec import MessageCodec
from llmzip.models.convert import IntegerModel
from llmzip.options import Options
from llmzip.parameters import DEFAULT_LEVEL, LEVELS
from tests.support.codecs import ROOT

README = (ROOT / "README.md").read_text("utf-8")
PERFORMANCE = (ROOT / "docs" / "performance.md").read_text("utf-8")
FORMAT = (ROOT / "docs" / "format.md").read_text("utf-8")


def test_worked_example() -> None:
    """It decodes without a model, and is what an encoder writes that has none."""
    dump = re.findall(r"```hex\n(.*?)```", FORMAT, re.S)
    assert len(dump) == 4  # the others are for the reference decoder's tests
    archive = bytes.fromhex(re.sub(r"\s", "", dump[0]))
    plain = Codec(blocks=BlockCodec(LoadedModels(Options()), Policy.PLAIN))
    assert plain.compress(b"hello, hello") == archive
    assert Codec().decompress(archive) == b"hello, hello"


def test_format_states_the_constants() -> None:
    assert (parameters.MAX_BLOCK, rec.MAX_RECORD) == (2**24, 2**24 + 2**16)
    stated = [f"1 to {rec.MAX_WINDOW}", f"0 to {rec.MAX_SINKS}", f"min(symbols, {parameters.MAX_LANES})"]
    for words in (*stated, "1 to 2^24", "at most 2^24 + 2^16", f"T = 2^{frequencies.TOTAL_BITS}", f"F = T - 2^16 = {frequencies.TOTAL}"):
        assert words in FORMAT, words


def test_format_states_parity() -> None:
    assert f"| marker | 4 | | `{parity_layout.MARKER.hex(' ')}`" in FORMAT
    assert (parity_layout.MAX_SIZE, parity_layout.MAX_SHARDS, parity_layout.SHARD_SIZES[0], parity_layout.SHARD_SIZES[-1]) == (
        2**36,
        2**20,
        16,
        2**16,
    )
    for words in ("N | varint | 1 to 2^36 |", "s | varint | 16 to 2^16 |", "at most 2^20, is the number of data shards", "(`0x11D`)"):
        assert words in FORMAT, words


def test_performance_states_what_parity_costs() -> None:
    rows = {int(row[0].replace(",", "")): row[1:] for row in table("| archive, bytes | 1% |", PERFORMANCE)}
    assert len(rows) >= 5
    for size, cells in rows.items():
        for percent, cell in zip((1, 5, 10, 20, 30, 50), cells, strict=True):
            assert abs(float(cell) - 100 * parity_layout.choose(size, percent).frame_size / size) <= 0.5, (size, percent)


def table(heading: str, text: str) -> list[list[str]]:
    """The cells of a table that begins with `heading`."""
    lines = text[text.index(heading) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_format_states_the_levels() -> None:
    """What the table of section 3.9 does not; that one is read by the tests of sole blocks."""
    for number, level in LEVELS.items():
        a = level.adapter
        assert level.block_bytes == (2**22 if number == 9 else 2**20)
        assert level.span.local == (number != 9)
        assert not a.bias or (a.round_symbols, a.bias.rate, a.bias.prior) == (32, 46, 3)
        assert not a.neighbours or a.neighbours.sharpness == 86
        assert not a.corrections or astuple(a.corrections) == (8, 64, 30, 7)
    stated = (
        "At level 9 all heads see the whole window. Round is 32, rate 46, prior 3, sharpness 86; rank 8, matrices 7, pace 30, segment 64."
    )
    for words in (stated, f"Level {DEFAULT_LEVEL} is the default.", "at most 2^20 bytes (2^22 at level 9)"):
        assert words in FORMAT


def commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """A command and all inside it, with what one types for it."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found
            yield from commands(f"{name} {inner}", found)


ALL = dict(commands("llmzip", main)) | {"llmzip ": classic}


def test_readme_commands_exist() -> None:
    lines = re.findall(r"(?:\$ |\| |host )llmzip((?: [^|`#\n]*)?)", "\n".join(re.findall(r"```console\n(.*?)```", README, re.S)))
    assert len(lines) > 10
    for line in lines:
        words = line.split()
        known = ALL.get(f"llmzip {words[0]}" if words else "llmzip", classic)
        stated = {name for p in known.params for name in p.opts}
        for word in words:
            if word.startswith("--") or (word.startswith("-") and word != "-"):
                assert word in stated, line
    for name, command in ALL.items():
        if name != "llmzip ":
            assert CliRunner().invoke(main, [*name.split()[1:], "--help"]).exit_code == 0
            assert command.help


def test_readme_message_is_what_comes_out(real_model: IntegerModel) -> None:
    text, made = re.findall(r'llmzip message "(.*?)"\n(.*)', README)[0]
    assert f"llmzip message -d {made}\n{text}\n" in README
    codec = MessageCodec()
    assert text_forms.write(codec.encode([text.encode()])[0], "base64url") == made
    assert codec.decode([text_forms.read(made, "base64url")]) == [text.encode()]


def test_manual_page_has_all_commands_and_options() -> None:
    page = (ROOT / "docs" / "llmzip.1").read_text("ascii").replace("\\-", "-")
    for name, command in ALL.items():
        assert name == "llmzip " or name == "llmzip" or f".SS {name} " in page
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert re.search(rf"\.B .*{re.escape(max(parameter.opts, key=len))}\b", page), (name, parameter.opts)
    assert sum(line.startswith(".SS") for line in page.splitlines()) == len(ALL) - 2


def test_readme_figures_are_the_measured_ones() -> None:
    with open(ROOT / "docs" / "benchmark.csv", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert rows
    for row in rows:
        line = next(line for line in README.splitlines() if line.startswith(f"| {row['file']} |"))
        cells = [c.strip().replace(",", "") for c in line.strip("|").split("|")]
        expected = [
            row[k]
            for k in (
                "file",
                "bytes",
                "archive",
                "bits_per_byte",
                "archive_over_S",
                "compress_tokens_per_s",
                "decompress_tokens_per_s",
                "yardstick_tokens_per_s",
                "peak_mb",
            )
        ]
        assert cells == expected


def test_ci_runs_the_readme_command() -> None:
    for name, holds in (("test", "pytest"), ("example", "llmzip compress")):
        made = subprocess.run(
            [sys.executable, "scripts/readme_command.py", name], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        assert holds in made
        assert made in README
        assert f"readme_command.py {name}" in (ROOT / ".github" / "workflows" / "test.yml").read_text()
    assert "readme_command.py test" in (ROOT / ".ci" / "run").read_text()
