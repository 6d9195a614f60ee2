"""`auto`: of two tiny models, one of which expects each letter's successor, each codes the texts that it is better at."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file, save_file

import llmzip
from llmzip.archive.summary import summarise
from llmzip.cli import main
from llmzip.codec import choosing
from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.policy import Policy
from llmzip.errors import ModelUnavailableError, ParameterError
from llmzip.message.message_codec import MessageCodec
from llmzip.models import fetching, resolve, store
from llmzip.options import AUTO, Options
from tests.support import tiny
from tests.support.codecs import TEXT

LONG = TEXT.decode("ascii", "ignore").lower().encode()
PLAIN = LONG[:3000]
LETTERS = b"abcdefghijklmnopqrstuvwxyz"
SUCCESSORS = bytes.maketrans(LETTERS, LETTERS[1:] + LETTERS[:1])
SHIFTED = PLAIN.translate(SUCCESSORS)


@pytest.fixture(scope="module")
def shifted_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.write_folder(tmp_path_factory.mktemp("shifted") / "shifted", seed="shifted")
    tensors = load_file(folder / "model.safetensors")
    letters = [tiny.vocabulary().index(chr(b)) for b in LETTERS]
    tensors["lm_head.weight"][letters] = np.roll(tensors["lm_head.weight"][letters], 1, axis=0)
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "fetch_wheels", lambda *_: pytest.fail("fetched"))
    return tmp_path / "cache"


@pytest.fixture
def both(cache: Path, tiny_folder: Path, shifted_folder: Path) -> dict[str, bytes]:
    """Both models in the cache; each one's archive of the text that it is better at."""
    best = {"tiny": llmzip.compress(PLAIN, model=str(tiny_folder)), "shifted": llmzip.compress(SHIFTED, model=str(shifted_folder))}
    assert len(best["tiny"]) < len(llmzip.compress(PLAIN, model=str(shifted_folder)))
    assert len(best["shifted"]) < len(llmzip.compress(SHIFTED, model=str(tiny_folder)))
    return best


def models(archive: bytes) -> list[str]:
    return [model.model_id for model in summarise(io.BytesIO(archive)).models]


@pytest.mark.parametrize("kept", [True, False])
def test_each_text_gets_its_model(
    both: dict[str, bytes], kept: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if not kept:  # as if the models were too large to stay loaded
        monkeypatch.setattr(choosing, "_KEPT", 0)
    caplog.set_level("INFO", "llmzip")
    codec = Codec(Options(model=AUTO))
    for _ in range(2):
        for name, text in (("tiny", PLAIN), ("shifted", SHIFTED)):
            assert codec.compress(text) == both[name]
            assert codec.decompress(both[name]) == text
    assert (caplog.text.count("model read in") == 2) == kept
    said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("auto: local:shifted")]
    assert len(said) == 2
    assert "of a sample of 3000 bytes" in said[0]  # all of the text, as it has fewer than four pieces
    assert "local:tiny 5." in said[0]
    assert said[0].endswith(" s")


def test_a_sample_comes_from_all_over_the_text(both: dict[str, bytes], caplog: pytest.LogCaptureFixture) -> None:
    """The first kilobytes are not enough."""
    caplog.set_level("INFO", "llmzip")
    text = LONG[:1500] + LONG[1500:].translate(SUCCESSORS)
    options = Options(model=AUTO)
    codec = Codec(options, blocks=BlockCodec(LoadedModels(options), Policy.MODEL))
    assert models(codec.compress(text)) == ["local:shifted"]
    assert "of a sample of 4096 bytes" in caplog.text


def test_a_frame_keeps_its_model(both: dict[str, bytes]) -> None:
    """The first block that is coded decides, whatever follows; so also where data comes in pieces."""
    codec = Codec(Options(model=AUTO, block_bytes=1000))
    archive = codec.compress(PLAIN + SHIFTED)
    assert models(archive) == ["local:tiny"]
    assert llmzip.decompress(archive) == PLAIN + SHIFTED
    compressor = llmzip.Compressor(codec=codec)
    text = PLAIN + SHIFTED
    pieces = [compressor.compress(text[i : i + 700]) for i in range(0, len(text), 700)]
    assert b"".join(pieces) + compressor.flush() == archive


