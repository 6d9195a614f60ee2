"""Models from a hub: the real client, a hub on loopback, and everything that can go wrong on the way."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmzip.models import names, store
from tests.support import hub
from tests.support.codecs import TEXT
from tests.support.hub import COMMIT, Repository
from tests.support.tiny_gguf import write_gguf

NAME = "hf:owner/tiny@main"
PINNED = f"hf:owner/tiny@{COMMIT}"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "cache"


@pytest.fixture
def repository(tiny_folder: Path) -> Repository:
    return Repository({file.name: file.read_bytes() for file in tiny_folder.iterdir()})


@pytest.fixture(scope="module")
def tiny_gguf(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny_folder).read_bytes()


def refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """One clear line after what is told on the way; nothing in the cache."""
    *told, last = result.stderr.splitlines()
    assert result.returncode == 3, result.stderr
    assert all("this is commit" in line or "to download" in line for line in told), result.stderr
    assert all(word in last for word in ("llmzip: ", *words)), result.stderr
    assert list(store.cached_models()) == []


@pytest.mark.slow
def test_a_branch_is_pinned_to_its_commit(cache: Path, repository: Repository, tmp_path: Path) -> None:
    """The commit is said, recorded in archives, and kept, until a forced pull looks again."""
    (tmp_path / "a").write_bytes(TEXT[:400])
    with hub.serving({"owner/tiny": repository}) as server:
        pulled = hub.llmzip(server.url, "models", "pull", NAME)
        assert pulled.stderr.splitlines() == [
            f"llmzip: {NAME}: this is commit {COMMIT}; archives name that",
            f"llmzip: {PINNED}: 0.44 MB to download, licence: apache-2.0",
        ]
        assert pulled.stdout.startswith(f"{PINNED}: weights ")
        assert sorted(server.fetched()) == ["config.json", "model.safetensors", "tokenizer.json"]
        repository.commits["main"] = "f" * 40
        assert hub.llmzip(server.url, "models", "pull", "-q", NAME).stderr == ""  # not asked again
        again = hub.llmzip(server.url, "models", "pull", "--force", NAME)
        assert f"this is commit {'f' * 40}" in again.stderr
        assert {m.model_id for m in store.cached_models()} == {PINNED, f"hf:owner/tiny@{'f' * 40}"}
    done = hub.llmzip("http://127.0.0.1:9", "compress", "--model", NAME, str(tmp_path / "a"))  # no hub any more
    assert (done.returncode, done.stderr) == (0, "")
    assert f"hf:owner/tiny@{'f' * 40}".encode() in (tmp_path / "a.llz").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "RepoNotFound", ("no repository owner/tiny", "private")),
        (404, "RepoNotFound", ("no repository owner/tiny",)),
        (403, "GatedRepo", ("gated", "accept its terms", "HF_TOKEN")),
        (403, "", ("refuses access (403)", "HF_TOKEN")),
        (404, "RevisionNotFound", ("no revision main",)),
        (503, "", ("cannot serve it now (503)", "later")),
        (429, "", ("cannot serve it now (429)", "later")),
        (418, "", ("418", "check the name")),
    ],
)
def test_each_refusal_of_the_hub_has_its_line(cache: Path, repository: Repository, status: int, code: str, words: tuple[str, ...]) -> None:
    repository.status, repository.code = status, code
    with hub.serving({"owner/tiny": repository}) as server:
        refused(hub.llmzip(server.url, "models", "pull", NAME), *words)


@pytest.mark.slow
def test_no_connection_and_offline(cache: Path) -> None:
    refused(hub.llmzip("http://127.0.0.1:9", "models", "pull", NAME), "transfer failed", "refused", "check the network")
    refused(hub.llmzip("http://127.0.0.1:9", "models", "pull", NAME, HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE forbids the network")
    refused(hub.llmzip("http://127.0.0.1:9", "models", "pull", NAME, LLMZIP_OFFLINE="1"), "not fetched offline")
    refused(hub.llmzip("http://127.0.0.1:9", "models", "pull", PINNED), "transfer failed", "refused", "check the network")


@pytest.mark.slow
def test_a_branch_that_is_not_there(cache: Path, repository: Repository) -> None:
    with hub.serving({"owner/tiny": repository}) as server:
        refused(hub.llmzip(server.url, "models", "pull", "hf:owner/tiny@dev"), "owner/tiny has no revision dev")


@pytest.mark.slow
def test_a_transfer_that_is_cut_short_ends_in_a_line(cache: Path, repository: Repository) -> None:
    """In the API, too."""
    repository.cut["model.safetensors"] = 300_000
    code = "import llmzip, sys\ntry:\n    llmzip.compress(b'a text', model=sys.argv[1])\nexcept llmzip.ModelUnavailableError as e:\n    print(e)"
    with hub.serving({"owner/tiny": repository}) as server:
        refused(hub.llmzip(server.url, "models", "pull", NAME), "transfer failed", "what has arrived is kept")
        done = subprocess.run(
            [sys.executable, "-c", code, PINNED], env=hub.environment(server.url), capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "transfer failed" in done.stdout
        repository.cut.clear()
        assert hub.llmzip(server.url, "models", "pull", NAME).returncode == 0
    assert not list((cache / "partial").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
def test_a_broken_pull_goes_on_where_it_was(cache: Path, repository: Repository, kill: bool) -> None:
    """Whether the connection broke or the process was killed: the next pull asks for the rest only."""
    weights = repository.files["model.safetensors"]
    repository.files["model.safetensors"] = weights + bytes(10_000_000)
    if kill:
        repository.on_bytes = lambda path: time.sleep(1)  # in the middle of each part
    else:
        repository.cut["model.safetensors"] = 9_000_000
    with hub.serving({"owner/tiny": repository}) as server:
        process = subprocess.Popen([sys.executable, "-m", "llmzip", "models", "pull", PINNED], env=hub.environment(server.url))
        try:
            if kill:
                wait_for(lambda: arrived(cache) >= 4_000_000)
            else:
                assert process.wait(60) == 3
        finally:
            process.kill()
            process.wait()
        before = arrived(cache)
        assert before >= 4_000_000
        time.sleep(1.2 if kill else 0)  # until the server has done with the killed one
        repository.cut.clear()
        repository.on_bytes = lambda path: None
        server.sent.clear()
        hub.llmzip(server.url, "models", "pull", PINNED)  # it ends in a refusal, since there are zeros after the tensors
        assert min(first for path, first, _ in server.sent if path == "model.safetensors") == before
        assert sum(count for path, _, count in server.sent if path == "model.safetensors") == len(weights) + 10_000_000 - before


def arrived(cache: Path) -> int:
    """Bytes of the weights that are on disk."""
    return max((file.stat().st_size for file in (cache / "partial").glob("*/model.safetensors")), default=0)


def wait_for(value: Callable[[], int]) -> int:
    """The value, when it is not 0 any more."""
    for _ in range(600):
        if found := value():
            return found
        time.sleep(0.05)
    raise AssertionError("it stayed 0")


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_other_content_of_the_same_size_is_refused(cache: Path, repository: Repository, file: str) -> None:
    content = bytearray(repository.files[file])
    content[-1] ^= 1
    repository.others[file] = bytes(content)
    with hub.serving({"owner/tiny": repository}) as server:
        refused(hub.llmzip(server.url, "models", "pull", NAME), file, "arrived with hash", "pull it again")
        repository.others.clear()
        assert hub.llmzip(server.url, "models", "pull", NAME).returncode == 0


@pytest.mark.slow
def test_only_the_models_own_files_are_fetched(cache: Path, repository: Repository) -> None:
    """Of a model in several files, those that its index names."""
    weights = repository.files.pop("model.safetensors")
    repository.files["one.safetensors"] = weights
    index = {"weight_map": {"model.norm.weight": "one.safetensors"}}
    repository.files |= {"consolidated.safetensors": weights, "copy/model.safetensors": weights, "pytorch_model.bin": weights}
    with hub.serving({"owner/tiny": repository}) as server:
        refused(hub.llmzip(server.url, "models", "pull", NAME), "has neither model.safetensors nor model.safetensors.index.json")
        repository.files["model.safetensors.index.json"] = json.dumps(index).encode()
        assert hub.llmzip(server.url, "models", "pull", NAME).returncode == 0
        assert set(server.fetched()) == {"config.json", "tokenizer.json", "model.safetensors.index.json", "one.safetensors"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "index", ["", "[]", '{"weight_map": {"x": "../y"}}', '{"weight_map": {"x": 1}}', '{"weight_map": {"x": "gone.safetensors"}}']
)
def test_odd_indices(cache: Path, repository: Repository, index: str) -> None:
    del repository.files["model.safetensors"]
    repository.files["model.safetensors.index.json"] = index.encode()
    with hub.serving({"owner/tiny": repository}) as server:
        refused(hub.llmzip(server.url, "models", "pull", NAME), "model.safetensors.index.json", "use another model")


@pytest.mark.slow
def test_an_unsupported_model_is_refused_before_its_weights_are_fetched(cache: Path, repository: Repository, tiny_gguf: bytes) -> None:
    good = json.loads(repository.files["config.json"])
    with hub.serving({"owner/tiny": repository}) as server:
        for change, word in (({"model_type": "gpt2"}, "gpt2"), ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config")):
            repository.files["config.json"] = json.dumps(good | change).encode()
            refused(hub.llmzip(server.url, "models", "pull", NAME), word)
        repository.files["config.json"] = json.dumps(good).encode()
        tokenizer = json.loads(repository.files["tokenizer.json"])
        repository.files["tokenizer.json"] = json.dumps(tokenizer | {"normalizer": {"type": "Lowercase"}}).encode()
        refused(hub.llmzip(server.url, "models", "pull", NAME), "normalizer")
        assert "model.safetensors" not in server.fetched()
        assert not list((cache / "partial").iterdir())
        repository.files["model.gguf"] = tiny_gguf.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0bloom", 1) + bytes(9_000_000)
        refused(hub.llmzip(server.url, "models", "pull", f"{NAME}:model.gguf"), "bloom")
        assert sum(count for path, _, count in server.sent if path == "model.gguf") <= 1 << 21


@pytest.mark.slow
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors.index.json"])
def test_descriptions_that_are_too_large_are_not_fetched(cache: Path, repository: Repository, file: str) -> None:
    del repository.files["model.safetensors"]
    repository.files[file] = bytes(70_000_000)
    with hub.serving({"owner/tiny": repository}) as server:
        refused(hub.llmzip(server.url, "models", "pull", NAME), file, "has more than")
        assert file not in server.fetched()


@pytest.mark.slow
def test_a_full_disk_is_said(cache: Path, repository: Repository) -> None:
    """Files of this process may have 100,000 bytes, as if there were no more room."""
    code = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); runpy.run_module('llmzip', run_name='__main__')"
    with hub.serving({"owner/tiny": repository}) as server:
        command = [sys.executable, "-c", code, "models", "pull", PINNED]
        done = subprocess.run(command, env=hub.environment(server.url), capture_output=True, text=True, check=False)
        refused(done, "cannot be written", "LLMZIP_CACHE")


@pytest.mark.slow
def test_one_gguf_file_of_a_repository(cache: Path, repository: Repository, tiny_gguf: bytes, tmp_path: Path) -> None:
    repository.files = {"README.md": b"read", "sub/tiny.GGUF": tiny_gguf}
    (tmp_path / "a").write_bytes(TEXT[:3000])
    with hub.serving({"owner/tiny": repository}) as server:
        refused(hub.llmzip(server.url, "models", "pull", f"{NAME}:tiny.gguf"), "no such file", "sub/tiny.GGUF")
        refused(hub.llmzip(server.url, "models", "pull", NAME), "has no config.json", "sub/tiny.GGUF")
        done = hub.llmzip(server.url, "compress", "--model", f"{NAME}:sub/tiny.GGUF", str(tmp_path / "a"))
        assert done.returncode == 0, done.stderr
        assert f"{PINNED}:sub/tiny.GGUF".encode() in (tmp_path / "a.llz").read_bytes()
        (tmp_path / "a").unlink()
        assert hub.llmzip("http://127.0.0.1:9", "-d", str(tmp_path / "a.llz")).returncode == 0
        assert (tmp_path / "a").read_bytes() == TEXT[:3000]


@pytest.mark.slow
def test_a_repository_without_an_owner(cache: Path, repository: Repository) -> None:
    """The hub tells who owns it now."""
    with hub.serving({"tiny": repository, "owner/tiny": repository}) as server:
        for name, cached in (("hf:tiny@main", PINNED), (f"hf:tiny@{COMMIT}", f"hf:tiny@{COMMIT}")):
            done = hub.llmzip(server.url, "models", "pull", name)
            assert done.stdout.startswith(f"{cached}: weights "), done.stderr


def test_quiet_is_quiet(cache: Path, repository: Repository) -> None:
    with hub.serving({"owner/tiny": repository}) as server:
        done = hub.llmzip(server.url, "models", "pull", "-q", NAME)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_a_damaged_cached_model_is_pulled_again(cache: Path, repository: Repository) -> None:
    with hub.serving({"owner/tiny": repository}) as server:
        assert hub.llmzip(server.url, "models", "pull", NAME).returncode == 0
        path = store.folder_for(PINNED) / store.WEIGHTS
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)
        done = hub.llmzip(server.url, "models", "pull", NAME)
        assert done.returncode == 0
        assert "do not match their digest" in done.stderr
        assert "pulling it again" in done.stderr
        assert hub.llmzip(server.url, "models", "verify", "-q", NAME).returncode == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (PINNED, names.HubName("owner/tiny", COMMIT)),
        ("hf:a/b@main:x/y.gguf", names.HubName("a/b", "main", "x/y.gguf")),
        ("hf:gpt2@main", names.HubName("gpt2", "main")),
        ("hf:a/b@feature/one", names.HubName("a/b", "feature/one")),
        *(
            (odd, None)
            for odd in (
                "hf:a/b",
                "hf:a/b/c@main",
                "hf:../b@main",
                "hf:a/b@main:../x.gguf",
                "hf:a/b@main:x.bin",
                f"hf:a/b@main:{'x' * 200}.gguf",
            )
        ),
    ],
)
def test_names(name: str, expected: names.HubName | None) -> None:
    assert names.parse(name) == expected
    if expected:
        assert str(expected) == name
        assert names.parse(str(expected.at(COMMIT))) == expected.at(COMMIT)
