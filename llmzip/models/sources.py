"""Reading a model's float weights: GGUF files, and folders with safetensors.

Both give a `FloatModel` in one naming: `embed`, `norm`, `head`, and per layer `q k v o gate up down attn_norm
ffn_norm`; matrices are [outputs, inputs], and q and k rows are ordered for rotation of (i, i + head_dim/2) pairs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmzip.errors import ModelFormatError, quoted
from llmzip.models.config import LlamaConfig
from llmzip.models.tokenizer import TokenizerSpec, spec_from_gguf, spec_from_tokenizer_json

Float = NDArray[np.float32]
LARGEST_CONFIG, LARGEST_TOKENIZER = 1 << 20, 1 << 26  # bytes of JSON
LAYER_PARTS = ("attn_norm", "q", "k", "v", "o", "ffn_norm", "gate", "up", "down")


@dataclass(frozen=True)
class FloatModel:
    """A model before conversion. `tensor(name)` reads one tensor as float32."""

    config: LlamaConfig
    tokenizer: TokenizerSpec
    tensor: Callable[[str], Float]


def load_float_model(path: Path) -> FloatModel:
    """Opens a .gguf file or a folder with config.json, tokenizer.json and safetensors.

    Raises:
        ModelFormatError: the files are missing, damaged, or of another architecture.
    """
    if path.is_dir():
        return _load_folder(path)
    if path.suffix == ".gguf":
        return _load_gguf(path)
    raise ModelFormatError(f"{path} is neither a .gguf file nor a folder with config.json, tokenizer.json and safetensors")


def expected_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor by our names (without `head`, which may be tied to `embed`)."""
    d, q, kv = config.width, config.query_width, config.kv_width
    layer = {
        "attn_norm": (d,), "q": (q, d), "k": (kv, d), "v": (kv, d), "o": (d, q),
        "ffn_norm": (d,), "gate": (config.ffn, d), "up": (config.ffn, d), "down": (d, config.ffn),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"embed": (config.vocab, d), "norm": (d,)}
    return shapes | {f"{i}.{part}": shape for i in range(config.layers) for part, shape in layer.items()}


