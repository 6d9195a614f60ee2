"""`llmzip bench`: measuring, counting the model in, and reporting; with the tiny model and programs made up for it."""

from __future__ import annotations

import csv
import importlib
import itertools
import json
import lzma
import os
import stat
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import llmzip
from llmzip.benchmark import competitors, measure, plot
from llmzip.benchmark.competitors import CompetitorError, Contender
from llmzip.benchmark.measure import Measurement
from llmzip.benchmark.report import ModelCost, Report, break_even, human
from llmzip.cli import main
from llmzip.codec.codec import Codec
from llmzip.models import store
from llmzip.models.registry import DEFAULT_MODEL, REGISTRY
from tests.support import tiny
from tests.support.codecs import TEXT

Run = Callable[..., Result]
LIBRARIES = {"compression.zstd", "zstandard", "brotli", "brotlicffi", "pyppmd"}  # that a machine may have


def hide(monkeypatch: pytest.MonkeyPatch, names: set[str]) -> None:
    """Makes modules as good as not installed."""
    real = importlib.import_module

    def import_module(name: str, package: str | None = None) -> object:
        if name in names:
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(stat.S_IRWXU)


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder with programs; no library but those of Python itself."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    hide(monkeypatch, LIBRARIES)
    return tmp_path / "bin"


@pytest.fixture
def run(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bin_folder: Path) -> Run:
    work = tmp_path / "work"
    work.mkdir()
    (work / "a.txt").write_bytes(TEXT[:1000])
    (work / "b.txt").write_bytes(TEXT[1000:1600])
    monkeypatch.chdir(work)
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LLMZIP_MODEL", str(tiny_folder))
    monkeypatch.setattr(measure, "_ENOUGH", 0.0)

    def call(*args: str, **options: object) -> Result:
        return CliRunner().invoke(main, ["bench", *args], **options)  # type: ignore[arg-type]

    return call


