"""Float weights from folders with config.json, tokenizer.json and safetensors, as the transformers library writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from llmzip.errors import ModelFormatError, quoted
from llmzip.models import folder_config
from llmzip.models.config import ModelConfig
from llmzip.models.float_model import Float, FloatModel, Layout, check_no_others, finite, half_split
from llmzip.models.layer_norm import folded
from llmzip.models.tokenizer import TokenizerSpec
from llmzip.models.tokenizer_sources import spec_from_tokenizer_json

CONFIG, TOKENIZER = folder_config.NAME, "tokenizer.json"
OTHER_TOKENIZER = "tokenizer.model"  # of SentencePiece or tiktoken
LARGEST_CONFIG, LARGEST_TOKENIZER = 1 << 20, 1 << 26  # bytes of JSON
_MOST_UNUSED = 1 << 16  # tokens that a vocabulary may be longer than its tokenizer's, before there are weights to prove it


def load(path: Path) -> FloatModel:
    """Open a folder.

    Raises:
        ModelFormatError: files are missing or damaged, or of a model that llmzip cannot run.
    """
    from safetensors import SafetensorError, safe_open

    raw, tokenizer_text = _read(path)
    family, config, factors = folder_config.read(raw)
    where: dict[str, Path] = {}
    found: dict[str, tuple[int, ...]] = {}  # shapes
    try:
        for file in sorted(path.glob("*.safetensors")):
            with safe_open(file, framework="pt") as f:
                for stored in f.keys():  # noqa: SIM118  not a dictionary
                    where[stored], found[stored] = file, tuple(f.get_slice(stored).get_shape())
    except (OSError, SafetensorError) as e:
        raise ModelFormatError(f"{path} holds a damaged safetensors file ({quoted(e)}); fetch it again") from e
    layout = Layout(
        config, family.folder.tensors, family.folder.layer, tied=bool(raw.get("tie_word_embeddings", family.tied)),
        layer_norm=family.layer_norm, by_head=family.by_head,
    )  # fmt: skip
    missing = f"{path} has no tensor {{}}; a safetensors file is missing"
    buffers = {name for name in found if name.endswith((".rotary_emb.inv_freq", *family.folder.buffers))}
    check_no_others(str(path), found, layout.known | buffers)

    def tensor(name: str) -> Float:
        stored, rows = layout.locate(name, found, missing)
        try:
            with safe_open(where[stored], framework="pt") as f:
                values = f.get_slice(stored)[rows] if isinstance(rows, slice) else f.get_tensor(stored)
        except Exception as e:  # the library raises whatever it trips over
            raise ModelFormatError(f"tensor {stored} cannot be read ({quoted(e)}); fetch it again") from e
        if not values.is_floating_point():
            raise ModelFormatError(f"tensor {stored} holds no floating-point numbers; llmzip needs the model's float weights")
        weights = finite(stored, values.float().numpy())
        if isinstance(rows, np.ndarray):
            weights = weights[rows]
        if family.turns_partly and name.rpartition(".")[2].removesuffix("_bias") in ("q", "k"):
            weights = half_split(weights, config)
        return weights + weights.dtype.type(family.gain_offset) if family.gain_offset and weights.ndim == 1 else weights

    layout.locate("embed", found, missing)  # so that there are weights for every token before the tokenizer is believed
    tokenizer = spec_from_tokenizer_json(tokenizer_text, config.vocab)
    return FloatModel(config, tokenizer, folded(tensor) if family.layer_norm else tensor, factors)


def describe(path: Path) -> tuple[ModelConfig, TokenizerSpec]:
    """Configuration and tokenizer, before there are weights. Raises ModelFormatError, as `load`."""
    raw, tokenizer_text = _read(path)
    _, config, _ = folder_config.read(raw)
    return config, spec_from_tokenizer_json(tokenizer_text, min(config.vocab, len(tokenizer_text) + _MOST_UNUSED))


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
