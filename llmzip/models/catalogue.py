"""What is known of models, here or not: for lists, and for people who ask about one."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmzip.errors import ModelFormatError, ModelMismatchError, ModelUnavailableError, quoted
from llmzip.models import own_names, pins, resolve, store
from llmzip.models.config import ModelConfig
from llmzip.models.registry import DEFAULT_MODEL, REGISTRY, RegisteredModel


@dataclass(frozen=True)
class Entry:
    """A model that has a name.

    Attributes:
        name: the registry's ID, the user's name, or what the cache calls it.
        source: where it comes from; empty if that is not known.
        known: the registry's part.
        cached: the converted model, of any version.
    """

    name: str
    source: str
    known: RegisteredModel | None
    cached: store.CachedModel | None

    @property
    def usable(self) -> bool:
        """Whether it is here, and the one that it must be."""
        return self.cached is not None and resolve.is_current(self.cached)

    @property
    def digest(self) -> str:
        """Of the weights that it must have or has, in hexadecimal; empty if that is not known."""
        pin = pins.expected(self.name)
        return pin.digest if pin else self.cached.digest.hex() if self.cached else ""

    @property
    def tokenizer(self) -> str:
        """Hash of its tokenizer, likewise."""
        pin, cached = pins.expected(self.name), self.cached
        return pin.tokenizer if pin else cached.tokenizer.hex() if cached and cached.tokenizer else ""

    @property
    def family(self) -> str:
        """The architecture, as its files name it; empty if that is not known."""
        return self.known.family if self.known else self.cached.family if self.cached else ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        known, cached = self.known, self.cached
        return {
            "id": self.name,
            "default": self.name == DEFAULT_MODEL,
            "cached": self.usable,
            "outdated": cached is not None and not self.usable,
            "size": cached.size() if cached else None,
            "download": known.download if known else None,
            "licence": known.licence.name if known else None,
            "terms": known.licence.terms if known else None,
            "languages": known.languages if known else None,
            "source": self.source or None,
            "family": self.family or None,
            "bits_per_byte": known.bits_per_byte if known else None,
            "tried": known.tried if known else None,
            "gated": known.gated if known else None,
            "digest": self.digest or None,
            "folder": str(cached.folder) if cached else None,
        }


def entries() -> Iterator[Entry]:
    """The registry's models, those that the user has named, and all others that are cached.

    Raises:
        ModelUnavailableError: the cache cannot be read.
    """
    here = {cached.model_id: cached for cached in store.cached_models()}
    for known in REGISTRY.values():
        yield Entry(known.model_id, str(known.source), known, here.pop(known.model_id, None))
    named = [_own(name) for name in own_names.listed()]
    yield from named
    for entry in named:
        if entry.cached:
            here.pop(entry.cached.model_id, None)
    yield from (Entry(model_id, "", None, cached) for model_id, cached in here.items())


def entry(name: str) -> Entry:
    """The entry of a model: of any name that means one.

    Raises:
        ModelUnavailableError: the name means none.
    """
    if known := REGISTRY.get(name):
        return Entry(name, str(known.source), known, store.find(name))
    if own_names.source_of(name) != name:
        return _own(name)
    cached = resolve.find_cached(name)
    return Entry(name, "" if cached and cached.model_id == name else name, None, cached)


def _own(name: str) -> Entry:
    cached = None
    with contextlib.suppress(ModelUnavailableError, OSError):  # the file or folder is gone, or not for this user
        cached = resolve.find_cached(name)
    return Entry(name, own_names.source_of(name), None, cached)


def config_of(found: Entry) -> ModelConfig | None:
    """The shape of a model that is cached, or is a file or folder; None if it would have to be fetched.

    Raises:
        ModelMismatchError: the cached model is damaged.
        ModelFormatError: the files are, or llmzip cannot run them.
    """
    if found.cached:
        try:
            return ModelConfig.from_dict(json.loads(found.cached.config))
        except (ValueError, TypeError, RecursionError, ModelFormatError) as e:
            raise ModelMismatchError(f"the cached model {found.name} is damaged ({quoted(e)}); pull it again") from e
    if found.known or not os.path.exists(found.source):
        return None
    from llmzip.models.sources import load_float_model

    return load_float_model(Path(found.source)).config
