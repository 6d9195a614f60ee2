"""How long decoding will take: said before it begins, and about true."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from llmzip import parameters
from llmzip.archive.records import CodedBlock, ModelRecord, Record, WholeCheck, encode_record, frame_start
from llmzip.cli.common import forecast
from llmzip.cli.common.forecast import Forecaster, contents, duration
from llmzip.codec.any_model import LoadedModel, Shape
from llmzip.codec.block_codec import Tell
from llmzip.codec.forecast import Forecast
from llmzip.codec.loaded_models import PretrainedModel
from llmzip.models.convert import IntegerModel
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.options import Options
from llmzip.parameters import LEVELS
from tests.support.codecs import TEXT, fixed_codec

BOMB = 1 << 24  # the most that a block may claim


@pytest.fixture(scope="module")
def loaded(tiny_model: IntegerModel) -> LoadedModel:
    return PretrainedModel("local:tiny", tiny_model, Options(threads=1))


def expected_and_taken(loaded: LoadedModel, level: int, content: NDArray[np.int32], lanes: int) -> tuple[float, float]:
    """In seconds of the process's own time, so that it does not matter what else the machine does meanwhile."""
    record = loaded.record(LEVELS[level])
    coder = loaded.coder(record)
    stream = coder.encode(content, lanes)
    forecast = Forecast(loaded, record)
    forecast.clock = time.process_time
    shapes = [Shape(len(content), lanes)]
    forecast.seconds(shapes)  # whatever is done once
    expected = forecast.seconds(shapes)
    start = time.process_time()
    assert np.array_equal(coder.decode(stream, len(content), lanes), content)
    return expected, time.process_time() - start


@pytest.mark.slow
@pytest.mark.parametrize(
    ("level", "symbols", "lanes"), [(6, 2000, 1), (6, 6000, 14), (1, 20000, 40), (9, 2000, 1), (4, 12000, 300)], ids=str
)
def test_forecasts_are_about_true(loaded: LoadedModel, level: int, symbols: int, lanes: int) -> None:
    content = np.random.default_rng(1).integers(0, 250, symbols).astype(np.int32)
    expected, took = expected_and_taken(loaded, level, content, lanes)
    assert took / 2.5 < expected < took * 2.5, (expected, took)


@pytest.mark.slow
@pytest.mark.parametrize(("level", "symbols", "lanes"), [(6, 600, 1), (9, 1200, 14), (1, 2000, 40), (4, 3600, 300)], ids=str)
def test_forecasts_are_about_true_of_the_default_model(real_model: IntegerModel, level: int, symbols: int, lanes: int) -> None:
    real = PretrainedModel(DEFAULT_MODEL, real_model, Options(threads=1))
    expected, took = expected_and_taken(real, level, np.resize(real.alphabet.encode(TEXT), symbols), lanes)
    assert took / 2 < expected < took * 2, (expected, took)


def test_many_blocks_add_up(loaded: LoadedModel) -> None:
    forecast = Forecast(loaded, loaded.record())
    forecast.clock = time.process_time
    one, lanes = forecast.seconds([Shape(100_000, 10)]), forecast.seconds([Shape(100_000, 10)] * 4 + [Shape(50_000, 9)] * 2)
    assert 2 < lanes / one < 12
    assert forecast.seconds([]) == 0


@pytest.mark.slow
def test_a_hostile_archive_is_looked_at_cheaply(loaded: LoadedModel) -> None:
    """Every number of lanes there can be, and the longest block there can be."""
    start = time.process_time()
    shapes = [Shape(BOMB, lanes) for lanes in range(1, parameters.MAX_LANES + 1)]
    assert Forecast(loaded, loaded.record(LEVELS[9])).seconds(shapes) > 3600
    assert time.process_time() - start < 10


def test_times_are_said_as_people_say_them() -> None:
    said = {
        21: "21 s",
        59.4: "59 s",
        61: "1 min",
        1500: "25 min",
        3590: "1 h",
        3600: "1 h",
        7800: "2 h 10 min",
        171_000: "47 h 30 min",
        10**6: "12 days",
    }
    assert {seconds: duration(seconds) for seconds in said} == said


