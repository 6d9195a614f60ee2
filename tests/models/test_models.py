"""Reading, converting and caching models."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import llmzip
from llmzip.errors import ModelFormatError, ModelMismatchError, ModelUnavailableError
from llmzip.models import fetching, resolve, store
from llmzip.models.config import ModelConfig
from llmzip.models.convert import IntegerModel, convert, quantise_rows, tensor_names
from llmzip.models.float_model import expected_shapes
from llmzip.models.hub import Hub
from llmzip.models.registry import DEFAULT_MODEL, REGISTRY
from llmzip.models.rotate import block_size, hadamard
from llmzip.models.sources import load_float_model
from llmzip.models.tokenizer import TokenizerSpec
from tests.support import tiny
from tests.support.codecs import TEXT
from tests.support.hub import COMMIT
from tests.support.tiny_gguf import write_gguf


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.write_folder(tmp_path / "model")


def test_gguf_and_safetensors_give_the_same_integers(folder: Path, tmp_path: Path) -> None:
    a, b = convert(load_float_model(folder)), convert(load_float_model(write_gguf(tmp_path / "m.gguf", folder)))
    assert a.config == b.config
    assert a.digest() == b.digest()
    assert a.tokenizer.hash == b.tokenizer.hash


def test_digest_is_pinned(tiny_model: IntegerModel) -> None:
    """Conversion gives these integers on every machine; a change of them is a change of format."""
    assert tiny_model.digest().hex()[:20] == "830d085992b1a151f979"
    assert tiny_model.tokenizer.hash.hex()[:20] == "83de12d567f84a1dddf8"


def test_digest_covers_everything(tiny_model: IntegerModel) -> None:
    for name in tensor_names(tiny_model.config):
        changed = dict(tiny_model.tensors)
        changed[name] = changed[name].copy()
        changed[name].flat[-1] += 1
        assert IntegerModel(tiny_model.config, tiny_model.tokenizer, changed).digest() != tiny_model.digest()
    spec = tiny_model.tokenizer
    variants = [
        (spec.tokens[::-1], spec.merges, spec.pre_tokenizer),
        (spec.tokens, spec.merges[:-1], spec.pre_tokenizer),
        (spec.tokens, spec.merges, {"type": "x"}),
    ]
    assert len({spec.hash, *(TokenizerSpec(*v).hash for v in variants)}) == 4
    assert TokenizerSpec.from_json(spec.to_json()).hash == spec.hash


def test_rotation_is_orthonormal_and_its_own_inverse() -> None:
    x = np.random.default_rng(0).standard_normal((5, 192)).astype(np.float32)
    for block in (1, 4, 16, 64):
        y = hadamard(x, block)
        assert np.allclose(hadamard(y, block), x, atol=1e-6)
        assert np.allclose((y * y).sum(), (x * x).sum())
    assert [block_size(n) for n in (576, 48, 20, 6)] == [64, 16, 4, 1]


def test_quantised_rows() -> None:
    q, scale = quantise_rows(np.array([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]], dtype=np.float32), 127)
    assert q.tolist() == [[64.0, -127.0, 32.0], [0.0, 0.0, 0.0]]  # halves go to even
    assert scale[0] == np.float32(2.0) / np.float32(127.0)


def test_second_start_does_not_convert(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = resolve.load(str(folder))
    monkeypatch.setattr(resolve, "convert", lambda *_: pytest.fail("converted again"))
    again = resolve.load(str(folder))
    assert again.digest() == first.digest()
    assert again.tokenizer.hash == first.tokenizer.hash
    assert [m.model_id.split(":")[1] for m in store.cached_models()] == ["model"]


def test_damaged_cache_is_noticed(folder: Path, cache: Path) -> None:
    resolve.load(str(folder))
    weights = next(cache.rglob("weights.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1000] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelMismatchError, match="pull the model again"):
        resolve.load(str(folder))
    weights.write_bytes(data[:-5000])
    with pytest.raises(ModelMismatchError, match="damaged"):
        resolve.load(str(folder))


def test_registered_model_must_match_its_pins(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older version converted is replaced; what a download turns into must match."""
    store.save(DEFAULT_MODEL, convert(load_float_model(folder)))
    asked = []
    monkeypatch.setattr(fetching, "fetch_wheels", lambda name, *_: asked.append(name) or folder)  # type: ignore[func-returns-value]
    monkeypatch.setitem(REGISTRY, DEFAULT_MODEL, replace(REGISTRY[DEFAULT_MODEL], opening=(), local_heads=(), local_window=0))
    with pytest.raises(ModelMismatchError, match="--force"):
        resolve.load(DEFAULT_MODEL)
    assert asked == [DEFAULT_MODEL]
    assert not list((cache / "partial").iterdir())


