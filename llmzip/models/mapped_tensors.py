"""Reads the tensors of a safetensors file where they lie, mapped into memory, so that processes share them and only what is used is read.

The safetensors library maps files only into torch's tensors, and torch takes long to import.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST_HEADER = 1 << 23  # bytes; 1,024 layers have one of a megabyte
_TYPES = {"I8": "<i1", "U8": "<u1", "I16": "<i2", "I32": "<i4", "F32": "<f4"}  # those of converted models


def header(file: Path) -> tuple[dict[str, Any], int]:
    """The header as JSON, and where the tensors' bytes begin.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file.
    """
    with open(file, "rb") as f:
        length = int.from_bytes(f.read(8), "little")
        if length > _LARGEST_HEADER:
            raise ValueError("the header is too large")
        fields = json.loads(f.read(length))
    if not isinstance(fields, dict):
        raise ValueError("the header is no object")
    return fields, 8 + length


def read(file: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The metadata and the tensors, which cannot be written to.

    Raises:
        OSError: the file cannot be read.
        ValueError, KeyError, TypeError: it is damaged, or of a type that is not read here.
    """
    fields, at = header(file)
    content = np.memmap(file, np.uint8, "r")
    metadata, tensors, first = fields.pop("__metadata__"), {}, at
    for name, field in sorted(fields.items(), key=lambda item: item[1]["data_offsets"]):  # one after another they fill the file
        kind, shape, (start, end) = np.dtype(_TYPES[field["dtype"]]), tuple(field["shape"]), field["data_offsets"]
        size = kind.itemsize * math.prod(shape)
        if min(shape, default=1) < 0 or end - start != size or first + start != at or at + size > len(content):
            raise ValueError(f"{name} does not lie in the file as it should")
        tensors[name] = np.frombuffer(content, kind, math.prod(shape), at).reshape(shape)
        at += size
    if at != len(content):
        raise ValueError("there is more in the file than tensors")
    return metadata, tensors
