"""`compress -r` and `--files-from`: folders mirrored, a manifest, what is done is skipped; on this machine, in memory and in an S3 server."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from llmzip.cli import main
from llmzip.codec.codec import Codec
from tests.support.codecs import TEXT

CONTENTS = {"a.txt": TEXT[:700], "deep/er/b.txt": TEXT[700:1500], "deep/c": bytes(range(256)), "empty": b""}


@pytest.fixture
def cli(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command in this process, which has the places in memory."""
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def call(*args: str, stdin: bytes = b"") -> Result:
        return CliRunner().invoke(main, ["compress", "--model", str(tiny_folder), "-T", "1", *args], input=stdin)

    return call


def write(root: Path) -> None:
    for name, content in CONTENTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def entries(text: str) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    return {entry["file"]: entry for entry in found}


def check(made: dict[str, bytes], manifest: str, codec: Codec) -> None:
    assert set(made) == {f"{name}.llz" for name in CONTENTS}
    assert {name: made[f"{name}.llz"] for name in CONTENTS} == {name: codec.compress(content) for name, content in CONTENTS.items()}
    for name, entry in entries(manifest).items():
        content, archive = CONTENTS[name], made[f"{name}.llz"]
        assert (entry["bytes"], entry["archive_bytes"], entry["sha256"]) == (
            len(content),
            len(archive),
            hashlib.sha256(content).hexdigest(),
        )
        assert entry["bits_per_byte"] == (round(8 * len(archive) / len(content), 4) if content else None)
    assert set(entries(manifest)) == set(CONTENTS)


def below(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_folder(cli: Any, codec: Codec) -> None:
    write(Path("in"))
    os.chmod("in/a.txt", 0o640)
    assert cli("-r", "in", "-o", "in/out").exit_code == 0
    made = below(Path("in/out"))
    manifest = made.pop("manifest.jsonl").decode()
    check(made, manifest, codec)
    assert Path("in/out/a.txt.llz").stat().st_mode & 0o777 == 0o640
    files = {path: path.stat().st_ino for path in Path("in/out").rglob("*.llz")}
    Path("in/out/empty.llz").write_bytes(b"not whole")
    Path("in/a.txt").write_bytes(TEXT[1:701])  # as long as before
    assert cli("-r", "in", "-o", "in/out", "-j", "1").exit_code == 0
    again = {path for path, file in files.items() if path.stat().st_ino != file}
    assert {path.name for path in again} == {"a.txt.llz", "empty.llz"}
    assert codec.decompress(Path("in/out/a.txt.llz").read_bytes()) == TEXT[1:701]
    assert cli("-r", "in", "-o", "in/out", "-f").exit_code == 0
    lines = Path("in/out/manifest.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["file"] for line in lines) == sorted(CONTENTS)  # each once
    assert entries("\n".join(lines))["a.txt"]["sha256"] == hashlib.sha256(TEXT[1:701]).hexdigest()
    assert "out" not in {name.partition("/")[0] for name in below(Path("in/out"))}


def test_an_error_in_one_file_stops_no_other(cli: Any) -> None:
    write(Path("in"))
    Path("out").mkdir()
    Path("out/deep").write_bytes(b"a file where a folder should be")
    result = cli("-r", "in", "-o", "out")
    assert result.exit_code == 1
    assert sorted(line.split(": ")[1] for line in result.stderr.splitlines()) == ["deep/c", "deep/er/b.txt"]
    assert set(entries(Path("out/manifest.jsonl").read_text())) == {"a.txt", "empty"}


def test_a_list(cli: Any, codec: Codec) -> None:
    write(Path("in"))
    Path("list").write_text("in/a.txt\nin/deep/c\n\n")
    for listed, stdin in (("list", b""), ("-", Path("list").read_bytes())):
        out = f"out{len(stdin)}"
        assert cli("--files-from", listed, "-o", out, stdin=stdin).exit_code == 0
        made = below(Path(out))
        assert set(entries(made.pop("manifest.jsonl").decode())) == {"in/a.txt", "in/deep/c"}
        assert made == {f"in/{name}.llz": codec.compress(CONTENTS[name]) for name in ("a.txt", "deep/c")}


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["-r", "in"], 2, "-o OUT"),
        (["-r", "in", "in", "-o", "out"], 2, "one folder"),
        (["-r", "in", "-o", "out", "--verify"], 2, "--verify"),
        (["--files-from", "list", "in", "-o", "out"], 2, "--files-from"),
        (["-r", "--files-from", "list", "in", "-o", "out"], 2, "one of them"),
        (["-r", "absent", "-o", "out"], 1, "no folder"),
        (["--files-from", "absent", "-o", "out"], 1, "absent"),
        (["--files-from", "twice", "-o", "out"], 1, "twice"),
        (["--files-from", "above", "-o", "out"], 1, "without .."),
        (["-r", "in", "-o", "nothing-like-this://x"], 1, "nothing-like-this"),
    ],
)
def test_what_does_not_work(args: list[str], code: int, words: str, cli: Any) -> None:
    write(Path("in"))
    Path("twice").write_text("in/a.txt\nin/a.txt\n")
    Path("above").write_text("../in/a.txt\n")
    result = cli(*args)
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr
    assert not Path("out").exists()


@pytest.fixture
def memory() -> Iterator[Any]:
    import fsspec

    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


def mirrored(cli: Any, codec: Codec, system: Any, source: str, out: str) -> None:
    """A corpus of objects, done, and then not done again."""
    root = out.partition("://")[2]
    for name, content in CONTENTS.items():
        system.pipe_file(f"{source.partition('://')[2]}/{name}", content)
    for _ in range(2):
        result = cli("-r", source, "-o", out)
        assert (result.exit_code, result.stderr) == (0, "")
    made = {path.removeprefix("/").removeprefix(f"{root}/"): system.cat_file(path) for path in system.find(root)}
    check({name: content for name, content in made.items() if name != "manifest.jsonl"}, made["manifest.jsonl"].decode(), codec)


def test_in_memory(cli: Any, codec: Codec, memory: Any) -> None:
    mirrored(cli, codec, memory, "memory://corpus/texts", "memory://corpus/archives")
    Path("list").write_text("memory://corpus/texts/a.txt\n")
    assert cli("--files-from", "list", "-o", "here").exit_code == 0
    assert Path("here/corpus/texts/a.txt.llz").read_bytes() == codec.compress(CONTENTS["a.txt"])
    result = cli("--files-from", "-", "-o", "here", stdin=b"memory://corpus/absent")
    assert result.exit_code == 1
    assert "corpus/absent" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_in_a_server(cli: Any, codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real S3 server on the loopback."""
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    threaded = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    threaded.start()
    host, port = threaded.get_host_and_port()
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    try:
        system = s3fs.S3FileSystem()
        system.mkdir("bucket")
        mirrored(cli, codec, system, "s3://bucket/texts", "s3://bucket/archives")
    finally:
        threaded.stop()
