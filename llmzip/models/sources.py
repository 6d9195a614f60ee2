"""Where a model's float weights come from: a GGUF file, or a folder with safetensors."""

from __future__ import annotations

import json
from pathlib import Path

from llmzip.errors import ModelFormatError
from llmzip.models import safetensors_folder
from llmzip.models.float_model import FloatModel

SUFFIX = ".gguf"


def load_float_model(path: Path) -> FloatModel:
    """Opens a .gguf file or a folder with config.json, tokenizer.json and safetensors.

    Raises:
        ModelFormatError: the files are missing, damaged, or of a model that llmzip cannot run.
    """
    if path.is_dir():
        return safetensors_folder.load(path)
    if path.suffix.lower() == SUFFIX:
        from llmzip.models import gguf_model

        return gguf_model.load(path)
    raise ModelFormatError(f"{path} is neither a {SUFFIX} file nor a folder with config.json, tokenizer.json and safetensors")


def family_of(path: Path) -> str:
    """The architecture of a model that `load_float_model` opens, as its files name it."""
    if path.is_dir():
        return str(json.loads((path / safetensors_folder.CONFIG).read_text("utf-8")).get("model_type", ""))
    from llmzip.models.gguf_file import GGUFFile

    return str(GGUFFile(path).header.metadata.get("general.architecture", ""))
