"""What went through a command's hands, for comparing."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from llmzip.system import streams


class Digest:
    """What was read from `source`, or written here: its size and SHA-256."""

    def __init__(self, source: BinaryIO | None = None) -> None:
        self._source, self._hash, self.size = source, hashlib.sha256(), 0

    def read(self, n: int) -> bytes:
        """The next bytes of the source."""
        assert self._source is not None
        data = streams.read(self._source, n)
        self.write(data)
        return data

    def write(self, data: bytes) -> int:
        """Counts them in."""
        self._hash.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """As files do."""

    def stated(self) -> list[int | str]:
        """Size and SHA-256, as JSON has them."""
        return [self.size, self._hash.hexdigest()]
