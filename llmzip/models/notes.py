"""What the cache remembers about names of models, a small file each: commits that branches stood for, digests that were learned, names that users gave.

A damaged file is as good as none.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from llmzip.models import store
from llmzip.models.workspace import working_folder, writing_cache

_LARGEST = 1 << 16  # bytes
Facts = dict[str, str]


def place(kind: str, name: str) -> Path:
    """The file for a name; `kind` is a folder of the cache."""
    return store.cache_dir() / kind / f"{store.folder_for(name).name}.json"


def write(kind: str, name: str, facts: Facts) -> None:
    """Remember facts about a name, instead of what was remembered before.

    Raises:
        NotWritableError: the cache cannot be written.
    """
    target = place(kind, name)
    with working_folder(store.cache_dir(), "incoming") as work, writing_cache(target.parent):
        (work / "note").write_text(json.dumps({"name": name} | facts))
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(work / "note", target)


def read(kind: str, name: str) -> Facts:
    """The facts about a name; none if nothing is remembered."""
    facts = _read(place(kind, name))
    return facts if facts.get("name") == name else {}


def names(kind: str) -> Iterator[str]:
    """All names about which something is remembered, in alphabetical order."""
    found = [_read(file).get("name", "") for file in (store.cache_dir() / kind).glob("*.json")]
    yield from sorted(name for name in found if name and read(kind, name))


def forget(kind: str, name: str) -> None:
    """Remember nothing about a name any more.

    Raises:
        NotWritableError: the cache cannot be written.
    """
    file = place(kind, name)
    with writing_cache(file.parent), contextlib.suppress(FileNotFoundError):
        file.unlink()


def _read(file: Path) -> Facts:
    try:
        with open(file, "rb") as f:
            found = json.loads(f.read(_LARGEST))
        return found if all(isinstance(value, str) for value in found.values()) else {}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
