"""Cached models as single files, for machines without a network: plain tar archives of exactly two members.

A file may come from anybody. So member names are compared and never used as paths; only ordinary members are accepted, so there are no links to
follow; nothing is compressed, so no file expands; and a model enters the cache only when its bytes match its digests, which for a
registered model are the registry's, or those that the first pull gave.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from llmzip.errors import LLZError, ModelFormatError, ModelMismatchError, ModelUnavailableError
from llmzip.models import pins, resolve, store, tokenizer_library
from llmzip.models.convert import IntegerModel
from llmzip.models.workspace import working_folder
from llmzip.system import streams

_LARGEST = {store.TOKENIZER: 1 << 26, store.WEIGHTS: 1 << 38}  # the members, and the most bytes of each
_PART = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_TAIL = 1 << 16  # of zeros; tar fills up to 10 KiB


class ExportFileError(LLZError):
    """A file is not an exported model, or holds what one must not."""


def export_model(cached: store.CachedModel, sink: BinaryIO) -> None:
    """Check a cached model and write it as one file. The same model always gives the same bytes.

    Raises:
        ModelMismatchError: it is damaged.
    """
    model = resolve.load_cached(cached)
    if cached.tokenizer is None:  # an older version wrote it, without the tokenizer's digest
        cached = store.save(cached.model_id, model)
    for name in _LARGEST:
        with open(cached.folder / name, "rb") as source:
            member = tarfile.TarInfo(name)
            member.size = source.seek(0, 2)
            source.seek(0)
            streams.write(sink, member.tobuf(tarfile.GNU_FORMAT))
            while part := source.read(_PART):
                streams.write(sink, part)
            streams.write(sink, bytes(-member.size % _BLOCK))
    streams.write(sink, bytes(2 * _BLOCK))


def import_model(source: BinaryIO, force: bool = False) -> store.CachedModel:
    """Read an exported file into the cache. With `force`, replace another model of the same ID.

    Raises:
        ExportFileError: it is no such file.
        ModelMismatchError: what it holds does not match its digests, or the registry's.
    """
    with working_folder(store.models_dir(), "incoming") as work:
        folder = work / "model"
        try:
            folder.mkdir()
            _unpack(source, folder)
        except tarfile.HeaderError as e:
            raise ExportFileError(f"is not a file that llmzip models export made ({e}); get another copy") from e
        found = store.describe(folder)
        if found is None or found.tokenizer is None or not resolve.is_cache_id(found.model_id):
            raise ExportFileError("does not hold a model that this version can use; export it again, with this version")
        model = _check(found)
        there = store.find(found.model_id)
        if there is not None and pins.expected(found.model_id) is None and there.digest != found.digest and not force:
            raise ModelMismatchError(f"holds {found.model_id}, and another model of that name is here; use --force to replace that")
        pins.learn(found.model_id, model)
        return store.install(folder, found.model_id)


def _unpack(source: BinaryIO, folder: Path) -> None:
    missing = dict(_LARGEST)
    while any(header := _exactly(source, _BLOCK)):
        member = tarfile.TarInfo.frombuf(header, "ascii", "replace")
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.name not in missing:
            raise ExportFileError(f"holds {member.name!a}, which no file of llmzip models export does; get another copy")
        if not 0 <= member.size <= missing.pop(member.name):
            raise ExportFileError(f"holds {member.name} of {member.size:,} bytes, more than any model has; get another copy")
        if member.size > (free := shutil.disk_usage(folder).free):
            raise ModelUnavailableError(f"holds {member.size:,} bytes, but {folder.parent.parent} has room for {free:,}; make room")
        with open(folder / member.name, "xb") as out:
            for start in range(0, member.size, _PART):
                out.write(_exactly(source, min(_PART, member.size - start)))
        _exactly(source, -member.size % _BLOCK)
    if missing:
        raise ExportFileError(f"lacks {' and '.join(missing)}; get another copy")
    tail = streams.read_all(source, _TAIL + 1)
    if any(tail) or len(tail) > _TAIL:
        raise ExportFileError("goes on after its end; get another copy")


def _exactly(source: BinaryIO, size: int) -> bytes:
    data = streams.read_all(source, size)
    if len(data) < size:
        raise ExportFileError("is not a file that llmzip models export made, or was cut short; get another copy")
    return data


def _check(found: store.CachedModel) -> IntegerModel:
    """Load the model. Raise ModelMismatchError unless it is intact and consistent, and is the right one if it has a registered ID."""
    try:
        model = store.load(found)
        _check_values(model)
    except (ModelMismatchError, ModelFormatError) as e:
        raise ModelMismatchError(f"holds {found.model_id}, but damaged or altered; get another copy") from e
    wanted = pins.expected(found.model_id)
    if wanted and pins.of(model) != wanted:
        raise ModelMismatchError(
            f"holds {found.model_id} with weights {model.digest().hex()}, not the {wanted.digest} that are known here; get that one's export"
        )
    return model


def _check_values(model: IntegerModel) -> None:
    """Refuse what conversion never gives: the lowest integers of a type, or a tokenizer that is written otherwise or that the library refuses."""
    lowest = (t.min(initial=0) == np.iinfo(t.dtype).min for t in model.tensors.values() if t.dtype.kind == "i")
    if any(lowest):
        raise ModelMismatchError("weights are out of range")
    if hashlib.sha256(model.tokenizer.to_json().encode("ascii")).digest() != model.tokenizer.hash:  # of the text as it was found
        raise ModelMismatchError("the tokenizer is not in its canonical form")
    tokenizer_library.check(model.tokenizer)
