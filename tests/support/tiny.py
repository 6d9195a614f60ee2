"""A tiny Llama made from a seed, as a folder any loader of the project can read. Nothing is downloaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from llmzip.models.config import ModelConfig
from llmzip.models.float_model import expected_shapes
from llmzip.models.tokenizer import byte_characters

# No token stands for these bytes, as in real vocabularies.
MISSING = (0x04, 0x06, 0xC0, 0xC1, 0xF5, 0xFF)
MERGES = ["t h", "th e", "Ġ the", "i n", "a n", "an d", "Ġ and", "e r", "o u", "Ġ t", "Ġ a", "in g", "r e", "Ċ Ċ"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

_HF = {
    "attn_norm": "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "gate": "mlp.gate_proj", "up": "mlp.up_proj",
    "down": "mlp.down_proj", "embed": "model.embed_tokens", "norm": "model.norm",
}  # fmt: skip


def gaussians(seed: str, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """Roughly normal float32 values that are the same in every version of every library."""
    n = int(np.prod(shape))
    raw = np.frombuffer(hashlib.shake_256(seed.encode()).digest(8 * n), dtype=np.uint8).reshape(n, 8)
    return ((raw.astype(np.float32).sum(axis=1) - 1020.0) * np.float32(scale / 209.0)).reshape(shape)  # type: ignore[no-any-return]


def vocabulary() -> list[str]:
    """Special tokens, bytes, then merges."""
    characters = [c for c, b in byte_characters().items() if b not in MISSING]
    return SPECIAL + characters + [m.replace(" ", "") for m in MERGES]


def config(layers: int = 2, head_dim: int = 16) -> ModelConfig:
    """The tiny model's shape."""
    return ModelConfig(
        layers=layers, width=64, heads=4, kv_heads=2, head_dim=head_dim, ffn=128, vocab=len(vocabulary()),
        rope_base=10000.0, norm_eps=float(np.float32(1e-5)), bos=1,
    )  # fmt: skip


def log_frequencies() -> np.ndarray:
    """Rough natural logarithms of how often each token occurs in English, so that the tiny model beats storing."""
    order = "\u0120etaoinshrdlu,.\u010acmfywgpbvk"
    values = np.full(len(vocabulary()), -9.0, dtype=np.float32)
    for i, token in enumerate(vocabulary()):
        if token in order:
            values[i] = np.float32(-2.0 - 0.13 * order.index(token))
        elif token in {m.replace(" ", "") for m in MERGES}:
            values[i] = np.float32(-4.0)
    return values


def write_folder(folder: Path, seed: str = "tiny", c: ModelConfig | None = None) -> Path:
    """config.json, tokenizer.json and model.safetensors of a tiny model."""
    c = c or config()
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, shape in expected_shapes(c).items():
        layer, _, part = name.rpartition(".")
        stored = f"model.layers.{layer}.{_HF[part]}.weight" if layer else f"{_HF[part]}.weight"
        if len(shape) == 1:
            tensors[stored] = 1.0 + gaussians(f"{seed} {name}", shape, 0.1)
        else:
            tensors[stored] = gaussians(f"{seed} {name}", shape, 1.0 if part == "embed" else shape[1] ** -0.5)
    settings = {
        "model_type": "llama", "num_hidden_layers": c.layers, "hidden_size": c.width, "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads, "head_dim": c.head_dim, "intermediate_size": c.ffn, "vocab_size": c.vocab,
        "rope_theta": c.rope_base, "rms_norm_eps": 1e-5, "bos_token_id": c.bos, "tie_word_embeddings": False,
    }  # fmt: skip
    # All hidden states share a direction, along which the head holds how frequent each token is.
    shared = np.sign(gaussians(f"{seed} shared", (c.width,), 1.0))
    tensors["model.embed_tokens.weight"] += 2 * shared
    head = gaussians(f"{seed} head", (c.vocab, c.width), 0.02)
    tensors["lm_head.weight"] = head + log_frequencies()[:, None] * shared / np.float32(0.9 * c.width)
    save_file({k: np.ascontiguousarray(v, dtype=np.float32) for k, v in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(settings))
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": s, "special": True} for i, s in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(vocabulary())}, "merges": MERGES},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def sentencepiece() -> dict[str, Any]:
    """A tokenizer.json with byte fallback, of as many tokens as the tiny model has."""
    others = [*(f"<0x{b:02X}>" for b in MISSING), "\u2581", "t", "h", "e", "th", "the", "\u2581the", "\n"]
    bytes_in_order = [f"<0x{byte_characters()[c]:02X}>" for c in vocabulary()[3:-14]]  # as frequent as in the tiny model's own tokenizer
    tokens = ["<unk>", "<s>", "</s>", *bytes_in_order, *others]
    assert len(tokens) == config().vocab
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": tokens[i], "special": i < 3, **flags} for i in (0, 1, 2, len(tokens) - 1)],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": None,
        "model": {
            "type": "BPE", "byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>", "vocab": {t: i for i, t in enumerate(tokens)},
            "merges": [["t", "h"], ["th", "e"], ["\u2581", "the"]],
        },
    }  # fmt: skip
