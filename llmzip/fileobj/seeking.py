"""The content of an archive by position: which block holds it, and that block decoded."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import BinaryIO

from llmzip.archive.damage import ArchiveReader
from llmzip.archive.parser import Placed, parse_record, pull
from llmzip.archive.records import Block, EndRecord, ModelRecord, ParityRecord, SoleBlock, WholeCheck, check_size
from llmzip.codec.codec import Codec
from llmzip.codec.frame_reader import check_whole
from llmzip.errors import DamagedArchiveError, LLZError


@dataclass
class _Frame:
    """What is known of a frame so far.

    Attributes:
        first: number of its first block.
        blocks: how many of its blocks were found.
        checked: how many of these, from the first on, were decoded and added to `whole`.
        size: bytes of content of the blocks found.
        end: its end record, once it was read.
    """

    first: int
    blocks: int = 0
    checked: int = 0
    size: int = 0
    end: EndRecord | None = None
    whole: WholeCheck = field(default_factory=WholeCheck)

    def check(self) -> None:
        """Raise DamagedArchiveError if what is known of the frame does not match its end record."""
        if self.end:
            check_size(self.size, self.end)
            if self.checked == self.blocks:
                check_whole(self.whole, self.end)


@dataclass(frozen=True)
class _BlockPlace:
    """Where a block is: its frame, the model record in force, its record's offset in the archive, and bytes of content."""

    frame: _Frame
    model: ModelRecord | None
    offset: int
    size: int


class ArchiveBlocks:
    """Finds and decodes the blocks of an archive's frames.

    Records are read and checked in order, as far as is needed. Only the blocks asked for are decoded. A block that was passed over is
    read from the source again, so a source that is not seekable can only be read forward. A frame's check as a whole is compared when
    its blocks were decoded in order. Where a record is damaged and the archive has parity, reading goes on in the repaired archive.
    """

    def __init__(self, source: BinaryIO, codec: Codec) -> None:
        self._reader, self._codec = ArchiveReader(source), codec
        self.seekable = self._reader.seekable
        self._places: list[_BlockPlace] = []
        self._starts: list[int] = []  # of each block, in the content
        self._size = 0  # of the content of the blocks found so far
        self._frame, self._number = _Frame(0), -1  # the present frame, and its number
        self._found: tuple[int, Block] | None = None  # number and record of the last block found, until it is decoded
        self._kept = (-1, b"")  # number and content of the last block decoded
        self._lost = False  # whether reading failed where it cannot be tried again

    def at(self, position: int) -> tuple[bytes, int]:
        """The block that holds a position of the content, decoded, and the position in it; (b"", 0) beyond the end.

        Raises:
            LLZError: of the kind that fits what is wrong. Asked for again, it is raised again.
        """
        while position >= self._size:
            if not self._find():
                return b"", 0
        number = bisect_right(self._starts, position) - 1
        return self._content(number), position - self._starts[number]

    def size(self) -> int:
        """Bytes of the whole content; nothing is decoded. Raises LLZError."""
        while self._find():
            pass
        return self._size

    def _find(self) -> bool:
        """Read records up to and including the next block; False at the archive's end."""
        found = len(self._places)
        while len(self._places) == found:
            if self._lost:
                raise DamagedArchiveError("reading failed before, and the source cannot be read again")
            if self.seekable:
                self._reader.source.seek(self._reader.start + self._reader.parser.position)
            self._lost = not self.seekable  # unless all goes well
            before = self._reader.parser
            placed = self._reader.next()
            if placed is not None:
                try:
                    self._take(placed)
                except LLZError:
                    self._reader.parser = before  # it is to be met again
                    raise
            self._lost = False
            if placed is None:
                return False
        return True

    def _take(self, placed: Placed) -> None:
        """Note what a record says."""
        if placed.frame != self._number:
            self._frame, self._number = _Frame(len(self._places)), placed.frame
        frame, record = self._frame, placed.record
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
        if self._kept[0] == number:
            return self._kept[1]
        place = self._places[number]
        if self._found and self._found[0] == number:
            record = self._found[1]
        else:
            self._reader.source.seek(self._reader.start + place.offset)
            again = pull(parse_record(), self._reader.source)
            again = again.block if isinstance(again, SoleBlock) else again
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
