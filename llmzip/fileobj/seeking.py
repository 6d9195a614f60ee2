"""Random access to an archive's content: finds and decodes the block that holds a position."""

from __future__ import annotations

import copy
import io
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import BinaryIO

from llmzip.archive import damage
from llmzip.archive.parser import ArchiveParser, Placed, parse_record, pull
from llmzip.archive.records import Block, EndRecord, ModelRecord, ParityRecord, WholeCheck, check_size
from llmzip.codec.codec import Codec
from llmzip.codec.frame_reader import check_whole
from llmzip.errors import DamagedArchiveError, LLZError
from llmzip.system import streams


@dataclass
class _Frame:
    """A frame, as far as it was read.

    Attributes:
        first: number of its first block.
        blocks: number of its blocks found.
        checked: number of these, from the first on, that were decoded and added to `whole`.
        size: bytes of content of the blocks found.
        end: its end record, once it was read.
        whole: the running check of its content.
    """

    first: int
    blocks: int = 0
    checked: int = 0
    size: int = 0
    end: EndRecord | None = None
    whole: WholeCheck = field(default_factory=WholeCheck)

    def check(self) -> None:
        """Raise DamagedArchiveError if the end record was read and the blocks do not match it."""
        if self.end:
            check_size(self.size, self.end)
            if self.checked == self.blocks:
                check_whole(self.whole, self.end)


@dataclass(frozen=True)
class _BlockPlace:
    """Where a block is.

    Attributes:
        frame: its frame.
        model: the model record in force.
        offset: position of its record in the archive.
        size: bytes of content.
    """

    frame: _Frame
    model: ModelRecord | None
    offset: int
    size: int


class ArchiveBlocks:
    """Finds and decodes the blocks of an archive's frames.

    Records are read and checked in order, as far as needed. Only the blocks asked for are decoded. A block that was passed over is read
    from the source again, so a source that is not seekable can only be read forward. The check of a whole frame is compared if its blocks
    were decoded in order. If a record is damaged and the archive has parity, reading continues in the repaired archive.
    """

    def __init__(self, source: BinaryIO, codec: Codec) -> None:
        self._source, self._codec = source, codec
        self.seekable: bool = getattr(source, "seekable", lambda: False)()
        self._base = source.tell() if self.seekable else 0  # position of the archive in the source
        self._parser = ArchiveParser()
        self._places: list[_BlockPlace] = []
        self._starts: list[int] = []  # position of each block in the content
        self._size = 0  # bytes of content of the blocks found so far
        self._frames: list[_Frame] = []
        self._found: tuple[int, Block] | None = None  # number and record of the last block found, until it is decoded
        self._kept = (-1, b"")  # number and content of the last block decoded
        self._lost = False  # whether reading failed and cannot be tried again

    def at(self, position: int) -> tuple[bytes, int]:
        """Return the content of the block that holds a position, and the position within it; (b"", 0) beyond the end.

        Raises:
            LLZError: the archive is damaged or cannot be decoded; the subclass says what is wrong. The same call raises it again.
        """
        while position >= self._size:
            if not self._find():
                return b"", 0
        number = bisect_right(self._starts, position) - 1
        return self._content(number), position - self._starts[number]

    def size(self) -> int:
        """Return the size of the whole content in bytes. Nothing is decoded. Raises LLZError."""
        while self._find():
            pass
        return self._size

    def _find(self) -> bool:
        """Read records up to and including the next block; return False at the archive's end."""
        found = len(self._places)
        while len(self._places) == found:
            if self._lost:
                raise DamagedArchiveError("reading failed before, and the source cannot be read again")
            if self.seekable:
                self._source.seek(self._base + self._parser.position)
            self._lost = not self.seekable  # unless reading succeeds
            parser = copy.copy(self._parser)  # replaces the parser only if reading succeeds, so that an error repeats
            try:
                placed = pull(parser.next_record(), self._source)
            except LLZError:
                if self._repair():
                    continue
                raise
            if placed is not None:
                self._take(placed)
            self._parser, self._lost = parser, False
            if placed is None:
                return False
        return True

    def _repair(self) -> bool:
        """Continue in the repaired archive; return False if there is none or if it differs in the part that was already read."""
        if not self.seekable:
            return False
        self._source.seek(self._base)
        repair = damage.repaired(self._source)
        if repair is None:
            return False
        self._source.seek(self._base)
        if not repair.archive.startswith(streams.read_all(self._source, self._parser.position)):
            return False
        damage.warn(repair)
        self._source, self._base = io.BytesIO(repair.archive), 0
        return True

    def _take(self, placed: Placed) -> None:
        """Add a record to what is known of the archive."""
        if placed.frame == len(self._frames):
            self._frames.append(_Frame(len(self._places)))
        frame, record = self._frames[-1], placed.record
        if isinstance(record, EndRecord):
            frame.end = record
            frame.check()
        elif isinstance(record, (ModelRecord, ParityRecord)):
            pass
        elif not record.size:
            self._codec.decode_block(record, placed.model)
        else:
            self._found = len(self._places), record
            self._starts.append(self._size)
            self._size += record.size
            frame.size += record.size
            frame.blocks += 1
            self._places.append(_BlockPlace(frame, placed.model, placed.span.start, record.size))

    def _content(self, number: int) -> bytes:
        """Return the content of a block."""
        if self._kept[0] == number:
            return self._kept[1]
        place = self._places[number]
        if self._found and self._found[0] == number:
            record = self._found[1]
        else:
            self._source.seek(self._base + place.offset)
            again = pull(parse_record(), self._source)
            if not isinstance(again, Block) or again.size != place.size:
                raise DamagedArchiveError("the archive changed while it was read; open it again")
            record = again
        content = self._codec.decode_block(record, place.model)
        frame = place.frame
        if number == frame.first + frame.checked:
            frame.whole.update(content)
            frame.checked += 1
        frame.check()
        self._kept, self._found = (number, content), None
        return content