def test_frames_choose_for_themselves(both: dict[str, bytes], tmp_path: Path) -> None:
    for text in (PLAIN, SHIFTED):
        with llmzip.open(tmp_path / "x.llz", "ab", model=AUTO) as f:
            f.write(text)
    assert models((tmp_path / "x.llz").read_bytes()) == ["local:tiny", "local:shifted"]
    with llmzip.open(tmp_path / "x.llz", "rb") as f:
        assert f.read() == PLAIN + SHIFTED


def test_content_that_needs_no_model_loads_none(both: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "cost", lambda *_: pytest.fail("tried"))
    for content in (b"", bytes(10_000)):
        assert llmzip.decompress(llmzip.compress(content, model=AUTO)) == content


def test_without_a_model_it_is_the_default_one(cache: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="smollm2-135m-instruct is not here"):
        Codec(Options(model=AUTO, offline=True)).compress(PLAIN)


def test_one_model_is_not_tried_first(
    cache: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    resolve.pull(str(tiny_folder))
    monkeypatch.setattr(choosing, "cost", lambda *_: pytest.fail("tried"))
    caplog.set_level("INFO", "llmzip")
    assert models(llmzip.compress(SHIFTED, model=AUTO)) == ["local:tiny"]
    assert "auto: local:tiny, as no other model is cached" in caplog.text


def test_a_damaged_model_is_left_out(both: dict[str, bytes], caplog: pytest.LogCaptureFixture) -> None:
    damaged = next(c for c in store.cached_models() if "tiny" in c.model_id)
    data = bytearray((damaged.folder / store.WEIGHTS).read_bytes())
    data[-1] ^= 1
    (damaged.folder / store.WEIGHTS).write_bytes(data)
    caplog.set_level("INFO", "llmzip")
    assert models(llmzip.compress(PLAIN, model=AUTO)) == ["local:shifted"]
    assert f"{damaged.model_id} is left out: the cached weights of {damaged.model_id} do not match" in caplog.text


def test_the_library_refuses_it_where_it_means_nothing() -> None:
    for use in (
        lambda: llmzip.decompress(b"", model=AUTO),
        lambda: MessageCodec(Options(model=AUTO)),
        lambda: llmzip.Decompressor(model=AUTO),
    ):
        with pytest.raises(ParameterError, match="auto"):
            use()


def run(*args: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, args, input=stdin)


@pytest.mark.slow
def test_commands(both: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain").write_bytes(PLAIN)
    (tmp_path / "shifted").write_bytes(SHIFTED)
    names = [str(tmp_path / name) for name in ("plain", "shifted")]
    assert run("compress", "--verify", "--model", "auto", *names).exit_code == 0
    assert [Path(name + ".llz").read_bytes() for name in names] == list(both.values())
    assert run("--model", "auto", stdin=SHIFTED).stdout_bytes == both["shifted"]
    for command in (["decompress", "-c"], ["-dc"], ["test"], ["-t"], ["message"], ["inspect"], ["models", "path"]):
        refused = run(*command, *(["auto"] if command[0] == "models" else ["--model", "auto", names[0] + ".llz"]))
        assert (refused.exit_code, refused.stdout) == (2, ""), command
        assert "auto chooses a model to compress with" in refused.stderr
    monkeypatch.setenv("LLMZIP_MODEL", "auto")
    assert run("-c", names[1]).stdout_bytes == both["shifted"]
    assert run("-dc", names[1] + ".llz").stdout_bytes == run("decompress", "-c", names[1] + ".llz").stdout_bytes == SHIFTED
    assert run("test", *(name + ".llz" for name in names)).exit_code == 0
    assert "model smollm2-135m-instruct is not in the cache" in run("models", "path").stderr
