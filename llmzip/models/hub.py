"""Model files of a repository on the Hugging Face Hub, through the hub's own library.

The small files come first, so that a model which llmzip cannot run is refused before its weights are fetched. Every file is compared with the
hash that the hub states for it. What a broken pull has fetched is kept, and the next pull continues there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmzip.errors import ModelFormatError, ModelMismatchError, ModelUnavailableError, quoted
from llmzip.models import safetensors_folder
from llmzip.models.names import HubName
from llmzip.models.safetensors_folder import CONFIG, LARGEST_CONFIG, LARGEST_TOKENIZER, TOKENIZER
from llmzip.models.workspace import writing_cache
from llmzip.system import user_folders

_log = logging.getLogger(__name__)

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_LARGEST_INDEX = 1 << 24  # bytes
_SHARD = re.compile(r"[\w.-]+\.safetensors", re.ASCII)
_PART = 1 << 22  # bytes of one transfer, which a broken connection loses
_FIRST_BYTES = 1 << 20  # of a GGUF file, in which its header is looked for first


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository; `sha256` is None for small ones, which have only the hash that git gives them."""

    size: int
    sha256: str | None
    git_sha1: str


@dataclass(frozen=True)
class Snapshot:
    """What a repository holds at a commit.

    Attributes:
        name: with the commit as its revision, and the owner, whom old names leave out.
        files: by path.
        licence: as the repository states it; empty if it does not.
    """

    name: HubName
    files: dict[str, RemoteFile]
    licence: str

    def size(self, paths: list[str]) -> int:
        """Bytes of some files."""
        return sum(self.files[path].size for path in paths)


class Hub:
    """The hub, as this user reaches it.

    Args:
        home: the folder for what the hub's library keeps, if the user has no folder for caches.
        bars: If true, show progress bars on standard error.
    """

    def __init__(self, home: Path, bars: bool) -> None:
        self._home, self._bars = home, bars

    def look_up(self, name: HubName) -> Snapshot:
        """Ask what a repository holds.

        Raises:
            ModelUnavailableError: the hub cannot be reached or has no such model, or this user may not have it.
        """
        with self._library(name) as library:
            info = library.HfApi().model_info(name.repository, revision=name.revision, files_metadata=True)
        files = {f.rfilename: RemoteFile(f.size or 0, f.lfs.sha256 if f.lfs else None, f.blob_id or "") for f in info.siblings or ()}
        licence = getattr(info.card_data, "license", None)
        return Snapshot(replace(name, repository=info.id, revision=info.sha), files, quoted(licence) if isinstance(licence, str) else "")

    def fetch_description(self, snapshot: Snapshot, folder: Path) -> list[str]:
        """Fetch the small files, and refuse a model that llmzip cannot run.

        Returns:
            paths of the weights.

        Raises:
            ModelFormatError: llmzip cannot run the model.
            ModelMismatchError: what arrived is not what the hub states.
            ModelUnavailableError: it cannot be fetched.
        """
        name = snapshot.name
        if name.file:
            if name.file not in snapshot.files:
                raise ModelUnavailableError(f"{name} has no such file; {_listed(snapshot)}")
            self._check_gguf_header(snapshot)
            return [name.file]
        for path, most in ((CONFIG, LARGEST_CONFIG), (TOKENIZER, LARGEST_TOKENIZER)):
            if path not in snapshot.files:
                raise ModelFormatError(f"{name} has no {path}, so llmzip cannot run it; {_listed(snapshot)}")
            self._fetch_small(snapshot, path, folder, most)
        safetensors_folder.describe(folder)
        return self._weights(snapshot, folder)

    def fetch(self, snapshot: Snapshot, path: str, folder: Path) -> Path:
        """Fetch a file into `folder`, or the rest of it, and compare it with the hash that the hub states.

        Raises:
            ModelMismatchError, ModelUnavailableError: see `fetch_description`.
        """
        target = folder / path
        self._transfer(snapshot, path, target)
        found, expected = _hash(target, snapshot.files[path])
        if found != expected:
            target.unlink()
            raise ModelMismatchError(f"{path} of {snapshot.name} arrived with hash {found}, and the hub states {expected}; pull it again")
        return target

    def _fetch_small(self, snapshot: Snapshot, path: str, folder: Path, most: int) -> Path:
        """Fetch a file that describes a model, and has at most so many bytes."""
        if snapshot.files[path].size > most:
            raise ModelFormatError(f"{path} of {snapshot.name} has more than {most:,} bytes; use another model")
        return self.fetch(snapshot, path, folder)

    def _transfer(self, snapshot: Snapshot, path: str, target: Path) -> None:
        """Append to `target` what it lacks, in parts. The hub's own download begins a file anew."""
        size = snapshot.files[path].size
        with self._opened(snapshot, path) as source, writing_cache(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "ab") as sink, self._bar(path, size, sink.tell()) as bar:
                source.seek(sink.tell())
                while sink.tell() < size:
                    with self._library(snapshot.name):
                        part = source.read(min(_PART, size - sink.tell()))
                        if not part:
                            raise EOFError("it ends too early")
                    sink.write(part)
                    sink.flush()
                    bar.update(len(part))

    @contextlib.contextmanager
    def _opened(self, snapshot: Snapshot, path: str) -> Iterator[Any]:
        """A file of the repository, from which any part can be read."""
        name = snapshot.name
        with self._library(name) as library:
            source = library.HfFileSystem().open(f"{name.repository}@{name.revision}/{path}", "rb", block_size=_PART, cache_type="none")
        with source:
            yield source

    def _bar(self, path: str, size: int, done: int) -> Any:
        from tqdm import tqdm

        return tqdm(desc=path, total=size, initial=done, unit="B", unit_scale=True, disable=not self._bars, file=sys.stderr)

    def _weights(self, snapshot: Snapshot, folder: Path) -> list[str]:
        """The safetensors files that make up the model: not copies of it in subfolders, or in another layout."""
        if _WEIGHTS in snapshot.files:
            return [_WEIGHTS]
        if _INDEX not in snapshot.files:
            raise ModelFormatError(f"{snapshot.name} has neither {_WEIGHTS} nor {_INDEX}; {_listed(snapshot)}")
        try:
            index = json.loads(self._fetch_small(snapshot, _INDEX, folder, _LARGEST_INDEX).read_text("utf-8"))
            paths = sorted(set(index["weight_map"].values()))
            missing = [path for path in paths if path not in snapshot.files or not _SHARD.fullmatch(path)]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise ModelFormatError(f"{_INDEX} of {snapshot.name} cannot be understood ({quoted(e)}); use another model") from e
        if missing:
            raise ModelFormatError(f"{_INDEX} of {snapshot.name} names {quoted(missing[0])}, which is not there; use another model")
        return paths

    def _check_gguf_header(self, snapshot: Snapshot) -> None:
        """Read only as much of the file as its header takes."""
        from llmzip.models import gguf_model

        name, size = snapshot.name, snapshot.files[snapshot.name.file].size
        most, fits = _FIRST_BYTES, False
        while not fits:
            with self._opened(snapshot, name.file) as source, self._library(name):
                start = source.read(most)
            fits = gguf_model.check_start(start, size, Path(name.file).name)
            most *= 4

    @contextlib.contextmanager
    def _library(self, name: HubName) -> Iterator[Any]:
        """The hub's library. Its errors become ones of ours, with one clear line each."""
        with _home_for_hub(self._home):
            import huggingface_hub
        logger, level = logging.getLogger("huggingface_hub"), logging.getLogger("huggingface_hub").level
        if not _log.isEnabledFor(logging.INFO):
            logger.setLevel(logging.CRITICAL)  # what it says of each try
        try:
            yield huggingface_hub
        except Exception as e:  # the library lets errors of several HTTP libraries through, depending on its version
            raise ModelUnavailableError(f"model {name} could not be downloaded: {_reason(name, e)}") from e
        finally:
            logger.setLevel(level)


