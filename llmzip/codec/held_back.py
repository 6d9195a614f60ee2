"""Holds back blocks that need no model, so that several in a row become one: then repetition is found that is further apart than a block."""

from __future__ import annotations

from llmzip.archive import lzma2
from llmzip.archive.records import StoredBlock, XzBlock, encode_record
from llmzip.codec.cutting import xz_block
from llmzip.parameters import MAX_BLOCK

Plain = StoredBlock | XzBlock

_QUICK = 0  # preset that finds out whether blocks that do not shrink by themselves repeat each other
_REPEATS = 99  # they do if all together shrink to less than this percentage


class HeldBack:
    """Consecutive blocks that need no model, at most MAX_BLOCK bytes of content together.

    If `block_bytes` is given, blocks must not grow beyond it, and none is held back.
    """

    def __init__(self, block_bytes: int | None = None) -> None:
        self._limit = MAX_BLOCK if block_bytes is None else 0
        self._content = bytearray()
        self._blocks: list[Plain] = []

    def add(self, content: bytes, block: Plain) -> bytes:
        """Add a block; return the records of those before it if all together would be too large."""
        before = b"" if self._fits(content) else self.take()
        self._content += content
        self._blocks.append(block)
        return before if self._limit else self.take()

    def added(self, content: bytes) -> int | None:
        """About how many bytes a block would add to those held; None if there are none that it could repeat."""
        if not self._blocks or not self._fits(content):
            return None
        return len(lzma2.pack(self._content + content)) - len(lzma2.pack(self._content))

    def _fits(self, content: bytes) -> bool:
        return len(self._content) + len(content) <= self._limit

    def take(self) -> bytes:
        """The records of all blocks held, or one xz block of their content if that is shorter. None is held afterwards."""
        content, blocks = bytes(self._content), self._blocks
        self._content, self._blocks = bytearray(), []
        records = b"".join(map(encode_record, blocks))
        if not any(isinstance(block, XzBlock) for block in blocks) and not _repeats(content, len(blocks)):
            return records
        presets = [lzma2.USUAL, lzma2.BEST] if len(blocks) > 1 else [lzma2.BEST]
        return min(records, *(encode_record(xz_block(content, preset)) for preset in presets), key=len)


def _repeats(content: bytes, blocks: int) -> bool:
    """Whether blocks that xz does not shorten by themselves repeat each other."""
    return blocks > 1 and 100 * len(lzma2.pack(content, _QUICK)) < _REPEATS * len(content)
