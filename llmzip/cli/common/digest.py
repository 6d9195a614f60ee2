"""Size and SHA-256 of data that passes by, to compare contents."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from llmzip.system import streams


class Digest:
    """A file that notes size and SHA-256 of all data read through it from `source`, or written to it."""

    def __init__(self, source: BinaryIO | None = None) -> None:
        self._source, self._hash, self.size = source, hashlib.sha256(), 0

    def read(self, n: int) -> bytes:
        """The next bytes of the source."""
        assert self._source is not None
        data = streams.read(self._source, n)
        self.write(data)
        return data

    def write(self, data: bytes) -> int:
        """Note the data."""
        self._hash.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing; files have this method."""

    def stated(self) -> list[int | str]:
        """Size and SHA-256, as values for JSON."""
        return [self.size, self._hash.hexdigest()]
