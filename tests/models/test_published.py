"""Configurations as publishers state them are understood whole; one word more that changes the model, and they are refused by that word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmzip.errors import ModelFormatError
from llmzip.models import folder_config, safetensors_folder
from tests.support.published import CONFIGURATIONS

EXPECTED: dict[str, dict[str, Any]] = {
    "TinyLlama": {"head_dim": 64, "rope_base": 10000.0, "plain_stream": False},
    "Llama-3.2-1B": {"rope_base": 500000.0, "bos": 128000},
    "Mistral-7B-v0.1": {"layer_windows": (4096,) * 32},
    "SmolLM3-3B": {"unrotated_layers": tuple(range(3, 36, 4)), "layer_windows": (), "bos": 128001},
    "Qwen2.5-0.5B": {"qkv_bias": True, "layer_windows": ()},
    "Qwen3-0.6B": {"head_norm": "head", "head_dim": 128, "layer_windows": ()},
    "gemma-3-1b": {"layer_windows": tuple(512 if (i + 1) % 6 else 0 for i in range(26)), "window_rope_base": 10000.0, "rope_base": 1e6},
    "gemma-3-270m": {"layer_windows": (512, 512, 512, 512, 512, 0) * 3, "window_rope_base": 10000.0, "rope_base": 1e6},
    "granite-3.0-2b": {"layers": 40, "head_dim": 64},
    "Phi-3-mini-4k": {"layer_windows": (2047,) * 32, "head_dim": 96},
    "pythia-160m": {
        "head_dim": 64,
        "rope_base": 1e16,
        "rope_divisors": (1.0,) * 8 + (0.0,) * 24,
        "parallel": True,
        "gated": False,
        "biases": True,
        "qkv_bias": True,
        "activation": "gelu_tanh",
        "bos": 0,
    },
    "pythia-2.8b": {"head_dim": 80, "rope_divisors": (1.0,) * 10 + (0.0,) * 30},
    "gpt-neox-20b": {"head_dim": 96, "rope_base": 1e16, "parallel": True},
    "RedPajama-INCITE-3B": {"rope_base": 10000.0, "rope_divisors": (), "parallel": False},
    "OLMo-2-1B": {"bos": 100257, "head_norm": "all", "pre_norm": False, "post_norm": True},
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_published_configurations_are_understood(name: str) -> None:
    _, config, _ = folder_config.read(CONFIGURATIONS[name])
    assert {key: getattr(config, key) for key in EXPECTED[name]} == EXPECTED[name]


def test_factors() -> None:
    _, _, granite = folder_config.read(CONFIGURATIONS["granite-3.0-2b"])
    assert (granite.embed, granite.score, granite.logits) == (12.0, 0.125, 0.125)
    assert granite.residual == pytest.approx(0.22)
    _, _, gemma = folder_config.read(CONFIGURATIONS["gemma-3-1b"])
    assert gemma.embed == pytest.approx(1152**0.5)
    assert gemma.score == 1.0


def test_two_ways_to_state_positions_are_one() -> None:
    """Those of libraries of today, and those before."""
    old = CONFIGURATIONS["gemma-3-270m"] | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    kinds = {
        "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    }
    moved = ("rope_scaling", "rope_theta", "rope_local_base_freq")
    new = {key: value for key, value in old.items() if key not in moved} | {"rope_parameters": kinds}
    assert folder_config.read(old) == folder_config.read(new)
    assert folder_config.read(old)[1].rope_divisors == (8.0,) * 128


def test_where_two_bases_are_stated_the_parameters_count() -> None:
    """As in the library that writes them."""
    config = CONFIGURATIONS["Qwen3-0.6B"] | {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}
    assert folder_config.read(config)[1].rope_base == 5000.0


def test_windows_that_are_used() -> None:
    """The last layers of Qwen's have them; in SmolLM3, those whose positions do not turn."""
    used = {"use_sliding_window": True, "sliding_window": 100}
    qwen = folder_config.read(CONFIGURATIONS["Qwen2.5-0.5B"] | used | {"max_window_layers": 20})
    assert qwen[1].layer_windows == (0,) * 20 + (100,) * 4
    smollm = folder_config.read(CONFIGURATIONS["SmolLM3-3B"] | used | {"layer_types": None})
    assert smollm[1].layer_windows == (0, 0, 0, 100) * 9


