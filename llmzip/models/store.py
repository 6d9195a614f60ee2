"""The cache of converted models on disk.

Each model has a folder with `weights.safetensors` (the integer tensors, memory-mapped when used; the configuration and
the digest in its metadata) and `tokenizer.json`. Folders appear whole, by renaming.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from llmzip.errors import ModelFormatError, ModelMismatchError
from llmzip.models.config import LlamaConfig
from llmzip.models.convert import IntegerModel, tensor_names, weights_digest
from llmzip.models.tokenizer import TokenizerSpec

_WEIGHTS, _TOKENIZER = "weights.safetensors", "tokenizer.json"
_LAYOUT = "1"  # of the converted files; others are converted again


def cache_dir() -> Path:
    """`LLMZIP_CACHE`, else the platform's folder for caches."""
    if chosen := os.environ.get("LLMZIP_CACHE"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("llmzip", appauthor=False))


@dataclass(frozen=True)
class CachedModel:
    """A converted model on disk, by what its metadata says."""

    model_id: str
    folder: Path
    digest: bytes

    def size(self) -> int:
        """Bytes on disk."""
        return sum(f.stat().st_size for f in self.folder.iterdir())


def folder_for(model_id: str) -> Path:
    """Where a model of this ID is kept; never outside the cache, whatever the ID holds."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", model_id).strip("._")[:80]
    suffix = "" if readable == model_id else "-" + hashlib.sha256(model_id.encode()).hexdigest()[:12]
    return cache_dir() / "models" / f"{readable}{suffix}"


def find(model_id: str) -> CachedModel | None:
    """The cached model of this ID, if there is one."""
    return _describe(folder_for(model_id))


def cached_models() -> Iterator[CachedModel]:
    """All cached models."""
    root = cache_dir() / "models"
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if found := _describe(folder):
            yield found


def _describe(folder: Path) -> CachedModel | None:
    try:
        with open(folder / _WEIGHTS, "rb") as f:
            length = int.from_bytes(f.read(8), "little")
            if length > 100_000_000:
                return None
            meta = json.loads(f.read(length))["__metadata__"]
        if meta["layout"] != _LAYOUT:
            return None
        return CachedModel(meta["id"], folder, bytes.fromhex(meta["digest"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(model_id: str, model: IntegerModel) -> CachedModel:
    """Writes a converted model into the cache, replacing what was there."""
    from safetensors.numpy import save_file

    target = folder_for(model_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".incoming-", dir=target.parent))
    try:
        digest = model.digest()
        meta = {"id": model_id, "layout": _LAYOUT, "digest": digest.hex(), "config": json.dumps(model.config.as_dict())}
        save_file(model.tensors, work / _WEIGHTS, metadata=meta)
        (work / _TOKENIZER).write_text(model.tokenizer.to_json(), "ascii")
        if target.exists():
            shutil.rmtree(target)
        os.replace(work, target)
    except OSError:
        if find(model_id) is None:  # else another process put the same model there meanwhile
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return CachedModel(model_id, target, digest)


def load(cached: CachedModel) -> IntegerModel:
    """Maps a cached model into memory and checks every byte of it against its digest.

    Raises:
        ModelMismatchError: the files do not match the digest they state.
    """
    from safetensors import SafetensorError, safe_open

    advice = f"remove {cached.folder} and pull the model again"
    try:
        with safe_open(cached.folder / _WEIGHTS, framework="pt") as f, ThreadPoolExecutor(1) as beside:
            config = LlamaConfig(**json.loads(f.metadata()["config"]))
            tensors = {name: f.get_tensor(name).numpy() for name in tensor_names(config)}
            digest = beside.submit(weights_digest, config, tensors)
            tokenizer = TokenizerSpec.from_json((cached.folder / _TOKENIZER).read_text("ascii"))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, ModelFormatError) as e:
        raise ModelMismatchError(f"the cached model {cached.model_id} is damaged ({e}); {advice}") from e
    model = IntegerModel(config, tokenizer, tensors)
    vars(model)["_digest"] = digest.result()  # what the property would compute
    if model.digest() != cached.digest:
        raise ModelMismatchError(f"the cached weights of {cached.model_id} do not match their digest; {advice}")
    return model
