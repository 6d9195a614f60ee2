"""Files of tensors, mapped into memory: the same as their library reads, and damaged ones are refused."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from llmzip.errors import ModelMismatchError
from llmzip.models import mapped_tensors, store
from llmzip.models.convert import IntegerModel
from llmzip.models.store import CachedModel

Fields = dict[str, Any]
REFUSED = (ValueError, KeyError, TypeError)
TENSORS: dict[str, Any] = {
    "a": np.arange(-6, 6, dtype=np.int8).reshape(3, 4),
    "b": np.linspace(0, 1, 5, dtype=np.float32),
    "c": np.arange(7, dtype=np.uint8),
    "d": np.arange(6, dtype=np.int32).reshape(1, 2, 3),
    "e": np.arange(2, dtype=np.int16),
    "none": np.empty((0, 3), np.float32),
    "one": np.array(5, np.int32),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "tensors", metadata={"it": "is"})
    return tmp_path / "tensors"


@pytest.fixture
def cached(tiny_model: IntegerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CachedModel:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    return store.save("it", tiny_model)


def parts(file: Path) -> tuple[Fields, bytes]:
    """The header, and what comes after it."""
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def put(file: Path, header: object, tensors: bytes, length: int | None = None) -> None:
    written = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(written) if length is None else length) + written + tensors)


def test_as_the_library_reads_it(file: Path) -> None:
    metadata, found = mapped_tensors.read(file)
    assert metadata == {"it": "is"}
    expected = load_file(file)
    assert found.keys() == expected.keys() == TENSORS.keys()
    for name, tensor in found.items():
        assert (tensor.dtype, tensor.shape) == (expected[name].dtype, expected[name].shape)
        assert np.array_equal(tensor, expected[name])


def test_it_is_mapped_and_cannot_be_written(file: Path) -> None:
    found = mapped_tensors.read(file)[1]
    for tensor in found.values():
        with pytest.raises(ValueError, match="read-only"):
            tensor[...] = 1
    content = bytearray(file.read_bytes())
    at = content.index(TENSORS["c"].tobytes())
    with open(file, "r+b") as f:
        os.pwrite(f.fileno(), b"\xff", at)
    assert found["c"][0] == 255


def test_the_cached_model(cached: CachedModel, tiny_model: IntegerModel) -> None:
    found = store.load(cached)
    assert (found.digest(), found.config) == (tiny_model.digest(), tiny_model.config)
    for name, tensor in tiny_model.tensors.items():
        assert np.array_equal(found.tensors[name], tensor)


def _first(header: Fields) -> Fields:
    """The field of the tensor that lies first, of those that have bytes."""
    fields = [field for name, field in header.items() if name != "__metadata__"]
    return min((f for f in fields if f["data_offsets"][1] > f["data_offsets"][0]), key=lambda f: f["data_offsets"])


def _second(header: Fields) -> Fields:
    start = _first(header)["data_offsets"][1]
    return next(f for n, f in header.items() if n != "__metadata__" and f["data_offsets"][0] == start < f["data_offsets"][1])


def _set(of: Callable[[Fields], Fields], key: str, change: Callable[[Any], Any]) -> Callable[[Fields], None]:
    def damage(header: Fields) -> None:
        of(header)[key] = change(of(header)[key])

    return damage


def _overlap(header: Fields) -> None:
    """The second tensor begins in the first one, and is as long as before."""
    field, before = _second(header), _first(header)["data_offsets"]
    length = field["data_offsets"][1] - field["data_offsets"][0]
    field["data_offsets"] = [before[0], before[0] + length]


FIELDS: dict[str, Callable[[Fields], object]] = {
    "an end beyond the file": _set(_first, "data_offsets", lambda o: [o[0], 1 << 40]),
    "a start beyond the file": _set(_first, "data_offsets", lambda o: [1 << 40, (1 << 40) + o[1]]),
    "an end before the start": _set(_first, "data_offsets", lambda o: o[::-1]),
    "a negative start": _set(_first, "data_offsets", lambda o: [o[0] - 8, o[1] - 8]),
    "a shorter part": _set(_first, "data_offsets", lambda o: [o[0], o[1] - 1]),
    "one offset": _set(_first, "data_offsets", lambda o: o[:1]),
    "three offsets": _set(_first, "data_offsets", lambda o: [*o, 9]),
    "offsets as text": _set(_first, "data_offsets", lambda o: [str(x) for x in o]),
    "offsets that are no integers": _set(_first, "data_offsets", lambda o: [x + 0.5 for x in o]),
    "no number": _set(_first, "data_offsets", lambda o: [float("nan"), o[1]]),
    "endless": _set(_first, "data_offsets", lambda o: [o[0], float("inf")]),
    "no offsets": lambda header: _first(header).pop("data_offsets"),
    "overlapping tensors": _overlap,
    "a gap": _set(_second, "data_offsets", lambda o: [o[0] + 4, o[1] + 4]),
    "a larger shape": _set(_first, "shape", lambda s: [s[0] + 1, *s[1:]]),
    "two negative sizes": _set(_first, "shape", lambda s: [-1, -1, *s]),
    "a negative size": _set(_first, "shape", lambda s: [-x for x in s]),
    "an enormous shape": _set(_first, "shape", lambda s: [1 << 62, 1 << 62, *s]),
    "a shape of text": _set(_first, "shape", lambda s: ["3"]),
    "a shape that is none": _set(_first, "shape", lambda s: 3),
    "a shape of lists": _set(_first, "shape", lambda s: [s]),
    "no shape": lambda header: _first(header).pop("shape"),
    "an unknown type": _set(_first, "dtype", lambda _: "F64"),
    "a type of numpy": _set(_first, "dtype", lambda _: "<f4"),
    "objects": _set(_first, "dtype", lambda _: "O"),
    "a type that is a list": _set(_first, "dtype", lambda _: ["I8"]),
    "another type of another size": _set(_first, "dtype", lambda t: "I8" if t != "I8" else "I16"),
    "no type": lambda header: _first(header).pop("dtype"),
    "a field that is none": lambda header: header.update(extra=5),
    "a tensor more": lambda header: header.update(extra=dict(_first(header))),
    "no metadata": lambda header: header.pop("__metadata__"),
}


@pytest.mark.parametrize("damage", FIELDS)
def test_wrong_fields(file: Path, cached: CachedModel, damage: str) -> None:
    for damaged in (file, cached.folder / store.WEIGHTS):
        header, tensors = parts(damaged)
        FIELDS[damage](header)
        put(damaged, header, tensors)
        with pytest.raises(REFUSED):
            mapped_tensors.read(damaged)
    with pytest.raises(ModelMismatchError, match="damaged"):
        store.load(cached)


FILES: dict[str, Callable[[Fields, bytes], tuple[object, bytes, int | None]]] = {
    "nothing after the header": lambda header, _: (header, b"", None),
    "a byte missing": lambda header, tensors: (header, tensors[:-1], None),
    "a byte more": lambda header, tensors: (header, tensors + b"\0", None),
    "a header longer than the file": lambda header, tensors: (header, tensors, 1 << 22),
    "a giant header": lambda header, tensors: (json.dumps(header).encode() + b" " * (9 << 20), tensors, None),
    "a header of the largest number": lambda header, tensors: (header, tensors, (1 << 64) - 1),
    "a header cut": lambda header, tensors: (header, tensors, 100),
    "no header": lambda header, tensors: (b"", tensors, None),
    "no object": lambda header, tensors: ([1, 2], tensors, None),
    "no JSON": lambda header, tensors: (b"\xff{}", tensors, None),
    "nested": lambda header, tensors: (b'{"a":' * 100_000, tensors, None),
}


@pytest.mark.parametrize("damage", FILES)
def test_wrong_files(file: Path, cached: CachedModel, damage: str) -> None:
    for damaged in (file, cached.folder / store.WEIGHTS):
        put(damaged, *FILES[damage](*parts(damaged)))
        with pytest.raises((*REFUSED, RecursionError)):
            mapped_tensors.read(damaged)
    with pytest.raises(ModelMismatchError, match="damaged"):
        store.load(cached)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 40])
def test_files_that_are_cut_early(cached: CachedModel, length: int) -> None:
    weights = cached.folder / store.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:length])
    with pytest.raises(REFUSED):
        mapped_tensors.read(weights)
    with pytest.raises(ModelMismatchError, match=f"damaged.*; remove {re.escape(str(cached.folder))} and pull"):
        store.load(cached)


def test_tensors_that_are_exchanged(cached: CachedModel) -> None:
    """The file is in order then, and its digest is not."""
    weights = cached.folder / store.WEIGHTS
    header, tensors = parts(weights)
    one, other = header["0.o"], header["1.o"]
    one["data_offsets"], other["data_offsets"] = other["data_offsets"], one["data_offsets"]
    put(weights, header, tensors)
    with pytest.raises(ModelMismatchError, match="do not match their digest"):
        store.load(cached)


@given(st.integers(0, 1 << 30), st.integers(1, 255))
@settings(max_examples=200)
def test_any_byte_of_the_header(tmp_path_factory: pytest.TempPathFactory, at: int, change: int) -> None:
    """Something is read, or it is refused; what is read lies in the file."""
    file = tmp_path_factory.getbasetemp() / "changed"
    save_file(TENSORS, file, metadata={"it": "is"})
    content = bytearray(file.read_bytes())
    content[at % (len(content) - len(parts(file)[1]))] ^= change
    file.write_bytes(content)
    try:
        found = mapped_tensors.read(file)[1]
    except REFUSED:
        return
    assert sum(tensor.nbytes for tensor in found.values()) <= len(content)
    for tensor in found.values():
        tensor.sum()
