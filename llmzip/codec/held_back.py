"""Blocks that need no model, held back so that several in a row become one: what repeats further apart than a block is found then."""

from __future__ import annotations

from llmzip.archive import lzma2
from llmzip.archive.records import StoredBlock, XzBlock, encode_record
from llmzip.codec.cutting import xz_block
from llmzip.parameters import MAX_BLOCK

Plain = StoredBlock | XzBlock

_QUICK = 0  # the preset that tells whether blocks that do not shrink repeat each other
_REPEATS = 99  # percent of a run's size that it must be packed to for that


class Run:
    """Consecutive blocks, MAX_BLOCK bytes together at most; or one at a time, where blocks must not have more than `block_bytes`.

    Each is a good block by itself; `take` makes of all of them whatever is shorter, the blocks or one xz block of everything.
    """

    def __init__(self, block_bytes: int | None = None) -> None:
        self._limit = MAX_BLOCK if block_bytes is None else 0
        self._content = bytearray()
        self._blocks: list[Plain] = []

    def add(self, content: bytes, block: Plain) -> bytes:
        """Adds a block, as it is by itself; returns the records of those before, if it is too much together."""
        before = b"" if self._fits(content) else self.take()
        self._content += content
        self._blocks.append(block)
        return before if self._limit else self.take()

    def more(self, content: bytes) -> int | None:
        """How many bytes a block would add, about; None if there is nothing that it could repeat."""
        if not self._blocks or not self._fits(content):
            return None
        return len(lzma2.pack(self._content + content)) - len(lzma2.pack(self._content))

    def _fits(self, content: bytes) -> bool:
        return len(self._content) + len(content) <= self._limit

    def take(self) -> bytes:
        """The records of all blocks so far; none are left."""
        content, blocks = bytes(self._content), self._blocks
        self._content, self._blocks = bytearray(), []
        records = b"".join(map(encode_record, blocks))
        if not any(isinstance(block, XzBlock) for block in blocks) and not _repeats(content, len(blocks)):
            return records
        presets = [lzma2.USUAL, lzma2.BEST] if len(blocks) > 1 else [lzma2.BEST]
        return min(records, *(encode_record(xz_block(content, preset)) for preset in presets), key=len)


def _repeats(content: bytes, blocks: int) -> bool:
    """Whether blocks, none of which xz shortens, hold the same more than once."""
    return blocks > 1 and 100 * len(lzma2.pack(content, _QUICK)) < _REPEATS * len(content)
