"""The models of section 10 of docs/format.md, all of whose numbers come from a formula."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmzip.models.config import ModelConfig
from llmzip.models.convert import IntegerModel, tensor_layout
from llmzip.models.tokenizer import TokenizerSpec


def stated(text: str) -> Iterator[tuple[ModelConfig, list[str]]]:
    """Configurations from the document, each with the cells that its row of the table has."""
    configs = re.findall(r"```config\n(.*?)```", text, re.S)
    rows = dict(re.findall(r"^\| model (\d) \| (.*) \|$", text, re.M))
    for number, config in enumerate(configs, 1):
        yield ModelConfig.from_dict(json.loads(config)), [cell.strip(" `") for cell in rows[str(number)].split("|")]


def model(config: ModelConfig) -> IntegerModel:
    """The model of a configuration."""
    layout = tensor_layout(config).items()
    tensors = {name: _elements(name, k, kind, shape) for k, (name, (kind, shape)) in enumerate(layout)}
    return IntegerModel(config, TokenizerSpec((), (), None), tensors)


def _elements(name: str, k: int, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    n = np.arange(int(np.prod(shape)), dtype=np.uint64)
    mixed = (((n + np.uint64(1)) ** np.uint64(2) + np.uint64(31 * k)) * np.uint64(2654435761)) % np.uint64(2**32)
    t = (mixed >> np.uint64(16)).astype(np.int64) % 255
    if name.endswith(".scale"):
        return ((1 + t) / 2.0**17).astype(np.float32).reshape(shape)
    return (t - 127).astype(kind).reshape(shape) if kind != "float32" else ((t - 127) / 2.0**6).astype(np.float32).reshape(shape)
