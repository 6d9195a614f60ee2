"""Names of models in repositories on the hub: `hf:OWNER/NAME@REVISION`, and `hf:OWNER/NAME@REVISION:FILE.gguf` for one of its files.

A revision is a commit, a branch or a tag. Only a whole commit pins a model for ever; the others are replaced by the commit they name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from llmzip.archive.records import MAX_ID
from llmzip.errors import ModelUnavailableError, quoted

PREFIX = "hf:"
_PART = r"\w[\w.-]{0,95}"
_NAME = re.compile(rf"hf:((?:{_PART}/)?{_PART})@(\w[\w./-]{{0,60}})(?::((?:{_PART}/)*{_PART}\.gguf))?", re.ASCII | re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubName:
    """A model in a repository.

    Attributes:
        repository: OWNER/NAME, or NAME alone as the oldest ones have it.
        revision: a commit, branch or tag.
        file: the GGUF file; empty for the safetensors files of the repository.
    """

    repository: str
    revision: str
    file: str = ""

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}@{self.revision}" + (f":{self.file}" if self.file else "")

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a whole commit, which can never mean other files."""
        return bool(_COMMIT.fullmatch(self.revision))

    def at(self, commit: str) -> HubName:
        """The same model at a commit."""
        return replace(self, revision=commit)


def parse(name: str) -> HubName | None:
    """The hub's model that `name` means; None if it is no such name, or not a sound one."""
    found = _NAME.fullmatch(name)
    if not found or ".." in name or len(name) > MAX_ID:
        return None
    return HubName(found[1], found[2], found[3] or "")


def check(name: str) -> None:
    """Raise ModelUnavailableError if `name` begins like a hub's model and is no sound name."""
    if name.startswith(PREFIX) and parse(name) is None:
        what = (
            f"is longer than {MAX_ID} characters"
            if len(name) > MAX_ID
            else "is not hf:OWNER/NAME@REVISION or hf:OWNER/NAME@REVISION:FILE.gguf"
        )
        hint = "; its newest revision is mostly called main" if "@" not in name else ""
        raise ModelUnavailableError(f"{quoted(name)} {what}{hint}")
