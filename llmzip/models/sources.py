"""Where a model's float weights come from: a GGUF file, or a folder with safetensors."""

from __future__ import annotations

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


def check_gguf_start(start: bytes, size: int, name: str) -> bool:
    """Whether the first bytes of the GGUF file `name`, of `size` bytes in all, hold its header; if so, check that llmzip can run the model.

    Raises:
        ModelFormatError: it cannot, or this is no such file.
    """
    from llmzip.models import gguf_file, gguf_model

    try:
        header = gguf_file.GGUFHeader(start, size)
    except gguf_file.CutShortError:
        if len(start) < min(size, gguf_file.LARGEST_HEADER):
            return False
        raise ModelFormatError(f"{name} is not a readable GGUF file (its header does not end); use another file") from None
    except ValueError as e:
        raise ModelFormatError(f"{name} is not a readable GGUF file ({e}); use another file") from e
    gguf_model.describe(header, name)
    return True