def _check_shape(name: str, found: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if found != shape:
        raise ModelFormatError(f"tensor {name} has shape {quoted(found)}, expected {shape}; the file is damaged or not a Llama model")


def _checked(name: str, tensor: Float) -> Float:
    if not np.isfinite(tensor).all():
        raise ModelFormatError(f"tensor {name} holds values that are not finite; the file is damaged")
    return np.ascontiguousarray(tensor)


def _float32(value: Any) -> float:
    """Rounded to float32."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


_GGUF_PARTS = {
    "attn_norm": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
    "ffn_norm": "ffn_norm", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}  # fmt: skip
_GGUF_TOP = {"embed": "token_embd.weight", "norm": "output_norm.weight", "head": "output.weight"}


def _load_gguf(path: Path) -> FloatModel:
    from llmzip.models.gguf_file import GGUFFile

    try:
        file = GGUFFile(path)
        meta = file.metadata
        if meta.get("general.architecture") != "llama":
            other = quoted(meta.get("general.architecture"))
            raise ModelFormatError(f"{path.name} holds a {other} model; llmzip runs the Llama architecture")
        heads = int(meta["llama.attention.head_count"])
        width = int(meta["llama.embedding_length"])
        tokens = meta["tokenizer.ggml.tokens"]
        config = LlamaConfig(
            layers=int(meta["llama.block_count"]),
            width=width,
            heads=heads,
            kv_heads=int(meta.get("llama.attention.head_count_kv", heads)),
            head_dim=int(meta.get("llama.attention.key_length", width // heads)),
            ffn=int(meta["llama.feed_forward_length"]),
            vocab=len(tokens),
            rope_base=float(meta.get("llama.rope.freq_base", 10000.0)),
            norm_eps=_float32(meta["llama.attention.layer_norm_rms_epsilon"]),
            bos=int(meta.get("tokenizer.ggml.bos_token_id", 0)),
        )
        if "rope_freqs.weight" in file.shapes or meta.get("llama.rope.scaling.type", "none") != "none":
            raise ModelFormatError(f"{path.name} scales its rotary positions, which llmzip does not support; use another model")
        merges = meta.get("tokenizer.ggml.merges", [])
        tokenizer = spec_from_gguf(meta["tokenizer.ggml.model"], meta.get("tokenizer.ggml.pre", "gpt-2"), tokens, merges)
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError) as e:  # whatever parsing trips over
        raise ModelFormatError(f"{path.name} is not a readable GGUF file ({quoted(e)}); fetch it again") from e
    shapes = expected_shapes(config)

    def tensor(name: str) -> Float:
        layer, _, part = name.rpartition(".")
        stored = f"blk.{layer}.{_GGUF_PARTS[part]}.weight" if layer else _GGUF_TOP[part]
        if name == "head" and stored not in file.shapes:
            stored = _GGUF_TOP["embed"]
        if stored not in file.shapes:
            raise ModelFormatError(f"{path.name} has no tensor {stored}; it is damaged or not a Llama model")
        _check_shape(stored, file.shapes[stored], shapes[name if name != "head" else "embed"])
        try:
            values = _checked(stored, file.tensor(stored))
        except NotImplementedError as e:
            raise ModelFormatError(f"tensor {stored} is quantised in a way that cannot be read; use another file of the model") from e
        if part in ("q", "k") and layer:  # GGUF interleaves the two halves of each head for its own rotation
            n = config.heads if part == "q" else config.kv_heads
            values = values.reshape(n, config.head_dim // 2, 2, config.width).swapaxes(1, 2).reshape(-1, config.width)
        return np.ascontiguousarray(values)

    return FloatModel(config, tokenizer, tensor)


_HF_PARTS = {
    "attn_norm": "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "gate": "mlp.gate_proj", "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}  # fmt: skip
_HF_TOP = {"embed": "model.embed_tokens.weight", "norm": "model.norm.weight", "head": "lm_head.weight"}


def _text(path: Path, most: int) -> str:
    with open(path, "rb") as f:
        data = f.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path.name} has more than {most:,} bytes")
    return data.decode("utf-8")


def _load_folder(path: Path) -> FloatModel:
    from safetensors import SafetensorError, safe_open

    try:
        raw = json.loads(_text(path / "config.json", LARGEST_CONFIG))
        tokenizer_text = _text(path / "tokenizer.json", LARGEST_TOKENIZER)
    except (OSError, ValueError, RecursionError) as e:
        raise ModelFormatError(f"{path} lacks a readable config.json and tokenizer.json ({quoted(e)})") from e
    config = config_from_hf(raw)
    where: dict[str, Path] = {}
    found: dict[str, tuple[int, ...]] = {}  # shapes
    try:
        for file in sorted(path.glob("*.safetensors")):
            with safe_open(file, framework="pt") as f:
                for stored in f.keys():  # noqa: SIM118  not a dictionary
                    where[stored], found[stored] = file, tuple(f.get_slice(stored).get_shape())
    except (OSError, SafetensorError) as e:
        raise ModelFormatError(f"{path} holds a damaged safetensors file ({quoted(e)}); fetch it again") from e
    shapes = expected_shapes(config)

    def locate(name: str) -> str:
        layer, _, part = name.rpartition(".")
        stored = f"model.layers.{layer}.{_HF_PARTS[part]}.weight" if layer else _HF_TOP[part]
        if name == "head" and (raw.get("tie_word_embeddings") or stored not in where):
            stored = _HF_TOP["embed"]
        if stored not in where:
            raise ModelFormatError(f"{path} has no tensor {stored}; a safetensors file is missing")
        _check_shape(stored, found[stored], shapes[name if name != "head" else "embed"])
        return stored

    def tensor(name: str) -> Float:
        stored = locate(name)
        try:
            with safe_open(where[stored], framework="pt") as f:
                values = f.get_tensor(stored)
        except Exception as e:  # the library raises whatever it trips over
            raise ModelFormatError(f"tensor {stored} cannot be read ({quoted(e)}); fetch it again") from e
        if not values.is_floating_point():
            raise ModelFormatError(f"tensor {stored} holds no floating-point numbers; llmzip needs the model's float weights")
        return _checked(stored, values.float().numpy())

    locate("embed")  # so that there are weights for every token before the tokenizer is believed
    return FloatModel(config, spec_from_tokenizer_json(tokenizer_text, config.vocab), tensor)


def config_from_hf(raw: dict[str, Any]) -> LlamaConfig:
    """From the contents of a config.json. Raises ModelFormatError for anything but a plain Llama."""
    try:
        if raw.get("model_type") != "llama":
            raise ModelFormatError(f"config.json describes a {quoted(raw.get('model_type'))} model; llmzip runs the Llama architecture")
        rope = raw.get("rope_parameters") or {}
        scaling = raw.get("rope_scaling") or {}
        kind = rope.get("rope_type") or scaling.get("rope_type") or scaling.get("type") or "default"
        if kind != "default" or raw.get("attention_bias") or raw.get("mlp_bias") or raw.get("hidden_act", "silu") != "silu":
            raise ModelFormatError("config.json asks for rope scaling, biases or an activation llmzip does not support; use another model")
        heads = int(raw["num_attention_heads"])
        bos = raw.get("bos_token_id")
        return LlamaConfig(
            layers=int(raw["num_hidden_layers"]),
            width=int(raw["hidden_size"]),
            heads=heads,
            kv_heads=int(raw.get("num_key_value_heads") or heads),
            head_dim=int(raw.get("head_dim") or raw["hidden_size"] // heads),
            ffn=int(raw["intermediate_size"]),
            vocab=int(raw["vocab_size"]),
            rope_base=float(raw.get("rope_theta") or rope.get("rope_theta") or 10000.0),
            norm_eps=_float32(raw.get("rms_norm_eps", 1e-5)),
            bos=int(bos if bos is not None else 0),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as e:
        raise ModelFormatError(f"config.json cannot be understood ({quoted(repr(e))}); fetch it again") from e