def fails(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, (result.stderr, result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("llmzip: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert all(w in result.stderr for w in words), result.stderr


def test_table(run: Run) -> None:
    result = run("a.txt")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == "llmzip: not here, so not compared: zstd, brotli, 7z PPMd, zpaq\n"
    lines = result.stdout.splitlines()
    assert lines[0] == "a.txt, 1,000 bytes"
    assert lines[1].split() == ["bytes", "bits/byte", "compress", "decompress", "measured"]
    sizes = {line[:12].strip(): int(line[12:25].replace(",", "")) for line in lines[2:6]}
    assert set(sizes) == {"llmzip -6", "gzip -9", "bzip2 -9", "xz -9e"}
    assert list(sizes.values()) == sorted(sizes.values())
    assert sizes["xz -9e"] == len(lzma.compress(TEXT[:1000], preset=9 | lzma.PRESET_EXTREME))
    assert all(line.endswith("  library calls") and "B/s" in line for line in lines[2:6])
    text = result.stdout
    disk = next(store.cached_models()).size()
    assert f"local:tiny: {human(disk)} on disk, once for all texts." in text
    assert "ready after" in text
    assert text.splitlines()[-4].split() == ["against", "llmzip", "-6"]
    assert "to download" not in text  # it did not come over a network


def test_levels_files_and_json(run: Run) -> None:
    result = run("--levels", "9,1", "--json", "-q", "-T", "1", "--bytes", "500", "a.txt", "b.txt", "a.txt")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found["threads"] == 1
    assert found["start_s"] > 0
    assert found["model"] == {"id": "local:tiny", "download": None, "disk": next(store.cached_models()).size()}
    assert found["models"] == [found["model"] | {"start_s": found["start_s"]}]
    assert {(r["file"], r["bytes"]) for r in found["results"]} == {("a.txt", 500), ("b.txt", 500)}
    assert [r["contender"] for r in found["totals"]] == ["llmzip -1", "llmzip -9", "gzip -9", "bzip2 -9", "xz -9e"]
    for total in found["totals"]:
        own = [r for r in found["results"] if r["contender"] == total["contender"]]
        assert (total["file"], total["bytes"], total["archive"]) == ("2 files", 1000, sum(r["archive"] for r in own))
        assert total["bits_per_byte"] == round(8 * total["archive"] / 1000, 4)
        assert set(total["pays_off_after"]) == (set() if "llmzip" in total["contender"] else {"llmzip -1", "llmzip -9"})


def test_csv(run: Run) -> None:
    (Path("x.csv")).write_text("precious")
    fails(run("--csv", "x.csv", "a.txt"), 1, "x.csv", "exists", "-f")
    assert run("--csv", "x.csv", "-f", "a.txt", "b.txt").exit_code == 0
    rows = list(csv.DictReader(Path("x.csv").read_text().splitlines()))
    assert [(r["file"], r["contender"]) for r in rows] == [
        (f, c) for f in ("a.txt", "b.txt") for c in ("llmzip -6", "gzip -9", "bzip2 -9", "xz -9e")
    ]
    for row in rows:
        assert float(row["bits_per_byte"]) == round(8 * int(row["archive"]) / int(row["bytes"]), 4)
        assert int(row["compress_bytes_per_s"]) > 0
        assert row["model_download"] == row["llmzip_6_pays_off_after_download"] == ""
        assert int(row["model_disk"]) > 0


def test_models_side_by_side(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    other = tiny.write_folder(tmp_path / "other", seed="other")
    options = ["-q", "--model", str(tiny_folder), "--model", str(other), "--model", str(other), "--levels", "1,6"]
    found = json.loads(run(*options, "--json", "a.txt", "b.txt").stdout)
    assert [m["id"] for m in found["models"]] == ["local:tiny", "local:other"]
    ours = [f"llmzip -{level} local:{name}" for name in ("tiny", "other") for level in (1, 6)]
    assert [r["contender"] for r in found["results"] if r["file"] == "b.txt"] == [*ours, "gzip -9", "bzip2 -9", "xz -9e"]
    sizes = {r["contender"]: r["archive"] for r in found["results"] if r["file"] == "a.txt"}
    for folder in (tiny_folder, other):
        assert sizes[f"llmzip -6 local:{folder.name}"] == len(llmzip.compress(TEXT[:1000], model=str(folder)))
    assert set(found["totals"][-1]["pays_off_after"]) == set(ours)
    text = run(*options, "--csv", "x.csv", "a.txt").stdout
    heads = [line for line in text.splitlines() if line.startswith("llmzip -") or "bits/byte" in line]
    assert len(heads) == 5
    assert len({line.index("library") for line in heads[1:]}) == 1  # columns are aligned
    assert "do not hold the models, local:tiny: " in text
    rows = {r["contender"]: r for r in csv.DictReader(Path("x.csv").read_text().splitlines())}
    assert rows[ours[0]]["model_disk"] != ""
    assert rows["gzip -9"]["model_disk"] == ""
    assert "llmzip_6_local:other_pays_off_after_disk" in rows["gzip -9"]


def test_models_of_one_name_are_called_as_the_user_does(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    other = tiny.write_folder(tmp_path / "other" / "tiny", seed="other")
    result = run("-q", "--json", "--model", str(tiny_folder), "--model", str(other), "a.txt")
    assert [m["id"] for m in json.loads(result.stdout)["models"]] == [str(tiny_folder), str(other)]


def test_auto_is_no_model_here(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refused = run("--model", "auto", "a.txt")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "name one here" in refused.stderr
    spaced = tiny.write_folder(tmp_path / "a model")
    monkeypatch.setenv("LLMZIP_MODEL", str(spaced))
    assert json.loads(run("-q", "--json", "a.txt").stdout)["model"]["id"] == "local:a_model"


def test_programs(run: Run, bin_folder: Path) -> None:
    """One that works, and all the ways not to."""
    program(bin_folder, "zstd", "exec /bin/cat")
    program(bin_folder, "brotli", "/bin/cat; echo more")
    program(bin_folder, "7zz", "echo no luck >&2; exit 2")
    program(bin_folder, "zpaq", "exec /bin/sleep 60")
    result = run("--timeout", "0.5", "a.txt", "b.txt")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "llmzip: brotli -11 is left out: a.txt: what came back is not what went in",
        "llmzip: 7z PPMd is left out: a.txt: 7zz failed with status 2 (no luck)",
        "llmzip: zpaq -m5 is left out: a.txt: zpaq took more than 0.5 seconds",
    ]
    assert result.stdout.count("zstd -19") == 4  # two files, their sum, and what it takes against it
    assert result.stdout.count("  whole processes") == 3
    assert not any(name in result.stdout for name in ("brotli", "7z", "zpaq"))
    program(bin_folder, "7zz", "exit 0")
    program(bin_folder, "zpaq", "exit 0")
    os.chmod(bin_folder / "zpaq", 0o700)
    (bin_folder / "zpaq").write_text("#!/no/such/interpreter\n")
    errors = run("--bytes", "100", "a.txt").stderr
    assert "7zz made no file" in errors
    assert "zpaq cannot be run (no such file or directory)" in errors


def test_programs_that_work_with_files(bin_folder: Path) -> None:
    """As 7z and zpaq do: each run has a folder of its own, with nothing but what it is given."""
    program(bin_folder, "7zz", "test -e content && exec /bin/cp content archive.7z; exec /bin/cp archive.7z content")
    program(bin_folder, "zpaq", 'test "$1" = a && exec /bin/cp content archive.zpaq; exec /bin/cp archive.zpaq content')
    found = {c.name: c for c in competitors.find()[0]}
    for name in ("7z PPMd", "zpaq -m5"):
        assert found[name].by == "process"
        assert found[name].decompress(found[name].compress(b"abc" * 1000)) == b"abc" * 1000


def test_a_library_that_fails_is_left_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("of its own kind")

    monkeypatch.setattr("bz2.decompress", fail)
    result = run("a.txt")
    assert result.exit_code == 0
    assert "llmzip: bzip2 -9 is left out: a.txt: bz2 failed (of its own kind)\n" in result.stderr
    assert "bzip2" not in result.stdout


def test_absent_libraries_and_programs(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, LIBRARIES | {"gzip", "bz2", "lzma"})
    assert competitors.find() == ([], ["gzip", "bzip2", "xz", "zstd", "brotli", "7z PPMd", "zpaq"])
    for name in ("gzip", "bzip2", "xz"):
        program(bin_folder, name, "exec /bin/cat")
    found, _ = competitors.find()
    assert [(c.name, c.by, c.decompress(c.compress(b"x"))) for c in found] == [
        (name, "process", b"x") for name in ("gzip -9", "bzip2 -9", "xz -9e")
    ]


def test_all_that_is_here_gives_the_text_back() -> None:
    """Whatever this machine has; the standard library's are always there."""
    found, absent = competitors.find(60)
    assert len(found) + len(absent) == 7
    for contender in found:
        for data in (b"x", TEXT[:3000]):
            assert contender.decompress(contender.compress(data)) == data, contender.name


def test_ppmd_notes_the_length() -> None:
    """The decoder needs it, and may need to be asked again for the rest."""

    class Coder:
        def __init__(self, order: int, memory: int) -> None:
            self.rest = b""

        def encode(self, data: bytes) -> bytes:
            return data

        def flush(self) -> bytes:
            return b""

        def decode(self, data: bytes, length: int) -> bytes:
            self.rest += data
            part, self.rest = self.rest[: min(3, length)], self.rest[min(3, length) :]
            return part

    library = type("pyppmd", (), {"Ppmd7Encoder": Coder, "Ppmd7Decoder": Coder})
    packed = competitors._ppmd(library, b"abcdefgh")
    assert packed == b"\x08" + bytes(7) + b"abcdefgh"
    assert competitors._from_ppmd(library, packed) == b"abcdefgh"


def test_llmzip_that_errs_is_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Codec, "decompress", lambda *_: b"something else")
    fails(run("-q", "a.txt"), 3, "a.txt", "llmzip -6", "report")


def test_bad_files_and_outputs(run: Run) -> None:
    Path("empty").write_bytes(b"")
    fails(run("absent"), 1, "absent", "cannot be read")
    fails(run("empty"), 1, "empty", "is empty")
    result = run("-q", "empty", "a.txt")
    assert result.exit_code == 1
    assert result.stdout.startswith("a.txt, 1,000 bytes")
    assert run("-q", "-", input=TEXT[:300]).stdout.startswith("standard input, 300 bytes")
    fails(run("--csv", "no/where.csv", "a.txt"), 1, "no/where.csv", "folder")
    for wrong in (["--levels", "0"], ["--levels", "6,x"], ["--levels", ""], ["--plot", "x.pdf"], ["--bytes", "x"], ["--timeout", "0"], []):
        assert run(*wrong, *(["a.txt"] if wrong else [])).exit_code == 2


def test_offline(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMZIP_MODEL")
    fails(run("-q", "--offline", "a.txt"), 3, "offline", "llmzip models pull")


# --- the report, from measurements made up


def rows(*bits: tuple[str, float], file: str = "f") -> list[Measurement]:
    return [Measurement(file, name, "library", 1000, round(125 * b), 2.0**-i, 2.0**-i / 3) for i, (name, b) in enumerate(bits)]


def made_report(download: int | None = 93_000_000) -> Report:
    made = Report(dict.fromkeys(["llmzip -1", "llmzip -9"], ModelCost("m", download, 272_000_000, 3.21)), 2)
    made.rows = rows(("llmzip -1", 2.0), ("llmzip -9", 1.0), ("gzip -9", 3.0), ("zpaq -m5", 1.8), ("x", 1.0))
    return made


def test_break_even() -> None:
    assert break_even(1000, 3.0, 1.0) == 4000  # 2 bits saved a byte: the model's 8,000 bits after 4,000
    assert break_even(1000, 1.0, 1.0) is None
    assert break_even(1000, 0.5, 1.0) is None


def test_pay_offs_in_the_table() -> None:
    last = made_report().as_table().splitlines()[-5:]
    assert last[0] == "Text after which the model has paid for itself (download / disk), were all text like this:"
    found = {line[:12].strip(): line[12:].split("  ") for line in last[1:]}
    cells = {name: [c.strip() for c in line if c.strip()] for name, line in found.items()}
    assert cells == {
        "against": ["llmzip -1", "llmzip -9"],
        "x": ["never / never", "never / never"],
        "zpaq -m5": ["never / never", "930 MB / 2.72 GB"],
        "gzip -9": ["744 MB / 2.18 GB", "372 MB / 1.09 GB"],
    }
    assert "m: 93.0 MB to download, 272 MB on disk, once for all texts." in made_report().as_table()
    assert "3.2 s, which counts for no speed; llmzip ran on 2 threads" in made_report().as_table()
    alone = made_report(None)
    assert "(disk), were" in alone.as_table()
    alone.rows = alone.rows[:2]
    assert "paid for itself" not in alone.as_table()


def test_totals_are_of_those_that_did_all_files() -> None:
    made = made_report()
    made.rows += rows(("llmzip -1", 1.0), ("llmzip -9", 1.0), ("gzip -9", 2.0), file="g")
    sums = {r.contender: r for r in made.totals()}
    assert set(sums) == {"llmzip -1", "llmzip -9", "gzip -9"}
    assert sums["gzip -9"].bits_per_byte == 2.5
    assert sums["gzip -9"].compress_speed == 2000 / 0.5
    assert made.as_dict()["totals"][2]["pays_off_after"]["llmzip -9"]["download"] == 8 * 93_000_000 / 1.5


def test_human() -> None:
    sizes = [0, 999, 999.6, 1000, 9_994, 9_996, 99_960, 123_456, 999_499, 999_600, 5e9, 1e30]
    assert [human(n) for n in sizes[:-1]] == [
        "0 B", "999 B", "1.00 kB", "1.00 kB", "9.99 kB", "10.0 kB", "100 kB", "123 kB", "999 kB", "1.00 MB", "5.00 GB",
    ]  # fmt: skip
    assert human(sizes[-1]).endswith(" EB")


def test_the_default_models_download_counts() -> None:
    assert REGISTRY[DEFAULT_MODEL].download == 92_871_040


# --- pictures


def test_svg(run: Run) -> None:
    result = run("-q", "--plot", "x.svg", "--levels", "1,6", "a.txt")
    assert result.exit_code == 0, result.stderr
    root = ET.fromstring(Path("x.svg").read_text())
    space = {"s": "http://www.w3.org/2000/svg"}
    texts = ["".join(t.itertext()) for t in root.findall(".//s:text", space)]
    assert texts[0] == "a.txt, 1,000 bytes: size and speed"
    for name in ("llmzip -1", "llmzip -6", "gzip -9", "bzip2 -9", "xz -9e"):
        assert sum(t.startswith(f"{name}, ") for t in texts) == 1
    decades = [f"{n} {unit}/s" for unit in ("B", "kB", "MB", "GB") for n in (1, 10, 100)]
    ticks = [t for t in texts if t in decades]
    assert len(ticks) >= 2
    assert ticks == decades[decades.index(ticks[0]) :][: len(ticks)]  # whatever speeds a machine has
    assert "prefers-color-scheme: dark" in Path("x.svg").read_text()
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for circle in root.findall(".//s:circle", space):
        assert 0 < float(circle.attrib["cx"]) < width
        assert 0 < float(circle.attrib["cy"]) < height
    fails(run("--plot", "x.svg", "a.txt"), 1, "x.svg", "exists")


def test_svg_has_room_for_long_names() -> None:
    name = "llmzip -6 " + "m" * 40
    made = plot.svg(rows((name, 1.0), ("xz", 2.0)), [name], "long")
    label = next(t for t in ET.fromstring(made).iter() if "".join(t.itertext()).startswith(name))
    assert float(label.attrib["x"]) + 6.5 * len(f"{name}, 1.00") < float(ET.fromstring(made).attrib["viewBox"].split()[2])


def test_svg_escapes_names_and_parts_labels() -> None:
    crowded = rows(*[(f"<{i}>&", 1.0 + i / 1000) for i in range(15)])
    root = ET.fromstring(plot.svg(crowded, ["<0>&"], "<&>"))
    labels = [t for t in root.iter("{http://www.w3.org/2000/svg}text") if ", 1.0" in "".join(t.itertext())]
    assert len(labels) == 15
    heights = sorted(float(t.attrib["y"]) for t in labels)
    assert all(b - a >= 15.9 for a, b in itertools.pairwise(heights))
    ticks = [t for t in map("".join, (t.itertext() for t in root.iter("{http://www.w3.org/2000/svg}text"))) if t.endswith("B/s")]
    assert ticks == ["1 kB/s", "10 kB/s", "100 kB/s", "1 MB/s", "10 MB/s", "100 MB/s"]  # 1,000 to 16,384,000 bytes a second
    assert heights[0] > 0
    assert heights[-1] < 440


def test_png(run: Run) -> None:
    assert run("-q", "--plot", "x.PNG", "a.txt").exit_code == 0
    data = Path("x.PNG").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82")


def test_png_without_matplotlib(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else real(name, *a))
    fails(run("--plot", "x.png", "a.txt"), 1, "x.png", "matplotlib", "pip install", ".svg")


# --- measuring


def test_quick_ones_are_repeated_and_the_best_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.1, 0.1, 0.15, 0.15, 0.30, 0.0, 0.5])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))  # type: ignore[attr-defined]
    row = measure.measure(Contender("c", "library", lambda d: d[::-1], lambda d: d[::-1]), "f", b"abc")
    assert (row.compress_seconds, row.decompress_seconds) == (pytest.approx(0.05), 0.5)  # type: ignore[comparison-overlap]
    assert row.decompress_speed == 6


def test_what_comes_back_is_compared() -> None:
    with pytest.raises(CompetitorError, match="not what went in"):
        measure.measure(Contender("c", "library", bytes.upper, bytes.upper), "f", b"abc")