def bomb(loaded: LoadedModel, blocks: int = 1) -> bytes:
    """A few bytes that say they hold many, in blocks of one lane; no check tells before the end."""
    record = CodedBlock(BOMB, BOMB, 1, 0, b"")
    whole = WholeCheck()
    whole.size = blocks * BOMB
    records: list[Record] = [loaded.record(LEVELS[9]), *[record] * blocks, whole.record()]
    return frame_start() + b"".join(map(encode_record, records))


@pytest.fixture
def environment(tmp_path: Path, tiny_folder: Path) -> dict[str, str]:
    return os.environ | {"LLMZIP_CACHE": str(tmp_path / "cache"), "LLMZIP_MODEL": str(tiny_folder)}


@pytest.mark.slow
@pytest.mark.parametrize("args", [["test", "bomb.llz"], ["decompress", "-"]])
def test_a_bomb_says_its_hours_and_can_be_stopped(
    tmp_path: Path, loaded: LoadedModel, environment: dict[str, str], args: list[str]
) -> None:
    archive = bomb(loaded)
    assert len(archive) < 100
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "bomb.llz").write_bytes(archive)

    def heard() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [sys.executable, "-m", "llmzip", *args]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(command, cwd=tmp_path / "work", env=environment, preexec_fn=heard, **pipes)  # type: ignore[call-overload]
    late = threading.Timer(120, process.kill)
    late.start()
    if args[-1] == "-":
        process.stdin.write(archive)
    process.stdin.close()
    said = process.stderr.readline().decode()
    name = "standard input" if args[-1] == "-" else "bomb.llz"
    assert said.startswith(f"llmzip: {name}: 16,777,216 bytes to decode, about "), said
    assert said.endswith((" h\n", " days\n", "0 min\n"))
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    assert process.wait(60) == -signal.SIGINT
    assert time.monotonic() - start < 2
    assert process.stdout.read() == b""
    assert process.stderr.read() == b"llmzip: interrupted\n"
    late.cancel()
    for pipe in (process.stdout, process.stderr):
        pipe.close()
    assert [p.name for p in (tmp_path / "work").iterdir()] == ["bomb.llz"]


def test_files_are_forecast_as_a_whole_once(loaded: LoadedModel, capsys: pytest.CaptureFixture[str]) -> None:
    found = contents(io.BytesIO(bomb(loaded, 3)))
    assert found
    assert (found.size, len(found.coded)) == (3 * BOMB, 3)
    record, block = found.coded[0]

    def timed(shapes: list[Shape], tell: Tell) -> None:
        tell(Forecast(loaded, record).seconds(shapes))

    forecaster = Forecaster("a.llz", found)
    for _ in range(3):
        forecaster(record, block, timed)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "a.llz: 50,331,648 bytes" in lines[0]
    each = Forecaster("standard input", None)
    for _ in range(2):
        each(record, block, timed)
    assert capsys.readouterr().err.count("standard input: 16,777,216 bytes") == 2


@pytest.mark.slow
def test_what_is_short_is_not_said(tiny_model: IntegerModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    codec = fixed_codec(tiny_model)
    archive = codec.compress(TEXT[:2000])
    seen: list[tuple[ModelRecord, CodedBlock]] = []
    sink = io.BytesIO()
    codec.decompress_stream(io.BytesIO(archive), sink, announce=lambda model, block, _: seen.append((model, block)))
    assert sink.getvalue() == TEXT[:2000]
    found = contents(io.BytesIO(archive))
    assert found
    assert [(m, b.symbols, b.lanes) for m, b in seen] == [(m, b.symbols, b.lanes) for m, b in found.coded] != []
    codec.decompress_stream(io.BytesIO(archive), io.BytesIO(), announce=Forecaster("a.llz", found))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(forecast, "_WORTH_SAYING", 0.0)
    codec.decompress_stream(io.BytesIO(archive), io.BytesIO(), announce=Forecaster("a.llz", found))
    assert capsys.readouterr().err.startswith("llmzip: a.llz: 2,000 bytes to decode, about ")
    assert contents(io.BytesIO(archive[:-1])) is None
