"""The same model of each family from a folder, from a GGUF file, and from a hub."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file, save_file

import llmzip
from llmzip.errors import ModelFormatError
from llmzip.models import architectures, gguf_model
from llmzip.models.convert import IntegerModel, convert
from llmzip.models.sources import load_float_model
from tests.support import families, family_gguf, hub
from tests.support.codecs import TEXT
from tests.support.hub import COMMIT, Repository

NAMES = {family.folder.name: family for family in architectures.ARCHITECTURES}
WITH_FILES = [name for name, family in NAMES.items() if family.gguf]


def folder_of(path: Path, model_type: str) -> Path:
    """A small checkpoint of the family, of which a GGUF file can say everything."""
    name = model_type.removesuffix("_text")
    values = family_gguf.SAYABLE.get(model_type, {})
    return families.write(path, families.checkpoint(name, **values))


def model_of(path: Path) -> IntegerModel:
    return convert(load_float_model(path))


def test_every_family_is_here() -> None:
    assert set(family_gguf.SAYABLE) == set(WITH_FILES)
    assert set(NAMES) == {getattr(transformers, f"{family.name}Config").model_type for family in families.FAMILIES.values()}


@pytest.mark.parametrize("name", WITH_FILES)
def test_a_folder_and_a_gguf_file_give_the_same_model(name: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", name)
    model, file = model_of(folder), model_of(family_gguf.write(tmp_path / "model.gguf", folder))
    assert file.config == model.config
    assert file.digest() == model.digest()
    assert file.tokenizer == model.tokenizer


ODD: list[tuple[str, Callable[[gguf.GGUFWriter], None], str]] = [
    ("gemma3_text", lambda w: w.add_final_logit_softcapping(30.0), "final_logit_softcapping"),
    ("gemma3_text", lambda w: w.add_attn_logit_softcapping(50.0), "attn_logit_softcapping"),
    ("gemma3_text", lambda w: w.add_array("gemma3.attention.sliding_window_pattern", [1, 0]), "sliding_window_pattern"),
    ("gemma3_text", lambda w: w.add_causal_attention(False), "attention.causal"),
    ("qwen2", lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN), "yarn"),
    ("qwen2", lambda w: w.add_sliding_window(100), "attention.sliding_window"),
    ("qwen2", lambda w: w.add_tensor("blk.0.attn_output.bias", np.zeros(64, np.float32)), "attn_output.bias"),
    ("qwen3", lambda w: w.add_expert_count(8), "expert_count"),
    ("qwen3", lambda w: w.add_tensor("cls.output.weight", np.zeros((64, 64), np.float32)), "cls.output.weight"),
    ("phi3", lambda w: w.add_rope_scaling_attn_factors(1.19), "rope.scaling.attn_factor"),
    ("phi3", lambda w: w.add_tensor("rope_factors_long.weight", np.ones(8, np.float32)), "rope_factors_long.weight"),
    ("phi3", lambda w: w.add_rope_dimension_count(12), "rope.dimension_count"),
    ("granite", lambda w: w.add_expert_count(40), "expert_count"),
    ("granite", lambda w: w.add_array("granite.deepstack_mapping", [0, 1]), "deepstack_mapping"),
    ("olmo2", lambda w: w.add_sliding_window(4096), "attention.sliding_window"),
    ("olmo2", lambda w: w.add_clamp_kqv(8.0), "attention.clamp_kqv"),
    ("gpt_neox", lambda w: w.add_clamp_kqv(8.0), "attention.clamp_kqv"),
    ("gpt_neox", lambda w: w.add_sliding_window(100), "attention.sliding_window"),
    ("gpt_neox", lambda w: w.add_tensor("blk.0.ffn_gate.weight", np.ones((128, 64), np.float32)), "ffn_gate.weight"),
    ("smollm3", lambda w: w.add_tensor("blk.0.attn_q_norm.weight", np.ones(16, np.float32)), "attn_q_norm.weight"),
]


@pytest.mark.parametrize(("name", "add", "word"), ODD, ids=[f"{name}-{word}" for name, _, word in ODD])
def test_odd_gguf_files_are_refused_by_their_header(name: str, add: Callable[[gguf.GGUFWriter], None], word: str, tmp_path: Path) -> None:
    data = family_gguf.write(tmp_path / "odd.gguf", folder_of(tmp_path / "model", name), add).read_bytes()
    with pytest.raises(ModelFormatError, match=word) as e:
        gguf_model.check_start(data[: len(data) // 10], len(data), "odd.gguf")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "name", ["gemma", "gemma2", "qwen2moe", "qwen3moe", "granitemoe", "gpt2", "gptj", "rwkv7", "mamba", "llama4", "phi2"]
)
def test_gguf_files_of_other_families(name: str, tmp_path: Path) -> None:
    w = gguf.GGUFWriter(tmp_path / "odd.gguf", name)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    with pytest.raises(ModelFormatError, match=f"odd.gguf holds a {name} model; llmzip runs gemma3, gptneox, granite"):
        load_float_model(tmp_path / "odd.gguf")


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    """Each of one layer, in turn: none of them is left out of the model."""
    folder = folder_of(tmp_path / "model", name)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    family = NAMES[name].folder
    of_layer, norm = family.layer.format(1), f"{family.tensors['norm']}.weight"
    for stored in [key for key in tensors if key.startswith(of_layer) or key.removesuffix("bias") + "weight" == norm] + [norm]:
        save_file({key: values for key, values in tensors.items() if key != stored}, path)
        with pytest.raises(ModelFormatError, match=f"has no tensor {stored}"):
            model_of(folder)
    save_file(tensors | {f"{of_layer}self_attn.o_proj.bias": np.zeros(families.WIDTH, np.float32)}, path)
    with pytest.raises(ModelFormatError, match=r"o_proj\.bias"):
        model_of(folder)


PULL = """
import sys
from llmzip.errors import ModelFormatError
from llmzip.models import resolve
for name in sys.argv[1:]:
    try:
        print(resolve.load(name, quiet=True).digest().hex())
    except ModelFormatError as e:
        print(e)
