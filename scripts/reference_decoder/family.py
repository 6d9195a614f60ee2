"""Section 9.5: the families, as their files describe them. Keys of GGUF files are given without the family's name in front."""

import math

import numpy as np

FOLDER_NAMES = {
    "attn_norm": "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "gate": "mlp.gate_proj", "up": "mlp.up_proj",
    "down": "mlp.down_proj", "embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head",
    "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm",
}  # fmt: skip
GGUF_NAMES = {
    "attn_norm": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "ffn_norm": "ffn_norm",
    "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down", "embed": "token_embd", "norm": "output_norm", "head": "output",
    "q_norm": "attn_q_norm", "k_norm": "attn_k_norm", "attn_post_norm": "post_attention_norm", "ffn_post_norm": "post_ffw_norm",
}  # fmt: skip
POST_NORMS = {"attn_post_norm": "post_attention_layernorm", "ffn_post_norm": "post_feedforward_layernorm"}
FUSED = {  # parts that lie in one tensor, one after another: its name in folders and in GGUF files
    "phi3": {
        **dict.fromkeys("qkv", ("self_attn.qkv_proj", "attn_qkv")),
        **dict.fromkeys(("gate", "up"), ("mlp.gate_up_proj", "ffn_up")),
    },
    "gpt_neox": dict.fromkeys("qkv", ("attention.query_key_value", "attn_qkv")),
}
NEOX_NAMES = {
    "attn_norm": "input_layernorm", "o": "attention.dense", "ffn_norm": "post_attention_layernorm", "up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h", "embed": "gpt_neox.embed_in", "norm": "gpt_neox.final_layer_norm", "head": "embed_out",
}  # fmt: skip
FEATURES = {  # members of the configuration that all models of a family have
    **{name: {"spread_heads": True} for name in ("mistral", "smollm3", "granite", "phi3")},
    "qwen2": {"spread_heads": True, "plain_stream": True, "qkv_bias": True},
    "qwen3": {"spread_heads": True, "plain_stream": True, "head_norm": "head"},
    "gemma3": {"spread_heads": True, "plain_stream": True, "post_norm": True, "head_norm": "head", "activation": "gelu_tanh"},
    "olmo2": {"spread_heads": True, "plain_stream": True, "pre_norm": False, "post_norm": True, "head_norm": "all"},
    "gpt_neox": {
        "spread_heads": True, "plain_stream": True, "qkv_bias": True, "biases": True, "gated": False, "activation": "gelu_tanh",
    },
}  # fmt: skip
FAMILIES = ("llama", "mistral", "smollm3", "qwen2", "qwen3", "gemma3", "granite", "phi3", "olmo2", "gpt_neox")
OTHER_NAMES = {"gemma3_text": "gemma3", "gptneox": "gpt_neox"}  # in folders or in GGUF files
INTERLEAVED = ("llama", "smollm3", "granite")  # in GGUF files
TIED = ("gemma3", "smollm3")  # in folders that do not say it
NO_FACTORS = {"embed": 1.0, "residual": 1.0, "score": 1.0, "logits": 1.0}


def folder_names(family):
    """Names of tensors in folders."""
    names = NEOX_NAMES if family == "gpt_neox" else FOLDER_NAMES | (POST_NORMS if family in ("gemma3", "olmo2") else {})
    if family == "gemma3":
        names["ffn_norm"] = "pre_feedforward_layernorm"
    return names | {part: name for part, (name, _) in FUSED.get(family, {}).items()}


def gguf_names(family):
    """Names of tensors in GGUF files."""
    return GGUF_NAMES | {part: name for part, (_, name) in FUSED.get(family, {}).items()}


def windows(types, window):
    """`layer_windows` of layers of these types; none if no layer is of the type that has one."""
    found = [int(window) if kind == "sliding_attention" else 0 for kind in types]
    return {"layer_windows": found} if "sliding_attention" in types else {}


def of_folder(family, settings, h):
    """Members of the configuration, and factors, that config.json gives beside those of section 9.4."""
    layers, window = settings["num_hidden_layers"], settings.get("sliding_window")
    types, members, factors = settings.get("layer_types"), {}, dict(NO_FACTORS)
    if family in ("mistral", "phi3") and window:
        members = windows(["sliding_attention"] * layers, window)
    seeing_all = [i < settings.get("max_window_layers", 0) for i in range(layers)]
    if family == "smollm3":
        step = settings.get("no_rope_layer_interval")
        seeing_all = settings.get("no_rope_layers") or [(i + 1) % step != 0 for i in range(layers)]
        still = [i for i, turns in enumerate(seeing_all) if not turns]
        members |= {"unrotated_layers": still} if still else {}
    if family in ("qwen2", "qwen3", "smollm3") and settings.get("use_sliding_window"):
        members |= windows(types or ["full_attention" if whole else "sliding_attention" for whole in seeing_all], window)
    if family == "gemma3":
        step = settings.get("sliding_window_pattern") or settings.get("_sliding_window_pattern") or 6
        members = windows(types or gemma_types(layers, step), window)
        factors |= gemma_factors(settings["hidden_size"], h, settings["query_pre_attn_scalar"])
    if family == "granite":
        names = ("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling")
        factors = granite_factors([settings[name] for name in names], h)
    if family == "gpt_neox" and settings.get("use_parallel_residual") is not False:
        members["parallel"] = True
    return members, factors


def of_gguf(family, setting, h):
    """The same from the metadata of a GGUF file."""
    layers, window, members, factors = setting["block_count"], setting.get("attention.sliding_window"), {}, dict(NO_FACTORS)
    if family == "smollm3":
        members = {"unrotated_layers": list(range(3, layers, 4))}
    if family == "phi3" and window:
        members = windows(["sliding_attention"] * layers, window)
    if family == "gemma3":
        members = windows(gemma_types(layers, 6), window) | {"window_rope_base": float(setting.get("rope.freq_base_swa", 10000.0))}
        factors |= gemma_factors(setting["embedding_length"], h, h)
        if setting.get("rope.scaling.type") == "linear":
            members["rope_divisors"] = [float(np.float32(setting["rope.scaling.factor"]))] * (h // 2)
    if family == "granite":
        names = ("embedding_scale", "residual_scale", "attention.scale", "logit_scale")
        factors = granite_factors([setting[name] for name in names], h)
    if family == "gpt_neox" and setting["use_parallel_residual"]:
        members["parallel"] = True
    return members, factors


def gemma_types(layers, step):
    """Types of layers: every `step`-th sees all."""
    return ["full_attention" if i % step == step - 1 else "sliding_attention" for i in range(layers)]


def gemma_factors(width, h, scalar):
    """Factors of Gemma."""
    return {"embed": math.sqrt(width), "score": math.sqrt(h / scalar)}


def granite_factors(multipliers, h):
    """Factors of Granite."""
    embed, residual, score, logits = (float(np.float32(x)) for x in multipliers)
    return {"embed": embed, "residual": residual, "score": score * math.sqrt(h), "logits": 1 / logits}
