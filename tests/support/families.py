"""Small random checkpoints of every family, made by transformers, with predictions sharp enough that a wrong forward pass shows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.support import tiny

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD_DIM, FFN, WINDOW = 4, 64, 4, 2, 16, 128, 24
_COMMON: dict[str, Any] = {
    "num_hidden_layers": LAYERS, "hidden_size": WIDTH, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
    "intermediate_size": FFN, "vocab_size": len(tiny.vocabulary()), "bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
}  # fmt: skip
_SLIDING = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2}


@dataclass(frozen=True)
class Family:
    """A checkpoint.

    Attributes:
        name: of the configuration's class in transformers, without "Config".
        values: of the configuration, beside those that all have.
        without: one change of its config.json, which makes another model of it.
        post_gain: of norms whose names begin with "post": small where they follow a block, so that what it adds is small next to the stream.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    without: dict[str, Any] = field(default_factory=dict)
    post_gain: float = 1.0


def _rope(base: float = 10000.0, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": base} | more}


_LLAMA3 = _rope(1000.0, rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
_GEMMA_ROPE = {
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
    }
}

FAMILIES = {
    "llama": Family("Llama", {"head_dim": HEAD_DIM} | _rope(), _rope(100.0)),
    "llama3": Family("Llama", {"head_dim": HEAD_DIM} | _LLAMA3, _rope(1000.0)),
    "mistral": Family("Mistral", {"head_dim": HEAD_DIM, "sliding_window": WINDOW} | _rope(), {"sliding_window": None}),
    "smollm3": Family("SmolLM3", {"no_rope_layers": [1, 0, 1, 0]} | _rope(), {"no_rope_layers": [1, 1, 1, 1]}),
    "qwen2": Family("Qwen2", _SLIDING | _rope(), {"use_sliding_window": False, "layer_types": None}),
    "qwen3": Family("Qwen3", {"head_dim": HEAD_DIM} | _rope(), _rope(100.0)),
    "gemma3": Family(
        "Gemma3Text", {"head_dim": 32, "sliding_window": WINDOW, "query_pre_attn_scalar": 20, "num_hidden_layers": 7} | _GEMMA_ROPE,
        {"query_pre_attn_scalar": 80}, 0.4,
    ),
    "granite": Family(
        "Granite",
        {"embedding_multiplier": 3.0, "attention_multiplier": 0.1, "residual_multiplier": 0.5, "logits_scaling": 0.7} | _rope(),
        {"residual_multiplier": 1.0},
    ),
    "phi3": Family("Phi3", {"sliding_window": WINDOW} | _rope(), {"sliding_window": None}),
    "olmo2": Family("Olmo2", _rope(), _rope(100.0), 0.1),
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
    for key, weights in model.state_dict().items():
        _fill(key, weights, gain_offset=1.0 if name == "gemma3" else 0.0, post_gain=family.post_gain)
        if outliers and any(f"self_attn.{part}" in key for part in ("q_proj", "k_proj", "qkv_proj", "q_norm", "k_norm")):
            _exaggerate(key, weights)
    return model


def _fill(key: str, weights: torch.Tensor, gain_offset: float, post_gain: float) -> None:
    r = torch.randn(weights.shape)
    if key.endswith("norm.weight"):
        gains = (0.4 * r).exp() * (post_gain if "post_" in key else 1.0)
        weights.copy_(gains - gain_offset)
    elif key.endswith("bias"):
        weights.copy_(0.5 * r)
    elif key.endswith(("lm_head.weight", "embed_tokens.weight")):
        weights.copy_(0.2 * r if gain_offset else 0.25 * r)
    elif key.endswith(("o_proj.weight", "down_proj.weight")):
        weights.copy_(0.15 * r / weights.shape[-1] ** 0.5)  # small next to the stream, as in trained models
    else:
        weights.copy_(r / weights.shape[-1] ** 0.5)


def _exaggerate(key: str, weights: torch.Tensor) -> None:
    """Make the slowest pair of the first head large in keys, and small in queries: a bias of keys is then nearly the same for all of them."""
    slowest = [HEAD_DIM // 2 - 1, HEAD_DIM - 1]
    if "qkv_proj" in key:
        weights[slowest] *= 0.3
        weights[[HEADS * HEAD_DIM + i for i in slowest]] *= 12.0
    elif key.endswith("k_proj.bias"):
        weights[slowest] = torch.tensor([60.0, -40.0])
    else:
        weights[slowest] *= 12.0 if ".k_" in key else 0.3


def write(folder: Path, model: Any) -> Path:
    """Save the model, as transformers does, with the tiny tokenizer."""
    tiny.write_folder(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)
    return folder


def change(folder: Path, values: dict[str, Any]) -> None:
    """Change the configuration in a folder."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@torch.inference_mode()
def sample(model: Any, n: int) -> list[int]:
    """Tokens that the model gives after its first token, at random, without special ones."""
    torch.manual_seed(11)
    ids, cache = [model.config.bos_token_id], None
    for _ in range(n):
        out = model(torch.tensor([ids if cache is None else ids[-1:]]), past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logits = out.logits[0, -1]
        logits[: len(tiny.SPECIAL)] = -1e9
        ids.append(int(torch.multinomial(logits.softmax(-1), 1)))
    return ids[1:]


@torch.inference_mode()
def bits(model: Any, tokens: list[int]) -> float:
    """Sum of -log2 of the probabilities that the model gives to tokens."""
    logits = model(torch.tensor([[model.config.bos_token_id, *tokens[:-1]]])).logits[0].double()
    return float(-logits.log_softmax(-1)[torch.arange(len(tokens)), torch.tensor(tokens)].sum() / np.log(2))
