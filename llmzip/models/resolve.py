"""From the name that a user or an archive gives to a model ready to run. Models are converted and cached on first use.

Names: an ID of the registry; a name that the user gave (`own_names`); a model of the hub (`names`); a path to a .gguf file or to a folder with
safetensors; the ID under which the cache has such a path's model, `local:NAME:STATE`. Archives record a path as
`local:NAME`; such a model is found again by its digest. A branch or tag of the hub stands for the commit that it named at the first pull, until
the next forced one; archives record the commit. The network is used only for a model that is not cached, and never if offline.
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
from llmzip.errors import ModelUnavailableError
from llmzip.models import fetching, names, notes, own_names, pins, store
from llmzip.models.convert import IntegerModel, convert
from llmzip.models.names import HubName
from llmzip.models.registry import REGISTRY, RegisteredModel
from llmzip.models.sources import family_of, load_float_model
from llmzip.models.workspace import NotWritableError, taking_turns
from llmzip.options import NEW_ID, is_new
from llmzip.system import exact_threads

_BRANCHES = "pins"  # notes of the commits that they stand for
_LISTED = re.compile(r"local:([^\x00-\x1f\x7f/]{1,255}):[0-9a-f]{16}")


def archive_id(name: str) -> str:
    """The ID by which archives refer to the model `name`."""
    name = own_names.source_of(name)
    if public := _public_id(name):
        return public
    listed = _LISTED.fullmatch(name)
    plain = re.sub(r"[^\x21-\x7e]+", "_", listed[1] if listed else Path(name).resolve().name)
    return f"local:{plain}"[:MAX_ID]


def cache_id(name: str) -> str:
    """The ID that the cache has, or would have, for the model `name`.

    Raises:
        ModelUnavailableError: it is no model's name.
    """
    name = own_names.source_of(name)
    if public := _public_id(name):
        return public
    names.check(name)
    if _LISTED.fullmatch(name) and store.find(name):
        return name
    path = Path(name)
    if not path.exists():
        raise ModelUnavailableError(
            f"no model {name}: neither a file or folder, nor a name that `llmzip models` lists, nor hf:OWNER/NAME@REVISION"
        )
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    state = [(f.name, (s := f.stat()).st_size, s.st_mtime_ns) for f in files if f.is_file()]
    identity = hashlib.sha256(repr((os.path.realpath(path), state)).encode()).hexdigest()[:16]
    return f"local:{path.resolve().name}:{identity}"


def _public_id(name: str) -> str | None:
    """The ID of a model that means the same everywhere, of the registry or the hub, or without weights; None if it is none."""
    if is_new(name):
        return NEW_ID
    if name in REGISTRY:
        return name
    return notes.read(_BRANCHES, name).get("commit", name) if names.parse(name) else None


def is_cache_id(model_id: str) -> bool:
    """Whether a cached model can have this ID."""
    return model_id in REGISTRY or (
        model_id.isprintable() and (names.parse(model_id) is not None or _LISTED.fullmatch(model_id) is not None)
    )


def find_cached(name: str) -> store.CachedModel | None:
    """The cached model `name`, of any version; None if there is none."""
    return store.find(cache_id(name))


def load(name: str, quiet: bool = False, offline: bool = False) -> IntegerModel:
    """The model `name`; fetched and converted if it is not cached yet.

    Raises:
        ModelUnavailableError, ModelMismatchError, ModelFormatError.
    """
    return load_cached(pull(name, quiet, offline=offline))


def load_cached(cached: store.CachedModel) -> IntegerModel:
    """A cached model, checked against its digests and, if it is registered, against the registry's."""
    model = store.load(cached)
    pins.check(cached.model_id, model)
    return model


def cached_for_archive(digest: bytes, tokenizer: bytes) -> store.CachedModel | None:
    """The cached model with these digests, or beginnings of them; None if there is none."""
    for cached in store.cached_models():
        if cached.digest.startswith(digest) and (cached.tokenizer is None or cached.tokenizer.startswith(tokenizer)):
            return cached
    return None


