"""Folders of all families as GGUF files: names are those that the format's own library gives to tensors of transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

from llmzip.models.sources import load_float_model
from tests.support.tiny_gguf import add_tokenizer, finish

# By model_type. What a file cannot say is as it is in every model of the family.
SAYABLE: dict[str, dict[str, Any]] = {
    "llama": {},
    "smollm3": {"no_rope_layers": [1, 1, 1, 0]},
    "qwen2": {"use_sliding_window": False},
    "qwen3": {},
    "gemma3_text": {"query_pre_attn_scalar": 32},
    "granite": {},
    "phi3": {},
    "olmo2": {},
    "gpt_neox": {},
}
_INTERLEAVED = ("llama", "smollm3", "granite")


def write(path: Path, folder: Path, add: Callable[[gguf.GGUFWriter], None] = lambda writer: None) -> Path:
    """Write the model in `folder` as the format's own converter does. `add` may add keys and tensors."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    name = {"gemma3_text": "gemma3", "gpt_neox": "gptneox"}.get(config["model_type"], config["model_type"])
    w = gguf.GGUFWriter(path, name)
    _add_sizes(w, config)
    _add_positions(w, config)
    if name == "granite":
        w.add_attention_scale(config["attention_multiplier"])
        w.add_embedding_scale(config["embedding_multiplier"])
        w.add_residual_scale(config["residual_multiplier"])
        w.add_logit_scale(config["logits_scaling"])
    add_tokenizer(w, load_float_model(folder).tokenizer)
    w.add_bos_token_id(config["bos_token_id"])
    w.add_eos_token_id(config["eos_token_id"])
    arch = next(arch for arch, known in gguf.MODEL_ARCH_NAMES.items() if known == name)
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    for stored, values in load_file(folder / "model.safetensors").items():
        if name == "gemma3" and stored.endswith("norm.weight"):
            values = values + np.float32(1)
        for part, heads in (("q_proj", config["num_attention_heads"]), ("k_proj", config["num_key_value_heads"])):
            if part in stored and name in _INTERLEAVED:
                values = values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        if "query_key_value" in stored:
            values = values.reshape(config["num_attention_heads"], 3, -1, *values.shape[1:]).swapaxes(0, 1).reshape(values.shape)
        known = names.get_name(stored, (".weight", ".bias"))
        assert known
        w.add_tensor(known, np.ascontiguousarray(values))
    add(w)
    finish(w)
    return path


def _add_sizes(w: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    w.add_context_length(config["max_position_embeddings"])
    w.add_vocab_size(config["vocab_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_embedding_length(config["hidden_size"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(config["num_attention_heads"])
    w.add_head_count_kv(config["num_key_value_heads"])
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    if config["model_type"] == "gpt_neox":
        w.add_layer_norm_eps(config["layer_norm_eps"])
        w.add_parallel_residual(config["use_parallel_residual"])
        w.add_rope_dimension_count(int(head_dim * config["rope_parameters"]["partial_rotary_factor"]))
    else:
        w.add_layer_norm_rms_eps(config["rms_norm_eps"])


def _add_positions(w: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    rope, name = config["rope_parameters"], config["model_type"]
    if name == "gemma3_text":
        w.add_sliding_window(config["sliding_window"])
        w.add_float32("gemma3.rope.freq_base_swa", rope["sliding_attention"]["rope_theta"])
        rope = rope["full_attention"]
    if name == "phi3":
        w.add_sliding_window(config["sliding_window"])
        w.add_rope_scaling_orig_ctx_len(config["original_max_position_embeddings"])
    if rope["rope_type"] == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])
    w.add_rope_freq_base(rope["rope_theta"])
