"""Float weights from GGUF files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from llmzip.errors import ModelFormatError, quoted
from llmzip.models import gguf_config
from llmzip.models.architectures import Architecture
from llmzip.models.config import ModelConfig
from llmzip.models.float_model import Factors, Float, FloatModel, Layout, check_no_others, check_shape, finite, half_split
from llmzip.models.gguf_file import LARGEST_HEADER, CutShortError, GGUFFile, GGUFHeader
from llmzip.models.layer_norm import folded
from llmzip.models.tokenizer import TokenizerSpec
from llmzip.models.tokenizer_sources import spec_from_gguf

_DIVISORS = "rope_freqs.weight"


def load(path: Path) -> FloatModel:
    """Open a GGUF file.

    Raises:
        ModelFormatError: it is damaged, or of a model that llmzip cannot run.
    """
    try:
        file = GGUFFile(path)
    except (OSError, ValueError) as e:
        raise _unreadable(path.name, e) from e
    family, config, factors, tokenizer = _understand(file.header, path.name)
    shapes = file.header.shapes

    def read(stored: str) -> Float:
        try:
            return finite(stored, file.tensor(stored))
        except NotImplementedError as e:
            raise ModelFormatError(f"tensor {stored} is quantised in a way that cannot be read; use another file of the model") from e

    if _DIVISORS in shapes:
        config = replace(config, rope_divisors=tuple(map(float, read(_DIVISORS))))
    layout = _layout(family, config)

    def tensor(name: str) -> Float:
        stored, rows = layout.locate(name, shapes, f"{path.name} has no tensor {{}}; it is damaged or not of a supported model")
        values = read(stored)[slice(None) if rows is None else rows]
        part = name.rpartition(".")[2].removesuffix("_bias")
        if family.interleaved and part in ("q", "k"):  # the two halves of each head alternate, for the format's own rotation
            heads = config.heads if part == "q" else config.kv_heads
            values = values.reshape(heads, config.head_dim // 2, 2, -1).swapaxes(1, 2).reshape(values.shape)
        elif family.turns_partly and part in ("q", "k"):
            values = half_split(values, config)
        return np.ascontiguousarray(values)

    return FloatModel(config, tokenizer, folded(tensor) if family.layer_norm else tensor, factors)


def describe(header: GGUFHeader, name: str) -> tuple[ModelConfig, TokenizerSpec]:
    """Configuration and tokenizer from the header of the file `name`, but for divisors of positions. Raises ModelFormatError, as `load`."""
    _, config, _, tokenizer = _understand(header, name)
    return config, tokenizer


def check_start(start: bytes, size: int, name: str) -> bool:
    """Whether the first bytes of the file `name`, of `size` bytes in all, hold its header; if so, check that llmzip can run the model.

    Raises:
        ModelFormatError: it cannot, or this is no such file.
    """
    try:
        header = GGUFHeader(start, size)
    except CutShortError as e:
        if len(start) < min(size, LARGEST_HEADER):
            return False
        raise _unreadable(name, ValueError("its header does not end")) from e
    except ValueError as e:
        raise _unreadable(name, e) from e
    describe(header, name)
    return True


def _understand(header: GGUFHeader, name: str) -> tuple[Architecture, ModelConfig, Factors, TokenizerSpec]:
    meta = header.metadata
    try:
        family, config, factors = gguf_config.read(meta, name)
        tokenizer = spec_from_gguf(meta, header.arrays)
    except (ValueError, KeyError, TypeError, ArithmeticError) as e:  # whatever parsing trips over
        raise _unreadable(name, e) from e
    check_no_others(name, header.shapes, {_DIVISORS, *_layout(family, config).known})
    if _DIVISORS in header.shapes:
        check_shape(_DIVISORS, header.shapes[_DIVISORS], (config.head_dim // 2,))
    return family, config, factors, tokenizer


def _layout(family: Architecture, config: ModelConfig) -> Layout:
    assert family.gguf
    return Layout(config, family.gguf.tensors, "blk.{}.", layer_norm=family.layer_norm)


def _unreadable(name: str, e: Exception) -> ModelFormatError:
    return ModelFormatError(f"{name} is not a readable GGUF file ({quoted(e)}); fetch it again")