def load_for_archive(model_id: str, digest: bytes, tokenizer: bytes, quiet: bool = False, offline: bool = False) -> IntegerModel:
    """The model that an archive names. `digest` is a prefix of its weights' digest, `tokenizer` a prefix of its tokenizer's hash.

    Models may share weights. One with another tokenizer is returned only if there is no better one, so that the error can say what differs. An
    archive's ID cannot be trusted, so only models of the registry are fetched for an archive, and only if their digests can match.
    """
    if cached := cached_for_archive(digest, tokenizer):
        return store.load(cached)
    wanted = pins.expected(model_id)
    if wanted and wanted.digest.startswith(digest.hex()):
        return load(model_id, quiet, offline)
    if cached := cached_for_archive(digest, b""):
        return store.load(cached)
    how = f"run: llmzip models pull {model_id}" if model_id in REGISTRY or names.parse(model_id) else "give its path with --model"
    if wanted:
        how = "as another version of llmzip has it; use the one that wrote the archive"
    raise ModelUnavailableError(f"the archive needs model {model_id} (weights {digest.hex()}), which is not here; {how}")


def ready(name: str) -> store.CachedModel | None:
    """The cached model `name`, if `load` would load it; else None."""
    cached = find_cached(name)
    return cached if cached is not None and is_current(cached) else None


def is_current(cached: store.CachedModel) -> bool:
    """Whether a cached model has the digest that it must have."""
    wanted = pins.expected(cached.model_id)
    return wanted is None or cached.digest.hex() == wanted.digest


def pull(name: str, quiet: bool = False, force: bool = False, offline: bool = False) -> store.CachedModel:
    """Make sure that the model is in the cache. With `force`, or if a registered model has another digest, fetch and convert it again.

    If another process is doing that, wait for it. Tell on standard error what takes long, unless `quiet`.

    Raises:
        ModelUnavailableError: it cannot be fetched, or must not be because of `offline`.
        ModelMismatchError, ModelFormatError: what was fetched is wrong.
    """
    if is_new(name):
        raise ModelUnavailableError(f"{name} starts from nothing, so there is nothing to fetch or to keep; compress with it")
    if not force and (cached := ready(name)):
        return cached
    name = own_names.source_of(name)
    hub = names.parse(name)
    if hub and not hub.is_pinned:
        return _pull_branch(hub, quiet, force, offline)
    return _pull(name, quiet, force, offline)


def _pull_branch(name: HubName, quiet: bool, force: bool, offline: bool) -> store.CachedModel:
    """Pull what a branch or tag stands for now, and remember which commit that is."""
    fetching.check_online(str(name), offline)
    commit = fetching.commit_of(name, quiet)
    fetching.say(f"{name}: this is commit {commit.revision}; archives name that", quiet)
    cached = _pull(str(commit), quiet, force, offline)
    with _named(str(name)):
        notes.write(_BRANCHES, str(name), {"commit": str(commit)})
    return cached


def _pull(name: str, quiet: bool, force: bool, offline: bool) -> store.CachedModel:
    """Pull a model whose name can mean only one."""
    key = cache_id(name)
    waits = functools.partial(fetching.say, f"{name}: another process is getting it ready; waiting for that", quiet)
    with _named(name), taking_turns(store.lock_for(key), waits):
        if not force and (cached := ready(name)):
            return cached
        with fetching.original(name, key, quiet, offline) as source:
            model = exact_threads.run(lambda _: _convert(source, REGISTRY.get(name), fetching.no_bars(quiet)))
            cached = store.save(key, model, family_of(source)) if pins.fits(name, model) else None
        pins.check(name, model)
        pins.learn(name, model)
        assert cached
        return cached


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn NotWritableError into an error that names the model. Using models that are cached already writes nothing."""
    try:
        yield
    except NotWritableError as e:
        raise ModelUnavailableError(f"model {name} is to be got ready, but {e}") from e


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