def test_near_heads_are_part_of_the_model(tiny_model: IntegerModel) -> None:
    near = replace(tiny_model, config=replace(tiny_model.config, local_heads=(1, 2), local_window=8))
    assert near.digest() != tiny_model.digest()
    assert near.digest() != replace(near, config=replace(near.config, local_window=9)).digest()
    assert near.config == ModelConfig.from_dict(json.loads(json.dumps(near.config.as_dict())))
    for wrong in ({"local_heads": (4,), "local_window": 8}, {"local_heads": (0,), "local_window": 0}):
        with pytest.raises(ModelFormatError, match="local-attention heads"):
            replace(tiny_model.config, **wrong)  # type: ignore[arg-type]


def test_opening_is_part_of_the_model(tiny_model: IntegerModel) -> None:
    opened = replace(tiny_model, config=replace(tiny_model.config, opening=(7, 3)))
    assert opened.digest() != tiny_model.digest()
    assert opened.config == ModelConfig(**json.loads(json.dumps(opened.config.as_dict())))
    with pytest.raises(ModelFormatError, match="opening"):
        replace(tiny_model.config, opening=(tiny_model.config.vocab,))
    with pytest.raises(ModelFormatError, match="65 tokens"):
        replace(tiny_model.config, opening=(1,) * 65)


@pytest.mark.parametrize(
    ("name", "message"),
    [("no/such/place", "neither a file"), ("hf:owner/name", "@REVISION"), ("hf:../x@y", "@REVISION"), ("hf:a/b@../c", "@REVISION")],
)
def test_unknown_names(name: str, message: str, cache: Path) -> None:
    with pytest.raises(ModelUnavailableError, match=message):
        resolve.load(name)


def test_archive_names_are_never_fetched_from_a_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "look_up", lambda *_: pytest.fail("fetched"))
    for name in ("hf:someone/model@main", f"hf:someone/model@{COMMIT}", "../../etc/passwd", "https://example.org/x", "/etc/passwd"):
        with pytest.raises(ModelUnavailableError):
            resolve.load_for_archive(name, b"digest", b"tokens")
        assert store.folder_for(name).parent == cache / "models"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling.* rope_type.* yarn"),
        ({"num_attention_heads": 3}, "heads"),
        ({"hidden_size": 68}, "shape"),
        ({"vocab_size": None}, "understood"),
        ({"num_hidden_layers": 10**9}, "range"),
    ],
)
def test_unsuitable_configs(folder: Path, change: dict[str, object], message: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelFormatError, match=message):
        convert(load_float_model(folder))


def test_unsuitable_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="neither"):
        load_float_model(folder / "config.json")
    broken = tmp_path / "x.gguf"
    broken.write_bytes(b"GGUF" + bytes(50))
    with pytest.raises(ModelFormatError, match="GGUF"):
        load_float_model(broken)
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"] = np.full(64, np.nan, np.float32)
    save_file(tensors, weights)
    with pytest.raises(ModelFormatError, match="not finite"):
        convert(load_float_model(folder))
    weights.unlink()
    with pytest.raises(ModelFormatError, match="missing"):
        convert(load_float_model(folder))


def test_the_real_model_converts_to_its_pins(real_model: IntegerModel) -> None:
    known = REGISTRY[DEFAULT_MODEL]
    assert real_model.digest().hex() == known.digest
    assert real_model.tokenizer.hash.hex() == known.tokenizer_hash
    assert {n: real_model.tensors[n].shape for n in ("embed", "0.qkv")} == {"embed": (49152, 576), "0.qkv": (1152, 576)}
    assert set(expected_shapes(real_model.config)) >= {"29.down", "norm"}


@pytest.mark.slow
def test_models_that_share_weights_are_told_apart_by_their_tokenizers(folder: Path, cache: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    settings = json.loads((other / "tokenizer.json").read_text("utf-8"))
    settings["model"]["merges"] = settings["model"]["merges"][:-1]
    (other / "tokenizer.json").write_text(json.dumps(settings), "utf-8")
    text = TEXT[:1000]
    archives = {where: llmzip.compress(text, model=str(where)) for where in (folder, other)}
    assert len({a.digest for a in store.cached_models()}) == 1
    assert len(set(archives.values())) == 2
    for where, archive in archives.items():
        assert llmzip.decompress(archive) == text, where
    store.remove(resolve.find_cached(str(folder)).folder)  # type: ignore[union-attr]
    with pytest.raises(ModelMismatchError, match="but here are weights"):
        llmzip.decompress(archives[folder])
    assert llmzip.decompress(archives[folder], model=str(folder)) == text
