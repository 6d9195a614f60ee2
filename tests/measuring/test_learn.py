"""`llmzip learn`: curves whose area is the archive, and how they are shown."""

from __future__ import annotations

import csv
import importlib.util
import lzma
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from llmzip.cli import main
from llmzip.codec.codec import Codec
from llmzip.measuring import curves, picture
from llmzip.measuring.curves import Curve
from llmzip.models.convert import IntegerModel
from llmzip.options import NEW, Options
from tests.support.codecs import TEXT, eager_codec

Run = Callable[..., Result]


@pytest.fixture
def run(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LLMZIP_MODEL", str(tiny_folder))
    Path("text.txt").write_bytes(TEXT[:900])
    return lambda *args: CliRunner().invoke(main, ["learn", *map(str, args)])


@pytest.mark.parametrize("options", [{"lanes": 1}, {"lanes": 3}, {"lanes": 1, "block_bytes": 300}])
def test_the_area_is_the_archive(tiny_model: IntegerModel, options: dict[str, int]) -> None:
    """But for the container and the end of each lane."""
    codec = eager_codec(tiny_model, **options)
    curve = curves.of_model(codec, TEXT[:900], "tiny")
    assert curve.archive == len(codec.compress(TEXT[:900]))
    assert 0 < curve.archive - curve.area < 120 + 20 * 3
    assert curve.ends[-1] == 900
    assert (np.diff(curve.ends) > 0).all()
    at = curves.positions(900, 7)
    assert (curve.rates(at) * np.diff(at)).sum() == pytest.approx(8 * curve.area)


def test_the_area_is_the_archive_of_what_starts_from_nothing() -> None:
    curve = curves.of_new(TEXT[:5000], "new")
    assert curve.archive == len(Codec(Options(model=NEW)).compress(TEXT[:5000]))
    assert 0 < curve.archive - curve.area < 90
    rates = curve.rates(curves.positions(5000, 4))
    assert (np.diff(rates) < 0).all()  # it learns


@pytest.mark.real
def test_the_area_is_the_archive_of_the_real_model(real_model: IntegerModel) -> None:
    codec = Codec(Options(lanes=1))
    curve = curves.of_model(codec, TEXT[:3000], "real")
    assert curve.archive == len(codec.compress(TEXT[:3000]))
    assert 0 < curve.archive - curve.area <= 32 + 3


def test_text_in_another_form(tiny_model: IntegerModel) -> None:
    content = TEXT[:300].decode().encode("utf-16-le")
    curve = curves.of_model(eager_codec(tiny_model), content, "tiny")
    assert curve.ends[-1] == len(content)


def test_curves_of_other_compressors() -> None:
    at = curves.positions(5000, 5)
    curve = curves.of_compressor(lzma.compress, TEXT[:5000], "xz", at)
    assert curve.archive == curve.area == len(lzma.compress(TEXT[:5000]))
    assert curve.spent(at[1:2])[0] == 8 * len(lzma.compress(TEXT[:1000]))


def test_positions() -> None:
    assert curves.positions(10, 4).tolist() == [0, 2, 5, 7, 10]
    assert curves.positions(3, 40).tolist() == [0, 1, 2, 3]


def test_overtaking() -> None:
    at = curves.positions(100, 10)
    even = Curve("even", np.array([100]), np.array([200.0]), 25)
    late = Curve("late", np.array([50, 100]), np.array([150.0, 10.0]), 20)
    assert curves.overtakes(late, even, at) == 80
    assert curves.overtakes(even, late, at) is None
    assert curves.overtakes(even, Curve("dear", np.array([100]), np.array([900.0]), 99), at) == 0


def test_command(run: Run) -> None:
    done = run("text.txt", "--csv", "out.csv", "--plot", "out.svg", "--parts", "9")
    assert done.exit_code == 0, (done.stderr, done.exception)
    head, frozen, learning, *others = done.stdout.split("\n\n")[0].splitlines()
    assert head.split()[-1] == "archive"
    assert ", frozen" in frozen
    assert ", learning" in learning
    assert [line.split()[0] for line in others] == ["gzip", "xz"]
    with open("out.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 * 4
    for name in {row["curve"] for row in rows}:
        of = [row for row in rows if row["curve"] == name]
        assert sum(float(row["bits"]) for row in of) == pytest.approx(float(of[-1]["bits_so_far"]), abs=0.02)
    assert sum(e.get("class") == "curve" for e in ET.parse("out.svg").iter()) == 2 * 4
    again = run("text.txt", "--plot", "out.svg")
    assert (again.exit_code, again.stdout) == (1, "")


def test_what_cannot_be_shown(run: Run) -> None:
    Path("short.txt").write_bytes(b"abc")
    assert "too short" in run("short.txt").stderr
    assert run("text.txt", "--plot", "out.gif").exit_code == 2
    assert run("none.txt").exit_code == 1


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_png() -> None:
    at = curves.positions(100, 10)
    assert picture.png([Curve("even", np.array([100]), np.array([200.0]), 25)], at, "title").startswith(b"\x89PNG")
