"""Reading GGUF files: what the header says, and the tensors as float32.

A file may come from anywhere, so nothing it says is believed before it was held against the file's size: counts and lengths cost
no memory, and no more time, than there are bytes to back them.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

LARGEST_HEADER = 1 << 26  # bytes; real ones have some 10 MB at most
_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_DIMENSIONS = 4  # of a tensor, at most
_ALIGNMENT = 32  # of the tensors' bytes, unless the file says otherwise


@dataclass(frozen=True)
class Place:
    """Where a tensor is, and how it is stored."""

    kind: gguf.GGMLQuantizationType
    shape: tuple[int, ...]
    start: int  # in the file
    size: int  # bytes


class CutShortError(ValueError):
    """The header goes on after the bytes that are there."""


class GGUFHeader:
    """The header of a file, read and checked.

    Args:
        data: the file, or its first bytes.
        size: bytes of the whole file.

    Attributes:
        metadata: numbers, strings and lists of strings by name; None for arrays of numbers.
        arrays: the arrays of numbers by name, of the types that the file states.
        places: of the tensors by name.
        shapes: of the tensors by name, rows first.

    Raises:
        CutShortError: `data` ends before the header does.
        ValueError: it is not a GGUF file, or not a sound one.
    """

    def __init__(self, data: bytes | memoryview, size: int) -> None:
        self._size = size
        header = _Fields(memoryview(data)[:LARGEST_HEADER])
        if bytes(header.take(4)) != _MAGIC or header.number("<I") not in _VERSIONS:
            raise ValueError("magic or version differ")
        tensors, entries = header.number("<Q"), header.number("<Q")
        self.metadata: dict[str, Any] = {}
        self.arrays: dict[str, NDArray[Any]] = {}
        for _ in range(entries):
            name, kind = header.string(), header.number("<I")
            if name in self.metadata:
                raise ValueError("an entry is there twice")
            value = header.value(kind)
            if isinstance(value, np.ndarray):
                self.arrays[name], value = value, None
            self.metadata[name] = value
        infos = [header.tensor() for _ in range(tensors)]
        first = header.at + -header.at % self._alignment()
        self.places = {name: self._place(first + offset, kind, shape) for name, kind, shape, offset in infos}
        if len(self.places) < len(infos):
            raise ValueError("a tensor is there twice")
        self.shapes = {name: place.shape for name, place in self.places.items()}

    def _alignment(self) -> int:
        alignment = self.metadata.get("general.alignment", _ALIGNMENT)
        if type(alignment) is not int or not 0 < alignment <= LARGEST_HEADER:
            raise ValueError("the alignment is out of range")
        return alignment

    def _place(self, start: int, kind: int, shape: tuple[int, ...]) -> Place:
        known = gguf.GGMLQuantizationType(kind)
        block, size = gguf.GGML_QUANT_SIZES[known]
        if shape[-1] % block:
            raise ValueError("a row of a tensor is cut short")
        length = math.prod(shape) // block * size
        if start + length > self._size:
            raise ValueError("it ends too early")
        return Place(known, shape, start, length)


class GGUFFile:
    """A file whose header was read and checked.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a GGUF file, or not a sound one.
    """

    def __init__(self, path: Path) -> None:
        self._data: NDArray[np.uint8] = np.memmap(path, np.uint8, "r")
        self.header = GGUFHeader(memoryview(self._data), len(self._data))  # type: ignore[arg-type]

    def tensor(self, name: str) -> NDArray[np.float32]:
        """The values of a tensor, float32 of its shape.

        Raises:
            NotImplementedError: of this kind of quantisation.
        """
        place = self.header.places[name]
        raw = self._data[place.start : place.start + place.size].reshape(*place.shape[:-1], -1)
        with np.errstate(all="ignore"):  # infinities are the caller's affair
            return np.asarray(gguf.dequantize(raw, place.kind), np.float32).reshape(place.shape)


class _Fields:
    """Takes values off the bytes of a header. Any shortage is a CutShortError."""

    def __init__(self, data: memoryview) -> None:
        self._data, self.at = data, 0

    def take(self, n: int) -> memoryview:
        if n > len(self._data) - self.at:
            raise CutShortError("it ends too early, or its header is too large")
        self.at += n
        return self._data[self.at - n : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def string(self) -> str:
        return str(self.take(self.number("<Q")), "utf-8")

    def value(self, kind: int) -> Any:
        """A number, a string, a list of strings, or an array of numbers."""
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        kind, count = self.number("<I") if kind == _ARRAY else -1, self.number("<Q")
        if kind == _STRING:
            return [self.string() for _ in range(count)]  # each takes 8 bytes at least
        if kind not in _SCALARS:
            raise ValueError("a value is of unknown type")
        return np.frombuffer(self.take(count * struct.calcsize(_SCALARS[kind])), _SCALARS[kind]).copy()

    def tensor(self) -> tuple[str, int, tuple[int, ...], int]:
        """Name, kind of quantisation, shape with rows first, and offset."""
        name, dimensions = self.string(), self.number("<I")
        if not 1 <= dimensions <= _DIMENSIONS:
            raise ValueError("a tensor has no dimensions, or too many")
        shape = tuple(self.number("<Q") for _ in range(dimensions))[::-1]
        return name, self.number("<I"), shape, self.number("<Q")
