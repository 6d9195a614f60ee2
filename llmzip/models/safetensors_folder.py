"""Float weights from folders with config.json, tokenizer.json and safetensors, as the transformers library writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmzip.errors import ModelFormatError, quoted
from llmzip.models import rotary, understood
from llmzip.models.config import LlamaConfig
from llmzip.models.float_model import Float, FloatModel, check_no_others, check_shape, expected_shapes, finite, float32
from llmzip.models.tokenizer import TokenizerSpec
from llmzip.models.tokenizer_sources import spec_from_tokenizer_json

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
OTHER_TOKENIZER = "tokenizer.model"  # of SentencePiece or tiktoken
LARGEST_CONFIG, LARGEST_TOKENIZER = 1 << 20, 1 << 26  # bytes of JSON
_MOST_UNUSED = 1 << 16  # tokens that a vocabulary may be longer than its tokenizer's, before there are weights to prove it

_PARTS = {
    "attn_norm": "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "gate": "mlp.gate_proj", "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}  # fmt: skip
_TOP = {"embed": "model.embed_tokens.weight", "norm": "model.norm.weight", "head": "lm_head.weight"}


def load(path: Path) -> FloatModel:
    """Open a folder.

    Raises:
        ModelFormatError: files are missing or damaged, or of a model that llmzip cannot run.
    """
    from safetensors import SafetensorError, safe_open

    raw, tokenizer_text = _read(path)
    config = config_from_json(raw)
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
    buffers = {name for name in found if name.endswith(".rotary_emb.inv_freq")}  # older versions of transformers save them
    check_no_others(str(path), found, {*_TOP.values(), *(_stored(n) for n in shapes), *buffers})

    def locate(name: str) -> str:
        stored = _stored(name)
        if name == "head" and (raw.get("tie_word_embeddings") or stored not in where):
            stored = _TOP["embed"]
        if stored not in where:
            raise ModelFormatError(f"{path} has no tensor {stored}; a safetensors file is missing")
        check_shape(stored, found[stored], shapes[name if name != "head" else "embed"])
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
        return finite(stored, values.float().numpy())

    locate("embed")  # so that there are weights for every token before the tokenizer is believed
    return FloatModel(config, spec_from_tokenizer_json(tokenizer_text, config.vocab), tensor)


def describe(path: Path) -> tuple[LlamaConfig, TokenizerSpec]:
    """Configuration and tokenizer, before there are weights. Raises ModelFormatError, as `load`."""
    raw, tokenizer_text = _read(path)
    config = config_from_json(raw)
    return config, spec_from_tokenizer_json(tokenizer_text, min(config.vocab, len(tokenizer_text) + _MOST_UNUSED))


def config_from_json(raw: Any) -> LlamaConfig:
    """From the contents of a config.json. Raises ModelFormatError for anything but a plain Llama."""
    try:
        if raw.get("model_type") != "llama":
            raise ModelFormatError(f"{CONFIG} describes a {quoted(raw.get('model_type'))} model; llmzip runs the Llama architecture")
        rope = _check_keys(raw)
        heads = int(raw["num_attention_heads"])
        head_dim = int(raw.get("head_dim") or raw["hidden_size"] // heads)
        base = float(raw.get("rope_theta") or rope.get("rope_theta") or 10000.0)
        return LlamaConfig(
            layers=int(raw["num_hidden_layers"]),
            width=int(raw["hidden_size"]),
            heads=heads,
            kv_heads=int(raw.get("num_key_value_heads") or heads),
            head_dim=head_dim,
            ffn=int(raw["intermediate_size"]),
            vocab=int(raw["vocab_size"]),
            rope_base=base,
            norm_eps=float32(raw.get("rms_norm_eps", 1e-5)),
            bos=_start(raw),
            rope_divisors=rotary.divisors(f"{CONFIG}, rope_scaling or rope_parameters,", rope, base, head_dim),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as e:
        raise ModelFormatError(f"{CONFIG} cannot be understood ({quoted(repr(e))}); fetch it again") from e


def _check_keys(raw: dict[str, Any]) -> dict[str, Any]:
    """Refuse what would be computed wrongly; return the parameters of rotation."""
    layers = raw.get("layer_types")
    fixed = understood.HF_FIXED | {"layer_types": ["full_attention"] * len(layers or ())}
    understood.check(CONFIG, raw, understood.HF_USED, understood.HF_IGNORED, fixed)
    return {**(raw.get("rope_scaling") or {}), **(raw.get("rope_parameters") or {})}


def _start(raw: dict[str, Any]) -> int:
    """The token that begins a text; where there is none, the one that ends it, after which models expect another text."""
    for key in ("bos_token_id", "eos_token_id"):
        found = raw.get(key)
        tokens = found if isinstance(found, list) else [] if found is None else [found]
        if tokens:
            return int(tokens[0])
    raise ModelFormatError(f"{CONFIG} has neither bos_token_id nor eos_token_id, and llmzip needs one of them; add it")


def _stored(name: str) -> str:
    """The file's name of one of our tensors."""
    layer, _, part = name.rpartition(".")
    return f"model.layers.{layer}.{_PARTS[part]}.weight" if layer else _TOP[part]


def _read(path: Path) -> tuple[Any, str]:
    """The contents of config.json, and the text of tokenizer.json."""
    if (path / OTHER_TOKENIZER).exists() and not (path / TOKENIZER).exists():
        advice = f"convert it to {TOKENIZER}, as the transformers library does when it saves a fast tokenizer"
        raise ModelFormatError(f"{path} has its tokenizer as {OTHER_TOKENIZER} only, which llmzip does not read; {advice}")
    try:
        return json.loads(_text(path / CONFIG, LARGEST_CONFIG)), _text(path / TOKENIZER, LARGEST_TOKENIZER)
    except (OSError, ValueError, RecursionError) as e:
        raise ModelFormatError(f"{path} lacks a readable {CONFIG} and {TOKENIZER} ({quoted(e)})") from e


def _text(path: Path, most: int) -> str:
    with open(path, "rb") as f:
        data = f.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path.name} has more than {most:,} bytes")
    return data.decode("utf-8")
