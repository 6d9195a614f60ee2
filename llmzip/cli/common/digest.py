"""Size and SHA-256 of data that passes by, to compare contents."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from llmzip.system import streams


class Digest:
    """A file that notes size and SHA-256 of all data read through it from `source`, or written to it, and through it `to` a file."""

    def __init__(self, source: BinaryIO | None = None, to: BinaryIO | None = None) -> None:
        self._source, self._to, self._hash, self.size = source, to, hashlib.sha256(), 0

    def read(self, n: int) -> bytes:
        """The next bytes of the source."""
        assert self._source is not None
        data = streams.read(self._source, n)
        self._note(data)
        return data

    def write(self, data: bytes) -> int:
        """Note the data, and pass it on."""
        self._note(data)
        if self._to:
            streams.write(self._to, data)
        return len(data)

    def _note(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)

    def flush(self) -> None:
        """Flush the file behind it."""
        if self._to:
            streams.flush(self._to)

    def stated(self) -> list[int | str]:
        """Size and SHA-256, as values for JSON."""
        return [self.size, self._hash.hexdigest()]
