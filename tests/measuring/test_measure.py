"""`llmzip measure`: documents, figures that decode, sums, and what the command prints."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from llmzip.archive.parser import read_records
from llmzip.archive.records import CodedBlock
from llmzip.cli import main
from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.policy import Policy
from llmzip.errors import InexactMachineError
from llmzip.measuring import predictors
from llmzip.measuring.documents import Document, Found, UnreadableError, documents
from llmzip.measuring.figures import Figure, Measurer, total
from llmzip.measuring.predictors import PredictorError
from llmzip.measuring.report import Report
from llmzip.options import Options
from tests.support.codecs import ROOT, TEXT

Run = Callable[..., Result]
LINES = [
    {"text": TEXT[:300].decode(), "subset": "a"},
    {"text": TEXT[300:900].decode(), "subset": "b"},
    {"text": "Où est le phare ?", "subset": "a"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    (made / "sub").mkdir(parents=True)
    (made / "sub" / "b.txt").write_bytes(TEXT[300:600])
    (made / "a.txt").write_bytes(TEXT[:300])
    (made / "sub" / "empty.txt").touch()
    return made


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "lines.jsonl"
    bad = ['{"text": 5}', "nonsense", "[1]", '{"text": ""}', '{"text": "\\ud800"}', ""]
    file.write_text("\n".join([json.dumps(record) for record in LINES] + bad))
    return file


@pytest.fixture
def run(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LLMZIP_MODEL", str(tiny_folder))
    return lambda *args: CliRunner().invoke(main, ["measure", *map(str, args)])


def shown(found: list[Found]) -> list[tuple[str, str, bytes] | str]:
    return [(d.name, d.group, d.content) if isinstance(d, Document) else str(d) for d in found]


def test_folders_are_read_in_order(folder: Path) -> None:
    assert shown(list(documents([str(folder)]))) == [
        (f"{folder}/a.txt", "", TEXT[:300]),
        (f"{folder}/sub/b.txt", "", TEXT[300:600]),
        f"{folder}/sub/empty.txt: is empty",
    ]


def test_lines_that_cannot_be_read_are_named(lines: Path) -> None:
    found = list(documents([str(lines)], group="subset"))
    assert shown(found[:3]) == [(f"{lines}:{n}", r["subset"], r["text"].encode()) for n, r in enumerate(LINES, 1)]
    said = [str(d).removeprefix(f"{lines}:") for d in found[3:]]
    assert [s[:1] for s in said] == list("45678")
    for words, line in zip(("has no text in 'text'", "no JSON", "no JSON", "is empty", "surrogate"), said, strict=True):
        assert words in line
    assert all(isinstance(d, UnreadableError) for d in found[3:])
    assert "--field" in str(next(documents([str(lines)], text="body")))


def test_tables(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"text": [r["text"] for r in LINES], "subset": ["a", "b", "a"], "other": [1, 2, 3]}), file)
    assert shown(list(documents([str(file)], group="subset"))) == [
        (f"{file}:{n}", r["subset"], r["text"].encode()) for n, r in enumerate(LINES, 1)
    ]
    file.write_bytes(b"nonsense")
    assert "is no Parquet file" in str(next(documents([str(file)])))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for name in ("none.txt", "none.jsonl"):
        (only,) = documents([str(tmp_path / name)])
        assert "cannot be read" in str(only)


def test_a_figure_is_the_length_of_an_archives_bitstream(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path))
    for options in (Options(model=str(tiny_folder), lanes=1), Options(model=str(tiny_folder), lanes=1, block_bytes=400)):
        figure = Measurer(options).figure(Document("d", "g", TEXT[:1000]), certify=True)
        archive = Codec(options, blocks=BlockCodec(LoadedModels(options), Policy.MODEL)).compress(TEXT[:1000])
        blocks = [p.record for p in read_records(io.BytesIO(archive)) if isinstance(p.record, CodedBlock)]
        bits = 8 * sum(len(b.stream) for b in blocks)
        assert figure == Figure("d", "g", 1000, sum(b.symbols for b in blocks), bits, True)


def test_what_does_not_come_back_is_an_error(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path))
    monkeypatch.setattr(BlockCodec, "decode", lambda *args: b"something else")
    measurer = Measurer(Options(model=str(tiny_folder)))
    measurer.figure(Document("d", "", TEXT[:100]))
    with pytest.raises(InexactMachineError, match="d does not come back"):
        measurer.figure(Document("d", "", TEXT[:100]), certify=True)


def test_sums_and_intervals() -> None:
    figures = [Figure(str(n), "", 100 + n, 30, 100 + 7 * n) for n in range(50)]
    t = total(figures)
    assert (t.documents, t.content, t.tokens, t.bits) == (50, sum(100 + n for n in range(50)), 1500, sum(100 + 7 * n for n in range(50)))
    assert t.interval is not None
    assert t.interval[0] < t.bits_per_byte < t.interval[1]
    assert total(figures).interval == t.interval != total(figures, seed=1).interval
    assert total(figures[:1]).interval is None
    same = total([Figure(str(n), "", 100, 30, 120) for n in range(9)])
    assert same.interval == (1.2, 1.2)


def test_differences_come_largest_first() -> None:
    a = [Figure(n, "", 100, 30, bits) for n, bits in (("x", 100), ("y", 200), ("z", 300))]
    b = [Figure(n, "", 100, 30, bits) for n, bits in (("x", 108), ("y", 120), ("z", 300))]
    report = Report({"one": a, "two": b})
    assert [(x.name, y.bits - x.bits) for x, y in report.differences(9)] == [("y", -80), ("x", 8)]
    assert len(report.differences(1)) == 1
    assert "-10 bytes  y" in report.as_table(9)


def test_command(run: Run, folder: Path, lines: Path) -> None:
    done = run(folder, lines, "--group", "subset", "--certify", "1", "--csv", "out.csv", "--json")
    assert done.exit_code == 1  # some were left out
    assert "documents left out: 6 of 11" in done.stderr
    document = json.loads(done.stdout)
    rows = list(csv.DictReader(Path("out.csv").read_text("utf-8").splitlines()))
    assert [row["document"] for row in rows] == [d["name"] for d in document["documents"]]
    assert [t["group"] for t in document["totals"]] == ["", "a", "b"]
    assert document["totals"][0]["bits"] == sum(int(row["bits"]) for row in rows)
    assert sum(int(row["certified"]) for row in rows) == 1
    assert len(document["unreadable"]) == 6
    again = run(folder / "a.txt", "--csv", "out.csv")
    assert (again.exit_code, again.stdout) == (1, "")
    assert "exists" in again.stderr


def test_a_sample_is_the_same_each_time(run: Run, folder: Path) -> None:
    def names(*options: str) -> list[str]:
        return [
            d["name"]
            for d in json.loads(run(folder / "a.txt", folder / "sub" / "b.txt", "--json", "--sample", "1", *options).stdout)["documents"]
        ]

    assert names() == names()
    assert {names("--seed", str(n))[0] for n in range(8)} == {f"{folder}/a.txt", f"{folder}/sub/b.txt"}


def test_learning_can_be_left_out(run: Run, folder: Path) -> None:
    frozen, learned = (json.loads(run(folder / "a.txt", "--json", *o).stdout)["totals"][0]["bits"] for o in (["--frozen"], []))
    assert frozen != learned


def test_table(run: Run, folder: Path) -> None:
    done = run(folder / "a.txt")
    assert done.exit_code == 0
    head, row = done.stdout.splitlines()
    assert head.split()[:4] == ["model", "group", "documents", "bytes"]
    assert row.split()[1:4] == ["all", "1", "300"]


def test_nothing_to_measure(run: Run, folder: Path) -> None:
    done = run(folder / "sub" / "empty.txt")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no document can be read" in done.stderr


class Bytes:
    """Predicts nothing: each byte is as likely as any other."""

    def encode(self, content: bytes) -> list[int]:
        return list(content)

    def decode(self, symbols: Sequence[int]) -> bytes:
        return bytes(symbols)

    def predict(self) -> NDArray[Any]:
        return np.ones(256, np.int64)

    def see(self, symbol: int) -> None:
        pass


class Ahead(Bytes):
    """Looks at what comes."""

    def __init__(self) -> None:
        self.content, self.at = b"", 0

    def encode(self, content: bytes) -> list[int]:
        self.content = content
        return list(content)

    def predict(self) -> NDArray[Any]:
        chances = np.ones(256, np.int64)
        if self.content:
            chances[self.content[self.at]] = 1 << 20
        return chances

    def see(self, symbol: int) -> None:
        self.at += 1


def of(prediction: object) -> type[Bytes]:
    return type("Made", (Bytes,), {"predict": lambda self: prediction})


def test_predictors() -> None:
    flat = predictors.figure(Document("d", "g", TEXT[:500]), Bytes)
    assert (flat.content, flat.tokens, flat.certified) == (500, 500, True)
    assert 8 * 499 <= flat.bits <= 8 * 501
    logits = predictors.figure(Document("d", "g", TEXT[:500]), of(np.zeros(256, np.float32)))
    assert logits == flat


def test_looking_ahead_fails() -> None:
    with pytest.raises(PredictorError, match="d does not come back"):
        predictors.figure(Document("d", "", TEXT[:500]), Ahead)


@pytest.mark.parametrize(
    ("prediction", "words"),
    [
        (np.ones((2, 128)), "shape"), (np.array(["a"] * 256), "floats as logits"), (-np.ones(256, np.int64), "negative"),
        (np.zeros(256, np.int64), "only zeros"), (np.full(256, np.nan), "finite"), (np.ones(9, np.int64), "alphabet of 9"),
    ],
)  # fmt: skip
def test_predictions_that_are_no_use(prediction: object, words: str) -> None:
    with pytest.raises(PredictorError, match=words):
        predictors.figure(Document("d", "", TEXT[:500]), of(prediction))


def test_certain_predictions_cost_nothing() -> None:
    one = np.full(256, -1e9)
    one[65] = 0.0
    assert predictors.figure(Document("d", "", b"A" * 1000), of(one)).bits <= 8


def test_example_of_a_predictor(run: Run, folder: Path, tmp_path: Path) -> None:
    """It decodes, and finds some order in a text."""
    file = ROOT / "examples" / "ngram.py"
    done = run(folder / "a.txt", "--predictor", f"{file}:NGram", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)["documents"][-1]  # after that of the model
    assert document["model"] == f"{file}:NGram"
    assert document["certified"]
    assert document["bits"] < 6 * document["content"]
    for name in ("ngram.py", f"{tmp_path}/none.py:NGram", f"{file}:None"):
        failed = run(folder / "a.txt", "--predictor", name)
        assert (failed.exit_code, failed.stdout) == (1, "")
        assert len(failed.stderr.splitlines()) == 1
