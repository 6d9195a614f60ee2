"""Configurations of models, as their publishers state them. Lists that only count layers are computed."""

from __future__ import annotations

from typing import Any

_TRAINED: dict[str, Any] = {"attention_dropout": 0.0, "initializer_range": 0.02, "torch_dtype": "bfloat16", "use_cache": True}


def _sizes(layers: int, width: int, heads: int, kv_heads: int, ffn: int, vocab: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "intermediate_size": ffn, "vocab_size": vocab,
    } | _TRAINED  # fmt: skip


def _neox(layers: int, width: int, heads: int, ffn: int, vocab: int) -> dict[str, Any]:
    return {
        "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "num_hidden_layers": layers, "hidden_size": width,
        "num_attention_heads": heads, "intermediate_size": ffn, "vocab_size": vocab, "bos_token_id": 0, "eos_token_id": 0,
        "initializer_range": 0.02, "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "rotary_emb_base": 10000, "rotary_pct": 0.25,
        "tie_word_embeddings": False, "torch_dtype": "float16", "transformers_version": "4.24.0", "use_cache": True,
    }  # fmt: skip


def _every(step: int, layers: int, then: str = "full_attention", others: str = "sliding_attention") -> list[str]:
    return [others if (i + 1) % step else then for i in range(layers)]


CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "TinyLlama": _sizes(22, 2048, 32, 4, 5632, 32000) | {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "max_position_embeddings": 2048, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None, "tie_word_embeddings": False,
    },
    "Llama-3.2-1B": _sizes(16, 2048, 32, 8, 8192, 128256) | {
        "model_type": "llama", "attention_bias": False, "bos_token_id": 128000, "eos_token_id": 128001, "head_dim": 64, "hidden_act": "silu",
        "max_position_embeddings": 131072, "mlp_bias": False, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
        "tie_word_embeddings": True, "rope_scaling": {
            "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3",
        },
    },
    "Mistral-7B-v0.1": _sizes(32, 4096, 32, 8, 14336, 32000) | {
        "model_type": "mistral", "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False,
    },
    "SmolLM3-3B": _sizes(36, 2048, 16, 4, 11008, 128256) | {
        "model_type": "smollm3", "attention_bias": False, "bos_token_id": None, "eos_token_id": 128001, "hidden_act": "silu",
        "layer_types": ["full_attention"] * 36, "max_position_embeddings": 65536, "max_window_layers": 28, "mlp_bias": False,
        "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0] * 9, "pad_token_id": 128004, "pretraining_tp": 2, "rms_norm_eps": 1e-06,
        "rope_scaling": None, "rope_theta": 5000000.0, "sliding_window": None, "use_sliding_window": False,
    },
    "Qwen2.5-0.5B": _sizes(24, 896, 14, 2, 4864, 151936) | {
        "model_type": "qwen2", "bos_token_id": 151643, "eos_token_id": 151643, "hidden_act": "silu", "max_position_embeddings": 32768,
        "max_window_layers": 24, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True,
        "use_mrope": False, "use_sliding_window": False,
    },
    "Qwen3-0.6B": _sizes(28, 1024, 16, 8, 3072, 151936) | {
        "model_type": "qwen3", "attention_bias": False, "bos_token_id": 151643, "eos_token_id": 151643, "head_dim": 128, "hidden_act": "silu",
        "max_position_embeddings": 32768, "max_window_layers": 28, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000,
        "sliding_window": None, "tie_word_embeddings": True, "use_sliding_window": False,
    },
    "gemma-3-1b": _sizes(26, 1152, 4, 1, 6912, 262144) | {
        "model_type": "gemma3_text", "attention_bias": False, "attn_logit_softcapping": None, "bos_token_id": 2, "eos_token_id": 1,
        "cache_implementation": "hybrid", "final_logit_softcapping": None, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 32768, "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6,
    },
    "gemma-3-270m": _sizes(18, 640, 4, 1, 2048, 262144) | {
        "model_type": "gemma3_text", "_sliding_window_pattern": 6, "attention_bias": False, "attn_logit_softcapping": None, "bos_token_id": 2,
        "eos_token_id": 1, "final_logit_softcapping": None, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "layer_types": _every(6, 18), "max_position_embeddings": 32768, "pad_token_id": 0, "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000.0, "rope_scaling": None, "rope_theta": 1000000.0, "sliding_window": 512,
        "use_bidirectional_attention": False,
    },
    "granite-3.0-2b": _sizes(40, 2048, 32, 8, 8192, 49155) | {
        "model_type": "granite", "attention_bias": False, "attention_multiplier": 0.015625, "bos_token_id": 0, "embedding_multiplier": 12.0,
        "eos_token_id": 0, "hidden_act": "silu", "logits_scaling": 8.0, "max_position_embeddings": 4096, "mlp_bias": False,
        "pad_token_id": 0, "residual_multiplier": 0.22, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    },
    "Phi-3-mini-4k": _sizes(32, 3072, 32, 32, 8192, 32064) | {
        "model_type": "phi3", "bos_token_id": 1, "embd_pdrop": 0.0, "eos_token_id": 32000, "hidden_act": "silu", "attention_bias": False,
        "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
        "max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "pad_token_id": 32000, "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0, "sliding_window": 2047, "tie_word_embeddings": False,
    },
    "pythia-160m": _neox(12, 768, 12, 3072, 50304) | {"hidden_act": "gelu", "use_parallel_residual": True},
    "pythia-2.8b": _neox(32, 2560, 32, 10240, 50304) | {
        "attention_dropout": 0.0, "classifier_dropout": 0.1, "hidden_act": "gelu", "hidden_dropout": 0.0, "rope_scaling": None, "attention_bias": True,
        "use_parallel_residual": True,
    },
    "gpt-neox-20b": _neox(44, 6144, 64, 24576, 50432) | {
        "attention_probs_dropout_prob": 0, "hidden_act": "gelu_fast", "hidden_dropout_prob": 0,
    },
    "RedPajama-INCITE-3B": _neox(32, 2560, 32, 10240, 50432) | {"hidden_act": "gelu", "rotary_pct": 1.0, "use_parallel_residual": False},
    "OLMo-2-1B": _sizes(16, 2048, 16, 16, 8192, 100352) | {
        "model_type": "olmo2", "attention_bias": False, "eos_token_id": 100257, "hidden_act": "silu", "max_position_embeddings": 4096,
        "pad_token_id": 100277, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 500000, "tie_word_embeddings": False,
    },
}  # fmt: skip
