"""What a configuration says and llmzip does not compute is refused by name. Nothing of it is ignored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from llmzip.errors import ModelFormatError
from llmzip.models import safetensors_folder
from llmzip.models.sources import load_float_model
from tests.support import tiny
from tests.support.tiny_gguf import write_gguf


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.write_folder(tmp_path / "model")


def change(path: Path, **values: object) -> None:
    """Set keys of a JSON file; those that are ... are deleted."""
    found = json.loads(path.read_text("utf-8")) | values
    path.write_text(json.dumps({k: v for k, v in found.items() if v is not ...}), "utf-8")


ODD_CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
    ({"hidden_act": "gelu"}, "hidden_act"),
    ({"attention_bias": True}, "attention_bias"),
    ({"mlp_bias": True}, "mlp_bias"),
    ({"rope_interleaved": True}, "rope_interleaved"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ({"rope_scaling": {"rope_type": "dynamic", "factor": 8.0}}, "dynamic"),
    ({"rope_scaling": {"type": "linear", "factor": 2.0, "beta_fast": 32}}, "beta_fast"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
    ({"rope_scaling": {"factor": 2.0}}, "factor"),
    ({"rope_parameters": {"rope_type": "yarn"}}, "yarn"),
    ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}}, "partial_rotary_factor"),
    ({"sliding_window": 512}, "sliding_window"),
    ({"use_sliding_window": True}, "use_sliding_window"),
    ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
    ({"attention_multiplier": 0.5}, "attention_multiplier"),
    ({"logits_scaling": 8.0}, "logits_scaling"),
    ({"embedding_multiplier": 12.0}, "embedding_multiplier"),
    ({"residual_multiplier": 0.22}, "residual_multiplier"),
    ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    ({"query_pre_attn_scalar": 256}, "query_pre_attn_scalar"),
    ({"num_local_experts": 8}, "num_local_experts"),
    ({"no_rope_layers": [1, 0]}, "no_rope_layers"),
    ({"qk_layernorm": True}, "qk_layernorm"),
    ({"auto_map": {"AutoModel": "code.Model"}}, "auto_map"),
    ({"is_encoder_decoder": True}, "is_encoder_decoder"),
    ({"add_cross_attention": True}, "add_cross_attention"),
    ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
    ({"alibi": True}, "alibi"),
    ({"something_new": 1}, "something_new"),
    ({"model_type": "gpt2"}, "gpt2"),
    ({"bos_token_id": ..., "eos_token_id": ...}, "bos_token_id nor eos_token_id"),
]


@pytest.mark.parametrize(("values", "word"), ODD_CONFIGS, ids=[word for _, word in ODD_CONFIGS])
def test_odd_configurations_are_refused_by_name(folder: Path, values: dict[str, Any], word: str) -> None:
    change(folder / "config.json", **values)
    (folder / "model.safetensors").unlink()  # no weights are needed to refuse it
    with pytest.raises(ModelFormatError, match=word) as e:
        safetensors_folder.describe(folder)
    assert "\n" not in str(e.value)


def test_what_changes_no_logit_is_accepted(folder: Path) -> None:
    before = load_float_model(folder).config
    plain = {
        "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": True, "pad_token_id": 2,
        "initializer_range": 0.02, "max_position_embeddings": 2048, "attention_dropout": 0.0, "pretraining_tp": 1, "rope_scaling": None,
        "attention_bias": False, "hidden_act": "silu", "rope_interleaved": False, "is_llama_config": True, "transformers.js_config": {"a": 1},
        "quantization_config": None, "partial_rotary_factor": 1, "layer_types": ["full_attention"] * 2, "use_sliding_window": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }  # fmt: skip
    change(folder / "config.json", **plain)
    assert load_float_model(folder).config == before


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "normalizer"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, "ByteLevel"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "space in front"),
    ],
)
def test_odd_tokenizers(folder: Path, values: dict[str, Any], word: str) -> None:
    change(folder / "tokenizer.json", **values)
    with pytest.raises(ModelFormatError, match=word):
        safetensors_folder.describe(folder)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"dropout": 0.1}, "dropout"),
        ({"continuing_subword_prefix": "##"}, "continuing_subword_prefix"),
        ({"end_of_word_suffix": "</w>"}, "end_of_word_suffix"),
        ({"type": "Unigram"}, "Unigram"),
        ({"byte_fallback": True}, "byte_fallback"),
        ({"something": 1}, "something"),
    ],
)
def test_odd_models_of_tokenizers(folder: Path, values: dict[str, Any], word: str) -> None:
    model = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]
    change(folder / "tokenizer.json", model=model | values)
    with pytest.raises(ModelFormatError, match=word):
        safetensors_folder.describe(folder)


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj.bias", "model.layers.0.self_attn.q_norm.weight", "lm_head.bias", "odd"])
def test_tensors_that_are_not_understood(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {name: np.zeros(64, np.float32)}, folder / "model.safetensors")
    with pytest.raises(ModelFormatError, match=name):
        load_float_model(folder)


def test_buffers_of_older_files_are_not_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(8, np.float32)}, folder / "model.safetensors")
    assert load_float_model(folder).config == tiny.config()


ODD_FILES: list[tuple[Callable[[gguf.GGUFWriter], None], str]] = [
    (lambda w: w.add_sliding_window(4096), "attention.sliding_window"),
    (lambda w: w.add_attention_scale(0.5), "attention.scale"),
    (lambda w: w.add_logit_scale(0.0625), "logit_scale"),
    (lambda w: w.add_expert_count(8), "expert_count"),
    (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN), "rope.scaling.type"),
    (lambda w: w.add_rope_scaling_factor(4.0), "rope.scaling.factor"),
    (lambda w: w.add_rope_dimension_count(8), "rope.dimension_count"),
    (lambda w: w.add_value_length(32), "attention.value_length"),
    (lambda w: w.add_clamp_kqv(8.0), "clamp_kqv"),
    (lambda w: w.add_uint32("llama.something_new", 1), "something_new"),
    (lambda w: w.add_array("llama.attention.sliding_window_pattern", [1, 0]), "sliding_window_pattern"),
    (lambda w: w.add_string("tokenizer.ggml.something_new", "x"), "something_new"),
    (lambda w: w.add_uint16("split.count", 3), "one of 3 files"),
    (lambda w: w.add_tensor("blk.0.attn_q.bias", np.zeros(64, np.float32)), "blk.0.attn_q.bias"),
    (lambda w: w.add_tensor("rope_freqs.weight", np.ones(4, np.float32)), "rope_freqs.weight"),
    (lambda w: w.add_tensor("rope_freqs.weight", np.full(8, 0.5, np.float32)), "divisor"),
    (lambda w: w.add_tensor("blk.2.attn_q.weight", np.zeros((64, 64), np.float32)), "blk.2.attn_q.weight"),
]


@pytest.mark.parametrize(("add", "word"), ODD_FILES, ids=[word for _, word in ODD_FILES])
def test_odd_gguf_files(folder: Path, tmp_path: Path, add: Callable[[gguf.GGUFWriter], None], word: str) -> None:
    with pytest.raises(ModelFormatError, match=word):
        load_float_model(write_gguf(tmp_path / "odd.gguf", folder, add))


def test_gguf_keys_that_change_no_logit(folder: Path, tmp_path: Path) -> None:
    def add(w: gguf.GGUFWriter) -> None:
        w.add_context_length(2048)
        w.add_vocab_size(tiny.config().vocab)
        w.add_rope_dimension_count(16)
        w.add_value_length(16)
        w.add_attention_scale(0.25)
        w.add_expert_count(0)
        w.add_uint32("uploader.version", 2)
        w.add_chat_template("{{ messages }}")
        w.add_token_types([1] * tiny.config().vocab)

    assert load_float_model(write_gguf(tmp_path / "plain.gguf", folder, add)).config == tiny.config()


def test_without_a_token_that_begins_a_text_it_is_the_one_that_ends_it(folder: Path, tmp_path: Path) -> None:
    """After it models expect another text. Token 0 may be anything."""
    change(folder / "config.json", bos_token_id=None, eos_token_id=2)
    assert load_float_model(folder).config.bos == 2
    change(folder / "config.json", bos_token_id=..., eos_token_id=[2, 0])
    assert load_float_model(folder).config.bos == 2
    path = write_gguf(tmp_path / "x.gguf", folder, lambda w: w.add_eos_token_id(2), start=False)
    assert load_float_model(path).config.bos == 2
    with pytest.raises(ModelFormatError, match="begins or ends"):
        load_float_model(write_gguf(tmp_path / "y.gguf", folder, start=False))


def test_names_of_gguf_files_may_be_in_capitals(folder: Path, tmp_path: Path) -> None:
    assert load_float_model(write_gguf(tmp_path / "MODEL.GGUF", folder)).config == tiny.config()
