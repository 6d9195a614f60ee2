"""Short names that users give to models of their own. Archives never hold such a name, but that of the source, as other people need that."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from llmzip.errors import ModelUnavailableError, ParameterError, quoted
from llmzip.models import names, notes
from llmzip.models.registry import REGISTRY
from llmzip.options import AUTO, is_new

_KIND = "names"
_SOUND = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def add(name: str, source: str, replace: bool = False) -> str:
    """Remember that a name stands for a source. Nothing is fetched.

    Args:
        name: letters, digits, dots, dashes and underscores.
        source: a path or a model of the hub.
        replace: If true, the name may stand for something else so far.

    Returns:
        the source as it is remembered: a path from the root.

    Raises:
        ParameterError: the name cannot be given.
        ModelUnavailableError: the source is no source, or is not there.
        NotWritableError: the cache cannot be written.
    """
    if not _SOUND.fullmatch(name):
        raise ParameterError(f"{quoted(name)} cannot be a name; use letters, digits, dots, dashes and underscores, at most 64")
    if name in REGISTRY or name == AUTO or is_new(name):
        raise ParameterError(f"{name} already means something to llmzip; choose another name")
    if not names.parse(source):
        names.check(source)
        if not os.path.exists(source):
            raise ModelUnavailableError(f"{quoted(source)} is neither a file or folder nor hf:OWNER/NAME@REVISION; check it")
        source = os.path.abspath(source)
    if (now := source_of(name)) not in (name, source) and not replace:
        raise ParameterError(f"{name} already stands for {now}; use --force to replace that")
    notes.write(_KIND, name, {"source": source})
    return source


def source_of(name: str) -> str:
    """What a name stands for; the name itself if no user has given it."""
    return notes.read(_KIND, name).get("source", name) if _SOUND.fullmatch(name) and name not in REGISTRY else name


def listed() -> Iterator[str]:
    """All such names."""
    yield from (name for name in notes.names(_KIND) if source_of(name) != name)


def remove(name: str) -> bool:
    """Forget a name. Return whether there was one.

    Raises:
        NotWritableError: the cache cannot be written.
    """
    if source_of(name) == name:
        return False
    notes.forget(_KIND, name)
    return True
