"""The families of models that llmzip runs: one row each, in which everything is said that differs between them.

A row says what the family computes, in terms of `ModelConfig` and `Factors`; what its tensors are called; and what its configurations may say.
Readers of files, conversion and engine know no families. A new family that computes what the engine can is a new row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmzip.errors import ModelFormatError, quoted
from llmzip.models.float_model import Factors, float32
from llmzip.models.understood import names

# Tensors by our names, without "model.layers.{i}." or "blk.{i}." before and ".weight" or ".bias" behind, biases by the names of their matrices. Parts that
# share a tensor lie in it one after another.
_FOLDER = {
    "embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
_GGUF = {
    "embed": "token_embd", "norm": "output_norm", "head": "output",
    "attn_norm": "attn_norm", "ffn_norm": "ffn_norm", "attn_post_norm": "post_attention_norm", "ffn_post_norm": "post_ffw_norm",
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
    "q_norm": "attn_q_norm", "k_norm": "attn_k_norm", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}  # fmt: skip
_NORMED_AFTER = {"attn_post_norm": "post_attention_layernorm", "ffn_post_norm": "post_feedforward_layernorm"}

Values = Mapping[str, Any]
Said = tuple[dict[str, Any], Factors]  # fields of `ModelConfig`, and factors


def _nothing(_values: Values) -> Said:
    return {}, Factors()


@dataclass(frozen=True)
class Source:
    """How one form of files describes models of a family.

    Attributes:
        name: what the family is called there.
        tensors: names by ours, without what comes before and after them: see `_FOLDER`.
        used: keys of the configuration that `read` reads, beside those of all families.
        fixed: keys that must have one value, likewise.
        ignored: keys that change no logit, likewise.
        read: from the values of a configuration to what they say. May raise KeyError, TypeError, ValueError or ModelFormatError.
        layer: what stands before the names of a layer's tensors in folders, with {} for its number.
        buffers: ends of the names of tensors that are not weights.
    """

    name: str
    tensors: Mapping[str, str]
    used: frozenset[str] = frozenset()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    read: Callable[[Values], Said] = _nothing
    layer: str = "model.layers.{}."
    buffers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """A family.

    Attributes:
        features: fields of `ModelConfig` that all of its models share.
        folder, gguf: how it is described; gguf is None if such files are not read.
        gain_offset: what is added to the gains of norms in folders.
        interleaved: Whether rows of queries and keys are interleaved in GGUF files.
        strict: Whether folders must state what has a default elsewhere.
        tied: Whether the head is the embedding in folders that do not say it.
        layer_norm: Whether norms subtract the mean and have biases, which `models.layer_norm` folds into the weights.
        by_head: Whether parts that share a tensor lie in it head by head, in folders.
        turns_partly: Whether the configuration says how many values of a head turn.
    """

    features: Mapping[str, Any]
    folder: Source
    gguf: Source | None
    gain_offset: float = 0.0
    interleaved: bool = False
    strict: bool = True
    tied: bool = False
    layer_norm: bool = False
    by_head: bool = False
    turns_partly: bool = False


def _check_types(types: Sequence[str], *known: str) -> None:
    if others := sorted(set(types) - set(known)):
        raise ModelFormatError(f"layer_types holds {quoted(others[0])}, which llmzip does not support here; use another model")


def _windows_by_type(c: Values, default: list[str]) -> dict[str, Any]:
    """Windows of layers from `layer_types` and `sliding_window`."""
    types = c.get("layer_types") or default
    _check_types(types, "full_attention", "sliding_attention")
    if "sliding_attention" not in types:
        return {}
    return {"layer_windows": tuple(int(c["sliding_window"]) if t == "sliding_attention" else 0 for t in types)}


def _mistral(c: Values) -> Said:
    window = c.get("sliding_window")
    return ({"layer_windows": (int(window),) * int(c["num_hidden_layers"])} if window else {}), Factors()


def _windows_if_used(c: Values, sees_all: Callable[[int], bool]) -> dict[str, Any]:
    """Windows of layers; where there are no `layer_types`, `sees_all` says which layers have none."""
    if not c.get("use_sliding_window"):
        _check_types(c.get("layer_types") or [], "full_attention")
        return {}
    return _windows_by_type(c, ["full_attention" if sees_all(i) else "sliding_attention" for i in range(int(c["num_hidden_layers"]))])


def _qwen(c: Values) -> Said:
    return _windows_if_used(c, lambda i: i < int(c["max_window_layers"])), Factors()


def _smollm3(c: Values) -> Said:
    turns, layers = c.get("no_rope_layers"), int(c["num_hidden_layers"])
    if turns is None:
        step = int(c["no_rope_layer_interval"])
        turns = [int((i + 1) % step != 0) for i in range(layers)]
    if len(turns) != layers:
        raise ModelFormatError(f"no_rope_layers has {len(turns)} entries for {layers} layers; the file is damaged")
    windows = _windows_if_used(c, lambda i: bool(turns[i]))
    return {"unrotated_layers": tuple(i for i, turn in enumerate(turns) if not turn)} | windows, Factors()


def _gemma_factors(width: int, head_dim: int, scalar: float) -> Factors:
    return Factors(embed=float32(width**0.5), score=float32((head_dim / scalar) ** 0.5))


def _gemma(c: Values) -> Said:
    if not c.get("rope_local_base_freq") and "sliding_attention" not in (c.get("rope_parameters") or {}):
        raise KeyError("rope_local_base_freq")
    step = int(c.get("sliding_window_pattern") or c.get("_sliding_window_pattern") or 6)
    default = ["sliding_attention" if (i + 1) % step else "full_attention" for i in range(int(c["num_hidden_layers"]))]
    return _windows_by_type(c, default), _gemma_factors(int(c["hidden_size"]), int(c["head_dim"]), float(c["query_pre_attn_scalar"]))


def _gemma_gguf(c: Values) -> Said:
    layers, window, head_dim = int(c["block_count"]), int(c["attention.sliding_window"]), int(c["attention.key_length"])
    if layers == 62:
        raise ModelFormatError("the file does not say how the largest Gemma 3 scales attention; use its folder with safetensors")
    windows = tuple(window if (i + 1) % 6 else 0 for i in range(layers))
    fields: dict[str, Any] = {"layer_windows": windows, "window_rope_base": float(c.get("rope.freq_base_swa", 10000.0))}
    if c.get("rope.scaling.type", "none") == "linear":
        fields["rope_divisors"] = (float32(c["rope.scaling.factor"]),) * (head_dim // 2)
    elif c.get("rope.scaling.factor", 1.0) != 1.0:
        raise ModelFormatError("rope.scaling.factor without rope.scaling.type is not supported by llmzip; use another model")
    return fields, _gemma_factors(int(c["embedding_length"]), head_dim, head_dim)


def _granite_factors(c: Values, head_dim: int, embed: str, residual: str, score: str, logits: str) -> Factors:
    by = {name: float32(c[name]) for name in (embed, residual, score, logits)}  # GGUF files have no more digits
    return Factors(by[embed], by[residual], float32(by[score] * head_dim**0.5), float32(1 / by[logits]))


def _granite(c: Values) -> Said:
    head_dim = int(c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"])
    names = ("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling")
    return {}, _granite_factors(c, head_dim, *names)


def _granite_gguf(c: Values) -> Said:
    head_dim = int(c.get("attention.key_length") or c["embedding_length"] // c["attention.head_count"])
    return {}, _granite_factors(c, head_dim, "embedding_scale", "residual_scale", "attention.scale", "logit_scale")


def _neox(c: Values) -> Said:
    if c["hidden_act"] not in _GELU:
        raise ModelFormatError(f"hidden_act is {quoted(c['hidden_act'])}, and llmzip knows {', '.join(_GELU)} here; use another model")
    parallel = c.get("use_parallel_residual")
    return _neox_gguf({"use_parallel_residual": True if parallel is None else parallel})


def _neox_gguf(c: Values) -> Said:
    parallel = c["use_parallel_residual"]
    if type(parallel) is not bool:
        raise TypeError("use_parallel_residual is neither true nor false")
    return {"parallel": parallel}, Factors()


def _every_fourth_unrotated(c: Values) -> Said:
    return {"unrotated_layers": tuple(range(3, int(c["block_count"]), 4))}, Factors()


def _phi3_gguf(c: Values) -> Said:
    window = int(c.get("attention.sliding_window") or 0)
    return ({"layer_windows": (window,) * int(c["block_count"])} if window else {}), Factors()


_SLIDING = names("sliding_window layer_types use_sliding_window max_window_layers")
_SPREAD = {"spread_heads": True}  # all but Llama, whose digests are older: queries and keys of most models have outliers
_PLAIN = _SPREAD | {"plain_stream": True}
_POST_NORMED = _PLAIN | {"pre_norm": False, "post_norm": True, "head_norm": "all"}
_GEMMA = _PLAIN | {"post_norm": True, "head_norm": "head", "activation": "gelu_tanh"}
_NEOX = _PLAIN | {"qkv_bias": True, "biases": True, "gated": False, "activation": "gelu_tanh"}
_GELU = "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"  # the last three are one; the first differs from it by less than rounding does
_NEOX_FOLDER = {
    "embed": "gpt_neox.embed_in", "norm": "gpt_neox.final_layer_norm", "head": "embed_out",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    **dict.fromkeys("qkv", "attention.query_key_value"), "o": "attention.dense", "up": "mlp.dense_h_to_4h", "down": "mlp.dense_4h_to_h",
}  # fmt: skip
_BIASED = _PLAIN | {"qkv_bias": True}
_FUSED = {
    "q": "self_attn.qkv_proj",
    "k": "self_attn.qkv_proj",
    "v": "self_attn.qkv_proj",
    "gate": "mlp.gate_up_proj",
    "up": "mlp.gate_up_proj",
}
_FUSED_GGUF = {"q": "attn_qkv", "k": "attn_qkv", "v": "attn_qkv", "gate": "ffn_up", "up": "ffn_up"}
# What the library has of its own since, beside the code that it was first published with.
_PHI3_CODE = {"auto_map": {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}}

ARCHITECTURES = [
    Architecture({}, Source("llama", _FOLDER), Source("llama", _GGUF), interleaved=True, strict=False),
    Architecture(_SPREAD, Source("mistral", _FOLDER, names("sliding_window"), read=_mistral), None),
    Architecture(
        _SPREAD, Source("smollm3", _FOLDER, _SLIDING | names("no_rope_layers no_rope_layer_interval"), read=_smollm3),
        Source("smollm3", _GGUF, read=_every_fourth_unrotated), interleaved=True, tied=True,
    ),
    Architecture(_BIASED, Source("qwen2", _FOLDER, _SLIDING, {"attention_bias": True, "use_mrope": False}, read=_qwen), Source("qwen2", _GGUF)),
    Architecture(_PLAIN | {"head_norm": "head"}, Source("qwen3", _FOLDER, _SLIDING, read=_qwen), Source("qwen3", _GGUF)),
    Architecture(
        _GEMMA,
        Source(
            "gemma3_text", _FOLDER | _NORMED_AFTER | {"ffn_norm": "pre_feedforward_layernorm"},
            names("sliding_window layer_types sliding_window_pattern _sliding_window_pattern query_pre_attn_scalar rope_local_base_freq"),
            {"hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu_pytorch_tanh", "use_bidirectional_attention": False}, read=_gemma,
        ),
        Source("gemma3", _GGUF, names("attention.sliding_window rope.freq_base_swa rope.scaling.type rope.scaling.factor"), read=_gemma_gguf),
        gain_offset=1.0, tied=True,
    ),
    Architecture(
        _SPREAD, Source("granite", _FOLDER, names("embedding_multiplier attention_multiplier residual_multiplier logits_scaling"), read=_granite),
        Source("granite", _GGUF, names("embedding_scale residual_scale attention.scale logit_scale"), read=_granite_gguf), interleaved=True,
    ),
    Architecture(
        _SPREAD, Source("phi3", _FOLDER | _FUSED, names("sliding_window"), _PHI3_CODE, names("original_max_position_embeddings"), _mistral),
        Source("phi3", _GGUF | _FUSED_GGUF, names("attention.sliding_window"), read=_phi3_gguf),
    ),
    Architecture(_POST_NORMED, Source("olmo2", _FOLDER | _NORMED_AFTER), Source("olmo2", _GGUF)),
    Architecture(
        _NEOX,
        Source(
            "gpt_neox", _NEOX_FOLDER, names("layer_norm_eps use_parallel_residual hidden_act rotary_pct rotary_emb_base partial_rotary_factor"),
            {"attention_bias": True}, names("classifier_dropout attention_probs_dropout_prob hidden_dropout_prob"), _neox,
            "gpt_neox.layers.{}.", (".attention.bias", ".attention.masked_bias"),
        ),
        Source("gptneox", _GGUF | dict.fromkeys("qkv", "attn_qkv"), names("attention.layer_norm_epsilon use_parallel_residual"), read=_neox_gguf),
        layer_norm=True, by_head=True, turns_partly=True,
    ),
]  # fmt: skip


def of_folder(name: object) -> Architecture:
    """The family of a `model_type`. Raise ModelFormatError if there is none."""
    for one in ARCHITECTURES:
        if one.folder.name == name:
            return one
    raise ModelFormatError(f"config.json describes a {quoted(name)} model; {_known([one.folder for one in ARCHITECTURES])}")


def of_gguf(name: object, file: str) -> Architecture:
    """The family of a `general.architecture` that `file` states. Raise ModelFormatError if there is none."""
    for one in ARCHITECTURES:
        if one.gguf and one.gguf.name == name:
            return one
    raise ModelFormatError(f"{file} holds a {quoted(name)} model; {_known([one.gguf for one in ARCHITECTURES if one.gguf])}")


def _known(sources: list[Source]) -> str:
    return f"llmzip runs {', '.join(sorted(s.name for s in sources))}"
