"""The cache of converted models on disk.

Each model has a folder with `weights.safetensors` (the integer tensors, memory-mapped when used; the configuration and
the digest in its metadata) and `tokenizer.json`. A folder appears only when it is complete, by renaming.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from llmzip.errors import ModelFormatError, ModelMismatchError, ModelUnavailableError, quoted, reason
from llmzip.models import mapped_tensors
from llmzip.models.config import ModelConfig
from llmzip.models.convert import IntegerModel, tensor_layout, tensor_names, weights_digest
from llmzip.models.tokenizer import TokenizerSpec
from llmzip.models.workspace import working_folder
from llmzip.system import user_folders

WEIGHTS, TOKENIZER = "weights.safetensors", "tokenizer.json"
_LAYOUT = "1"  # version of the converted files; files of another version are converted again


def cache_dir() -> Path:
    """The cache folder: `LLMZIP_CACHE`, else the platform's folder for caches.

    Raises:
        ModelUnavailableError: there is none, as for a user without a home.
    """
    chosen = os.environ.get("LLMZIP_CACHE")
    folder = user_folders.expanded(chosen) if chosen else user_folders.user_cache()
    if folder is None:
        why = f"no home is known for LLMZIP_CACHE={quoted(chosen)}" if chosen else "this user has no home, and so no folder for models"
        raise ModelUnavailableError(f"{why}; set LLMZIP_CACHE to the full name of a folder")
    return folder


@dataclass(frozen=True)
class CachedModel:
    """A converted model on disk, as its metadata describes it."""

    model_id: str
    folder: Path
    digest: bytes
    tokenizer: bytes | None  # hash of the tokenizer; None if an older version wrote it
    config: str  # as JSON; whoever needs it must expect rubbish
    family: str  # the architecture, as the files named it; empty if an older version wrote it

    def size(self) -> int:
        """Bytes on disk."""
        return sum(f.stat().st_size for f in self.folder.iterdir())


def megabytes(size: int) -> str:
    """A size as messages have it."""
    return f"{size / 1e6:.0f} MB" if size >= 500_000 else f"{size / 1e6:.2f} MB"


def models_dir() -> Path:
    """The folder in the cache that holds the models' folders."""
    return cache_dir() / "models"


def folder_for(model_id: str) -> Path:
    """The folder for a model of this ID. It is inside the cache, whatever the ID contains."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", model_id).strip("._")[:80]
    suffix = "" if readable and readable == model_id else "-" + hashlib.sha256(model_id.encode()).hexdigest()[:12]
    return models_dir() / f"{readable}{suffix}"


def lock_for(model_id: str) -> Path:
    """The file that a process locks while it gets this model ready."""
    return cache_dir() / "locks" / f"{folder_for(model_id).name}.lock"


def find(model_id: str) -> CachedModel | None:
    """The cached model of this ID; None if there is none.

    Raises:
        ModelUnavailableError: there is one that this user may not read.
    """
    folder = folder_for(model_id)
    found = describe(folder)
    if found is None:
        _check_readable(folder)
    return found if found is not None and found.model_id == model_id else None


def cached_models() -> Iterator[CachedModel]:
    """All cached models that this user may read.

    Raises:
        ModelUnavailableError: the folder they are in cannot be read.
    """
    root = models_dir()
    try:
        folders = sorted(root.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as e:
        raise ModelUnavailableError(f"the cache folder {root} cannot be read ({reason(e)}); set LLMZIP_CACHE to one that can") from e
    for folder in folders:
        if found := describe(folder):
            yield found


def describe(folder: Path) -> CachedModel | None:
    """The model in a folder, by its metadata; None if there is none, or one of another layout."""
    try:
        meta = mapped_tensors.header(folder / WEIGHTS)[0]["__metadata__"]
        if meta["layout"] != _LAYOUT or not isinstance(meta["id"], str):
            return None
        tokenizer = bytes.fromhex(meta["tokenizer"]) if "tokenizer" in meta else None
        return CachedModel(meta["id"], folder, bytes.fromhex(meta["digest"]), tokenizer, str(meta["config"]), str(meta.get("family", "")))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _check_readable(folder: Path) -> None:
    """Raise ModelUnavailableError if there is a model that this user may not read. Such a model is neither missing nor damaged."""
    for name in (WEIGHTS, TOKENIZER):
        try:
            open(folder / name, "rb").close()
        except PermissionError as e:
            advice = f"let its owner run: chmod -R a+rX {folder}, or set LLMZIP_CACHE to another folder"
            raise ModelUnavailableError(f"{folder / name} cannot be read ({reason(e)}); {advice}") from e
        except OSError:
            pass


def save(model_id: str, model: IntegerModel, family: str = "") -> CachedModel:
    """Write a converted model into the cache; replace what was there. `family` is the architecture, as its files name it, for people to read.

    Raises:
        ModelUnavailableError: it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    meta = {"id": model_id, "layout": _LAYOUT, "digest": model.digest().hex(), "config": json.dumps(model.config.as_dict())}
    meta |= {"tokenizer": model.tokenizer.hash.hex()} | ({"family": family} if family else {})
    with working_folder(models_dir(), "incoming") as work:
        folder = work / "model"
        try:
            folder.mkdir()
            save_file(model.tensors, folder / WEIGHTS, metadata=meta)
            (folder / TOKENIZER).write_text(model.tokenizer.to_json(), "ascii")
            os.chmod(folder / WEIGHTS, stat.S_IMODE((folder / TOKENIZER).stat().st_mode))  # the library lets only the owner read them
        except (OSError, SafetensorError) as e:
            raise ModelUnavailableError(f"model {model_id} cannot be saved in {models_dir()} ({e}); make room, or set LLMZIP_CACHE") from e
        return install(folder, model_id)


