"""What a model's config.json says, as a configuration of the engine."""

from __future__ import annotations

from typing import Any

from llmzip.errors import ModelFormatError, quoted
from llmzip.models import architectures, rotary, understood
from llmzip.models.architectures import Architecture
from llmzip.models.config import ModelConfig
from llmzip.models.float_model import Factors, float32

NAME = "config.json"
_ROPE = f"{NAME}, rope_scaling or rope_parameters,"


def read(raw: Any) -> tuple[Architecture, ModelConfig, Factors]:
    """From the contents of the file. Raises ModelFormatError for what llmzip does not compute."""
    try:
        family = architectures.of_folder(raw.get("model_type"))
        _check(raw, family)
        features, factors = family.folder.read(raw)
        return family, ModelConfig(**{**_sizes(raw, family), **_positions(raw, family), **family.features, **features}), factors
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as e:
        raise ModelFormatError(f"{NAME} cannot be understood ({quoted(repr(e))}); fetch it again") from e


def _check(raw: dict[str, Any], family: Architecture) -> None:
    """Refuse what would be computed wrongly."""
    source, layers = family.folder, raw.get("layer_types")
    fixed = understood.HF_FIXED | {"layer_types": ["full_attention"] * len(layers or ())} | dict(source.fixed)
    understood.check(NAME, raw, understood.HF_USED | source.used, understood.HF_IGNORED | source.ignored, fixed)


def _sizes(raw: dict[str, Any], family: Architecture) -> dict[str, Any]:
    heads, eps = int(raw["num_attention_heads"]), "layer_norm_eps" if family.layer_norm else "rms_norm_eps"
    return {
        "layers": int(raw["num_hidden_layers"]),
        "width": int(raw["hidden_size"]),
        "heads": heads,
        "kv_heads": int(raw.get("num_key_value_heads") or heads),
        "head_dim": _head_dim(raw),
        "ffn": int(raw["intermediate_size"]),
        "vocab": int(raw["vocab_size"]),
        "norm_eps": float32(raw[eps] if family.strict else raw.get(eps, 1e-5)),
        "bos": _start(raw),
    }


def _head_dim(raw: dict[str, Any]) -> int:
    return int(raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"])


def _positions(raw: dict[str, Any], family: Architecture) -> dict[str, Any]:
    """How positions are rotated: in one way, or in one for layers that see all and one for those with a window."""
    rope = {**(raw.get("rope_scaling") or {}), **(raw.get("rope_parameters") or {})}
    windowed: float | None = raw.get("rope_local_base_freq")
    if "full_attention" in rope:
        both = rope.pop("full_attention"), rope.pop("sliding_attention")
        if rope:
            raise ModelFormatError(f"{_ROPE} sets {quoted(next(iter(rope)))} beside two kinds of layers, which llmzip does not support")
        rope, local = both
        if rotary.divisors(_ROPE, local, 10000.0, 4):
            raise ModelFormatError(
                f"{_ROPE} scales the positions of layers with a window, which llmzip does not support; use another model"
            )
        windowed = float(local["rope_theta"])
    base = rope.get("rope_theta") or raw.get("rope_theta") or raw.get("rotary_emb_base") or (None if family.strict else 10000.0)
    if base is None:
        raise KeyError("rope_theta")
    head_dim, turning = _head_dim(raw), _turning(raw, rope) if family.turns_partly else _head_dim(raw)
    base, divisors = rotary.partly(float(base), head_dim, turning, rotary.divisors(_ROPE, rope, float(base), min(turning, head_dim)))
    return {"rope_base": base, "rope_divisors": divisors, "window_rope_base": float(windowed or 0.0)}


def _turning(raw: dict[str, Any], rope: dict[str, Any]) -> int:
    """How many values of a head turn; the share of them is taken out of `rope`."""
    shares = rope.pop("partial_rotary_factor", None), raw.get("partial_rotary_factor"), raw.get("rotary_pct")
    share = next((s for s in shares if s is not None), None)
    if share is None:
        raise KeyError("partial_rotary_factor")
    return int(_head_dim(raw) * float(share))


def _start(raw: dict[str, Any]) -> int:
    """The token that begins a text; where there is none, the one that ends it, after which models expect another text."""
    for key in ("bos_token_id", "eos_token_id"):
        found = raw.get(key)
        tokens = found if isinstance(found, list) else [] if found is None else [found]
        if tokens:
            return int(tokens[0])
    raise ModelFormatError(f"{NAME} has neither bos_token_id nor eos_token_id, and llmzip needs one of them; add it")