def _listed(snapshot: Snapshot) -> str:
    """Advice for who asks for a file that is not there."""
    there = sorted(path for path in snapshot.files if path.lower().endswith(".gguf"))
    return f"name one of its .gguf files after a colon: {quoted(', '.join(there[:3]))}" if there else "use another model"


def _hash(path: Path, expected: RemoteFile) -> tuple[str, str]:
    """Hash of a file, and what it should be: SHA-256, or git's hash of small files."""
    digest = hashlib.sha256() if expected.sha256 else hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as f:
        while part := f.read(1 << 20):
            digest.update(part)
    return digest.hexdigest(), expected.sha256 or expected.git_sha1


def _reason(name: HubName, e: Exception) -> str:
    """What went wrong, and what to do."""
    from huggingface_hub import constants, errors

    status = getattr(getattr(e, "response", None), "status_code", None)
    login = "log in (hf auth login, or set HF_TOKEN)"
    if isinstance(e, errors.GatedRepoError):
        return f"it is gated; accept its terms on the page of {name.repository}, and {login}"
    if isinstance(e, errors.RevisionNotFoundError):
        return f"{name.repository} has no revision {name.revision}; check it"
    if isinstance(e, errors.RepositoryNotFoundError):
        return f"there is no repository {name.repository}, or it is private; check the name, or {login}"
    if isinstance(e, errors.EntryNotFoundError) and not isinstance(e, errors.LocalEntryNotFoundError):
        return "a file is missing there; check the revision"
    if status in (401, 403):
        return f"the hub refuses access ({status}); {login}"
    if status == 429 or (status is not None and status >= 500):
        return f"the hub cannot serve it now ({status}); try again later"
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids the network; unset it"
    said = quoted(next(iter(str(_system_error(e) or e).splitlines()), "") or type(e).__name__)
    if status is not None:
        return f"the hub says: {said}; check the name"
    return f"the transfer failed ({said}); check the network, and pull it again: what has arrived is kept"


def _system_error(e: BaseException) -> OSError | None:
    """The system's error that a library's error comes from; None if there is none."""
    found: OSError | None = None
    at: BaseException | None = e
    while at is not None:
        if isinstance(at, OSError) and at.strerror:
            found = at
        at = at.__cause__ or at.__context__
    return found


@contextlib.contextmanager
def _home_for_hub(folder: Path) -> Iterator[None]:
    """While the hub's library is imported, names a folder for what it keeps to users without a home: else that would be one called "~"."""
    if user_folders.user_cache() is not None or "HF_HOME" in os.environ:
        yield
        return
    os.environ["HF_HOME"] = str(folder)
    try:
        yield
    finally:
        del os.environ["HF_HOME"]