_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
_LONG = {"type": "longrope", "long_factor": [1.0] * 48, "short_factor": [1.0] * 48}
ODD: list[tuple[str, dict[str, Any], str]] = [
    ("TinyLlama", {"hidden_act": "relu2"}, "hidden_act"),
    ("TinyLlama", {"model_type": "mixtral", "num_local_experts": 8}, "mixtral"),
    ("TinyLlama", {"model_type": "llama4_text"}, "llama4_text"),
    ("TinyLlama", {"rope_theta": 10000.0, "rope_scaling": {"type": "yarn", "factor": 16.0}}, "yarn"),
    ("Llama-3.2-1B", {"quantization_config": {"quant_method": "compressed-tensors"}}, "quantization_config"),
    ("Llama-3.2-1B", {"compression_config": {"format": "int-quantized"}}, "compression_config"),
    ("Llama-3.2-1B", {"num_nextn_predict_layers": 1}, "num_nextn_predict_layers"),
    ("Mistral-7B-v0.1", {"hidden_act": "gelu"}, "hidden_act"),
    ("Mistral-7B-v0.1", {"attention_bias": True}, "attention_bias"),
    ("Mistral-7B-v0.1", {"model_type": "mistral3"}, "mistral3"),
    ("Mistral-7B-v0.1", {"layer_types": ["sliding_attention"] * 32}, "layer_types"),
    ("SmolLM3-3B", {"attention_bias": True}, "attention_bias"),
    ("SmolLM3-3B", {"layer_types": ["linear_attention"] * 36}, "linear_attention"),
    ("SmolLM3-3B", {"no_rope_layers": [1, 0]}, "no_rope_layers"),
    ("Qwen2.5-0.5B", {"model_type": "qwen2_moe", "num_experts": 60}, "qwen2_moe"),
    ("Qwen2.5-0.5B", {"model_type": "qwen2_vl"}, "qwen2_vl"),
    ("Qwen2.5-0.5B", {"num_experts": 60}, "num_experts"),
    ("Qwen2.5-0.5B", {"use_mrope": True}, "use_mrope"),
    ("Qwen2.5-0.5B", {"rope_scaling": _YARN}, "yarn"),
    ("Qwen2.5-0.5B", {"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}, "mrope"),
    ("Qwen2.5-0.5B", {"use_sliding_window": True, "layer_types": ["chunked_attention"] * 24}, "chunked_attention"),
    ("Qwen2.5-0.5B", {"layer_types": ["sliding_attention"] * 24}, "sliding_attention"),
    ("Qwen2.5-0.5B", {"use_sliding_window": True, "sliding_window": 9, "layer_types": ["sliding_attention"] * 23}, "window for each layer"),
    ("Qwen3-0.6B", {"attention_bias": True}, "attention_bias"),
    ("Qwen3-0.6B", {"rope_scaling": _YARN}, "yarn"),
    ("Qwen3-0.6B", {"model_type": "qwen3_moe"}, "qwen3_moe"),
    ("Qwen3-0.6B", {"model_type": "qwen3_next"}, "qwen3_next"),
    ("Qwen3-0.6B", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("gemma-3-1b", {"model_type": "gemma2"}, "gemma2"),
    ("gemma-3-1b", {"model_type": "gemma3", "text_config": {}, "vision_config": {}}, "a gemma3 model"),
    ("gemma-3-1b", {"model_type": "gemma3n_text"}, "gemma3n_text"),
    ("gemma-3-1b", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    ("gemma-3-1b", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ("gemma-3-1b", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma-3-1b", {"hidden_activation": "gelu"}, "hidden_activation"),
    ("gemma-3-1b", {"hidden_activation": "silu"}, "hidden_activation"),
    ("gemma-3-1b", {"attention_bias": True}, "attention_bias"),
    ("gemma-3-1b", {"rope_local_base_freq": None}, "rope_local_base_freq"),
    ("gemma-3-1b", {"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": _YARN}}, "yarn"),
    ("gemma-3-1b", {"rope_parameters": {"full_attention": {}, "sliding_attention": {}, "others": {}}}, "others"),
    ("gemma-3-270m", {"layer_types": ["recurrent"] * 18}, "recurrent"),
    ("granite-3.0-2b", {"model_type": "granitemoe"}, "granitemoe"),
    ("granite-3.0-2b", {"mlp_bias": True}, "mlp_bias"),
    ("granite-3.0-2b", {"logits_scaling": 0.0}, "ZeroDivisionError"),
    ("granite-3.0-2b", {"residual_multiplier": -1.0}, "factor of the model is not"),
    ("granite-3.0-2b", {"attention_multiplier": None}, "NoneType"),
    ("Phi-3-mini-4k", {"rope_scaling": _LONG}, "longrope"),
    ("Phi-3-mini-4k", {"partial_rotary_factor": 0.75}, "partial_rotary_factor"),
    ("Phi-3-mini-4k", {"auto_map": {"AutoModelForCausalLM": "modeling_other.Phi3ForCausalLM"}}, "auto_map"),
    ("Phi-3-mini-4k", {"model_type": "phimoe"}, "phimoe"),
    ("Phi-3-mini-4k", {"lm_head_bias": True}, "lm_head_bias"),
    ("OLMo-2-1B", {"clip_qkv": 8.0}, "clip_qkv"),
    ("OLMo-2-1B", {"model_type": "olmo"}, "a olmo model"),
    ("OLMo-2-1B", {"sliding_window": 4096}, "sliding_window"),
    ("OLMo-2-1B", {"hidden_act": "gelu"}, "hidden_act"),
    ("pythia-160m", {"hidden_act": "relu"}, "hidden_act is relu"),
    ("pythia-160m", {"attention_bias": False}, "attention_bias"),
    ("pythia-160m", {"rotary_pct": 0.27}, "17 of the 64 values of a head turn"),
    ("pythia-160m", {"rotary_pct": 0.0}, "0 of the 64 values of a head turn"),
    ("pythia-160m", {"rotary_pct": 2.0}, "128 of the 64 values of a head turn"),
    ("pythia-160m", {"rotary_pct": None}, "partial_rotary_factor"),
    ("pythia-160m", {"rotary_pct": 0.03125, "rotary_emb_base": 1e300}, "rope base"),
    ("pythia-160m", {"rotary_emb_base": None}, "rope_theta"),
    ("pythia-160m", {"layer_norm_eps": None}, "NoneType"),
    ("pythia-160m", {"use_parallel_residual": 1}, "use_parallel_residual"),
    ("pythia-160m", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
    ("pythia-160m", {"model_type": "gpt_neox_japanese"}, "gpt_neox_japanese"),
    ("pythia-160m", {"num_experts": 8}, "num_experts"),
    *(("TinyLlama", {"model_type": kind}, kind) for kind in ("gpt2", "gptj", "rwkv", "mamba", "bert", "falcon", "bloom", "deepseek_v3")),
    ("TinyLlama", {"model_type": None}, "None"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "word"), ODD, ids=[f"{name}-{word}" for name, _, word in ODD])
def test_odd_ones_are_refused_in_one_line(tmp_path: Path, name: str, values: dict[str, Any], word: str) -> None:
    """Nothing but the configuration is looked at: there are no weights, and what stands in for the tokenizer is none."""
    config = CONFIGURATIONS[name] | values
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text("not read")
    with pytest.raises(ModelFormatError, match=word) as e:
        safetensors_folder.describe(tmp_path)
    assert "\n" not in str(e.value)
    assert "tokenizer" not in str(e.value)
