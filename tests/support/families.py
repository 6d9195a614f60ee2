"""Small random checkpoints of every family, made by transformers, with predictions sharp enough that a wrong forward pass shows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.support import tiny

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD_DIM, FFN, WINDOW = 4, 64, 4, 2, 16, 128, 24
_COMMON: dict[str, Any] = {
    "num_hidden_layers": LAYERS, "hidden_size": WIDTH, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
    "intermediate_size": FFN, "vocab_size": len(tiny.vocabulary()), "bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
}  # fmt: skip
_SLIDING = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}


@dataclass(frozen=True)
class Family:
    """A checkpoint.

    Attributes:
        name: of the configuration's class in transformers, without "Config".
        values: of the configuration, beside those that all have.
        forgotten: what a forward pass could forget, as changes of `ModelConfig` and of `Factors`, which are told apart by their names.
        post_gain: of norms whose names begin with "post", twice that after feed-forward: small where they follow a block, so that it adds little to the stream.
        head: what the head is multiplied by.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    forgotten: tuple[dict[str, Any], ...] = ()
    post_gain: float = 1.0
    head: float = 1.0


def _rope(base: float = 10000.0, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": base} | more}


_LLAMA3 = _rope(1000.0, rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
_GEMMA_ROPE = {
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        "full_attention": {"rope_type": "linear", "factor": 16.0, "rope_theta": 100.0},
    }
}

_NO_WINDOWS: dict[str, Any] = {"layer_windows": ()}
_OTHER_BASE: dict[str, Any] = {"rope_base": 100.0}

FAMILIES = {
    "llama": Family("Llama", {"head_dim": HEAD_DIM} | _rope(), (_OTHER_BASE,)),
    "llama3": Family("Llama", {"head_dim": HEAD_DIM} | _LLAMA3, ({"rope_divisors": ()},)),
    "mistral": Family("Mistral", {"head_dim": HEAD_DIM, "sliding_window": WINDOW} | _rope(), (_NO_WINDOWS,)),
    "smollm3": Family("SmolLM3", {"no_rope_layers": [1, 0, 1, 0]} | _rope(), ({"unrotated_layers": ()}, {"unrotated_layers": (3,)})),
    "qwen2": Family("Qwen2", _SLIDING | _rope(), (_NO_WINDOWS, {"qkv_bias": False})),
    "qwen3": Family("Qwen3", {"head_dim": HEAD_DIM} | _rope(), (_OTHER_BASE, {"head_norm": ""})),
    "gemma3": Family(
        "Gemma3Text", {"head_dim": 32, "sliding_window": WINDOW, "query_pre_attn_scalar": 12, "num_hidden_layers": 7} | _GEMMA_ROPE,
        (
            _NO_WINDOWS, {"rope_divisors": ()}, {"window_rope_base": 10000.0}, {"head_norm": ""}, {"activation": "silu"}, {"post_norm": False},
            {"embed": 1.0}, {"score": 1.0},
        ), 0.5,
    ),
    "granite": Family(
        "Granite",
        {"embedding_multiplier": 3.0, "attention_multiplier": 3.0, "residual_multiplier": 0.5, "logits_scaling": 0.7} | _rope(),
        ({"embed": 1.0}, {"residual": 1.0}, {"score": 1.0}, {"logits": 1.0}),
    ),
    "phi3": Family("Phi3", {"sliding_window": WINDOW} | _rope(), (_NO_WINDOWS,)),
    "gpt_neox": Family(
        "GPTNeoX", {"num_key_value_heads": HEADS, "hidden_act": "gelu"} | _rope(partial_rotary_factor=0.5),
        (
            {"parallel": False}, {"qkv_bias": False}, {"biases": False}, {"activation": "silu"},
            {"rope_base": 10000.0, "rope_divisors": ()}, _OTHER_BASE,
        ),
        head=1.5,
    ),
    "gpt_neox_in_turn": Family(
        "GPTNeoX", {"num_key_value_heads": HEADS, "use_parallel_residual": False} | _rope(partial_rotary_factor=1.0), ({"parallel": True}, _OTHER_BASE),
    ),
    "olmo2": Family("Olmo2", _rope(), (_OTHER_BASE, {"head_norm": ""}, {"post_norm": False}), 0.1),
}  # fmt: skip


@torch.inference_mode()
def checkpoint(name: str, outliers: bool = False, **values: Any) -> Any:
    """A model of transformers with random weights. With `outliers`, some channels of queries and keys, and of their biases, are large.

    `values` of the configuration go before those of the family.
    """
    import transformers

    family = FAMILIES[name]
    config = getattr(transformers, f"{family.name}Config")(**_COMMON | family.values | values)
    torch.manual_seed(7)
    make: Any = transformers.AutoModelForCausalLM.from_config
    model = make(config, attn_implementation="eager").float().eval()
    tensors, gain_offset = model.state_dict(), 1.0 if name == "gemma3" else 0.0
    normed = any("q_norm" in key for key in tensors)  # of what is normed after it, the gain counts
    for key, weights in tensors.items():
        _fill(key, weights, gain_offset, family.post_gain)
        if key == "lm_head.weight":
            weights *= family.head
        if outliers and "query_key_value" in key:
            _exaggerate_partly(key, weights, int(HEAD_DIM * config.rope_parameters["partial_rotary_factor"]))
        if outliers and any(f"self_attn.{part}" in key for part in (("q_norm", "k_norm") if normed else ("q_proj", "k_proj", "qkv_proj"))):
            _exaggerate(key, weights, family.values.get("head_dim", HEAD_DIM), gain_offset if normed else 0.0)
    return model


def _fill(key: str, weights: torch.Tensor, gain_offset: float, post_gain: float) -> None:
    r = torch.randn(weights.shape)
    if key.endswith("norm.weight"):
        gains = (0.4 * r).exp() * (post_gain * (2 if "post_feed" in key else 1) if "post_" in key else 1.0)
        weights.copy_(gains - gain_offset)
    elif key.endswith(("lm_head.weight", "embed_tokens.weight", "embed_in.weight")):
        weights.copy_(0.2 * r if gain_offset else 0.25 * r)
    elif key.endswith(("dense.bias", "dense_4h_to_h.bias")):  # to the stream
        weights.copy_(0.1 * r)
    elif key.endswith("bias"):
        weights.copy_(0.5 * r)
    elif key.endswith(("dense.weight", "dense_4h_to_h.weight")):
        weights.copy_((2.5 if "4h" in key else 0.8) * r / weights.shape[-1] ** 0.5)  # without a gate, feed-forward gives less
    elif key.endswith(("o_proj.weight", "down_proj.weight")):
        weights.copy_(0.15 * r / weights.shape[-1] ** 0.5)  # small next to the stream, as in trained models
    else:
        weights.copy_(r / weights.shape[-1] ** 0.5)


def _exaggerate(key: str, weights: torch.Tensor, size: int, gain_offset: float) -> None:
    """Make the slowest pair of the first head large in keys, and small in queries: a bias of keys is then nearly the same for all of them."""
    slowest = [size // 2 - 1, size - 1]
    if "qkv_proj" in key:
        weights[slowest] *= 0.1
        weights[[HEADS * size + i for i in slowest]] *= 20.0
    elif key.endswith("k_proj.bias"):
        weights[slowest] = torch.tensor([100.0, -80.0])
    else:
        weights[slowest] = (weights[slowest] + gain_offset) * (20.0 if ".k_" in key else 0.1) - gain_offset


def _exaggerate_partly(key: str, weights: torch.Tensor, turning: int) -> None:
    """The same where queries, keys and values of a head lie together, and only the first `turning` values of queries and keys turn."""
    slowest = torch.tensor([turning // 2 - 1, turning - 1])
    weights[slowest] *= 0.1
    if key.endswith("bias"):
        weights[slowest + HEAD_DIM] = torch.tensor([100.0, -80.0])
    else:
        weights[slowest + HEAD_DIM] *= 20.0


def write(folder: Path, model: Any) -> Path:
    """Save the model, as transformers does, with the tiny tokenizer."""
    tiny.write_folder(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)
    return folder


def change(folder: Path, values: dict[str, Any]) -> None:
    """Change the configuration in a folder."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


@torch.inference_mode()
def samples(model: Any, texts: int, n: int) -> NDArray[np.int32]:
    """Tokens that the model gives after its first token, at random, without special ones: [texts, n]."""
    torch.manual_seed(11)
    ids, cache = torch.full((texts, 1), model.config.bos_token_id), None
    for _ in range(n):
        out = model(ids if cache is None else ids[:, -1:], past_key_values=cache, use_cache=True)
        cache, logits = out.past_key_values, out.logits[:, -1]
        logits[:, : len(tiny.SPECIAL)] = -1e9
        ids = torch.cat([ids, torch.multinomial(logits.softmax(-1), 1)], dim=1)
    return ids[:, 1:].numpy().astype(np.int32)


def after_start(bos: int, tokens: NDArray[np.int32]) -> NDArray[np.int32]:
    """What a model has seen last before each token."""
    return np.concatenate([np.full_like(tokens[:, :1], bos), tokens[:, :-1]], axis=1)


def cost(logits: torch.Tensor, tokens: NDArray[np.int32]) -> float:
    """Sum of -log2 of the probabilities of tokens [texts, n], by logits [texts, n, vocab] in natural units."""
    chosen = logits.double().log_softmax(-1).gather(-1, torch.from_numpy(tokens.astype(np.int64))[..., None])
    return float(-chosen.sum() / np.log(2))


@torch.inference_mode()
def bits(model: Any, tokens: NDArray[np.int32]) -> float:
    """Sum of -log2 of the probabilities that the model gives to tokens [texts, n]."""
    return cost(model(torch.from_numpy(after_start(model.config.bos_token_id, tokens).astype(np.int64))).logits, tokens)