"""


@pytest.mark.slow
def test_the_hub_gives_the_same_models(tmp_path: Path) -> None:
    """Folders and files; and where a configuration asks for more, it is refused before there are weights."""
    repositories: dict[str, Repository] = {}
    expected: dict[str, str] = {}
    for name in NAMES:
        folder = folder_of(tmp_path / name, name)
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        odd = files | {"config.json": json.dumps(json.loads(files["config.json"]) | {"num_experts": 8}).encode()}
        repositories |= {f"owner/{name}": Repository(files), f"owner/odd-{name}": Repository(odd)}
        expected[f"hf:owner/{name}@{COMMIT}"] = model_of(folder).digest().hex()
        expected[f"hf:owner/odd-{name}@{COMMIT}"] = "num_experts"
        if name in WITH_FILES:
            files["model.gguf"] = family_gguf.write(tmp_path / f"{name}.gguf", folder).read_bytes()
            expected[f"hf:owner/{name}@{COMMIT}:model.gguf"] = expected[f"hf:owner/{name}@{COMMIT}"]
    with hub.serving(repositories) as server:
        places = {"LLMZIP_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path / "home")}
        done = subprocess.run(
            [sys.executable, "-c", PULL, *expected],
            env=hub.environment(server.url, **places), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert server.fetched().count("model.safetensors") == len(NAMES)
    found = dict(zip(expected, done.stdout.splitlines(), strict=True))
    assert [name for name, result in expected.items() if result not in found[name]] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_archives_come_back(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the folder, with the engine as it is for users."""
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    folder = folder_of(tmp_path / "model", name)
    archive = llmzip.compress(TEXT[:1500], model=str(folder))
    assert llmzip.decompress(archive) == TEXT[:1500]