def install(folder: Path, model_id: str) -> CachedModel:
    """Move a complete model from a working folder into its place. What was there before moves to the working folder, and is deleted with it."""
    target, complete = folder_for(model_id), describe(folder)
    assert complete is not None
    try:
        with contextlib.suppress(FileNotFoundError):
            os.replace(target, folder.parent / "replaced")
        os.replace(folder, target)
    except OSError as e:  # if the model is not missing, another process installed the same one meanwhile
        if find(model_id) is None:
            raise ModelUnavailableError(f"model {model_id} cannot be put into {target} ({reason(e)}); check that folder") from e
    return replace(complete, folder=target)


def remove(folder: Path) -> None:
    """Delete the folder of a cached model. For other processes it vanishes at once. A link is deleted, not its target.

    Raises:
        ModelUnavailableError: it cannot be deleted.
    """
    with working_folder(models_dir(), "removed") as work:
        try:
            os.replace(folder, work / "model")
        except OSError as e:
            raise ModelUnavailableError(f"{folder} cannot be deleted ({reason(e)}); check its permissions") from e


def load(cached: CachedModel) -> IntegerModel:
    """Map a cached model into memory, and check every byte against its digests.

    Raises:
        ModelMismatchError: the files do not match their digests, or do not fit together.
        ModelUnavailableError: this user may not read them.
    """
    advice = f"remove {cached.folder} and pull the model again"
    try:
        with ThreadPoolExecutor(1) as beside:
            metadata, found = mapped_tensors.read(cached.folder / WEIGHTS)
            config = ModelConfig.from_dict(json.loads(metadata["config"]))
            tensors = {name: found[name] for name in tensor_names(config)}
            digest = beside.submit(weights_digest, config, tensors)
            tokenizer = TokenizerSpec.from_json((cached.folder / TOKENIZER).read_text("ascii"))
        model = IntegerModel(config, tokenizer, tensors)
        # kernels check neither bounds nor values, so both must be as configuration and conversion make them
        fits = {n: (t.dtype.name, t.shape) for n, t in tensors.items()} == tensor_layout(config) and len(tokenizer.tokens) == config.vocab
        if fits:
            model.check_scales()
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ModelFormatError) as e:
        _check_readable(cached.folder)
        raise ModelMismatchError(f"the cached model {cached.model_id} is damaged ({quoted(e)}); {advice}") from e
    if not fits:
        raise ModelMismatchError(f"the tensors, tokenizer and configuration of {cached.model_id} do not fit together; {advice}")
    vars(model)["_digest"] = digest.result()  # the value that the property would compute
    if model.digest() != cached.digest:
        raise ModelMismatchError(f"the cached weights of {cached.model_id} do not match their digest; {advice}")
    if cached.tokenizer not in (None, tokenizer.hash):
        raise ModelMismatchError(f"the cached tokenizer of {cached.model_id} does not match its digest; {advice}")
    return model
