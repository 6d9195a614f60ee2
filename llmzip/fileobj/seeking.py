"""The content of an archive by position: which block holds it, and that block decoded."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import BinaryIO

from llmzip.archive.parser import parse_record, parse_start, pull
from llmzip.archive.records import Block, EndRecord, ModelRecord, ParityRecord, WholeCheck, check_size
from llmzip.codec.codec import Codec, check_whole
from llmzip.errors import DamagedArchiveError


@dataclass
class _Frame:
    first: int  # number of its first block
    blocks: int = 0  # found so far
    checked: int = 0  # of these, from the first one on, decoded and added to `whole`
    size: int = 0  # of the content of the blocks found so far
    model: ModelRecord | None = None  # the latest
    end: EndRecord | None = None
    whole: WholeCheck = field(default_factory=WholeCheck)

    def check(self) -> None:
        """Fails if what is known of the frame does not match its end."""
        if self.end:
            check_size(self.size, self.end)
            if self.checked == self.blocks:
                check_whole(self.whole, self.end)


@dataclass(frozen=True)
class _Place:
    frame: _Frame
    model: ModelRecord | None  # that codes the block
    offset: int  # of the record in the source
    size: int  # of the content


class ArchiveBlocks:
    """Finds and decodes the blocks of an archive's frames.

    Records are read and checked in order, as far as is needed; decoded is only what is asked for. The source is read again for a
    block that was passed over, so one that is not seekable can only be read forward. A frame's check as a whole is compared when
    its blocks were decoded in order.
    """

    def __init__(self, source: BinaryIO, codec: Codec) -> None:
        self._source, self._codec = source, codec
        self.seekable: bool = getattr(source, "seekable", lambda: False)()
        self._scanned = source.tell() if self.seekable else 0  # how far records were read
        self._places: list[_Place] = []
        self._starts: list[int] = []  # of each block, in the content
        self._size = 0  # of the content of the blocks found so far
        self._frame: _Frame | None = None  # the one that records are read from
        self._first = True  # whether no frame was found yet
        self._found: tuple[int, Block] | None = None  # number and record of the last block found, until it is decoded
        self._kept = (-1, b"")  # number and content of the last block decoded
        self._lost = False

    def at(self, position: int) -> tuple[bytes, int]:
        """The content of the block that holds a position of the content, and the position in it; (b"", 0) beyond the end.

        Raises:
            LLZError: of the kind that fits what is wrong; asked for again, it is raised again.
        """
        while position >= self._size:
            if not self._find():
                return b"", 0
        number = bisect_right(self._starts, position) - 1
        return self._content(number), position - self._starts[number]

    def size(self) -> int:
        """Size of the whole content in bytes, decoding nothing. Raises LLZError."""
        while self._find():
            pass
        return self._size

    def _find(self) -> bool:
        """Reads records up to and including the next block; False at the archive's end."""
        found = len(self._places)
        while len(self._places) == found:
            if self._lost:
                raise DamagedArchiveError("reading failed before, and the source cannot be read again")
            if self.seekable:
                self._source.seek(self._scanned)
            self._lost = not self.seekable  # unless all goes well
            more = self._record()
            if self.seekable:
                self._scanned = self._source.tell()
            self._lost = False
            if not more:
                return False
        return True

    def _record(self) -> bool:
        """Reads a record or the start of a frame; False at the archive's end."""
        if self._frame is None:
            if not pull(parse_start(self._first), self._source):
                return False
            self._frame, self._first = _Frame(len(self._places)), False
            return True
        frame, record = self._frame, pull(parse_record(), self._source)
        if isinstance(record, ModelRecord):
            frame.model = record
        elif isinstance(record, EndRecord):
            frame.end = record
            frame.check()
            self._frame = None
        elif isinstance(record, ParityRecord):
            pass
        elif not record.size:
            self._codec.decode_block(record, frame.model)
        else:
            self._found = len(self._places), record
            self._starts.append(self._size)
            self._size += record.size
            frame.size += record.size
            frame.blocks += 1
            self._places.append(_Place(frame, frame.model, self._scanned, record.size))
        return True

    def _content(self, number: int) -> bytes:
        if self._kept[0] == number:
            return self._kept[1]
        place = self._places[number]
        if self._found and self._found[0] == number:
            record = self._found[1]
        else:
            self._source.seek(place.offset)
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
