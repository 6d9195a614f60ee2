"""Finds what is left of parity frames in a damaged archive, and repairs with it what they protect.

What is read here may be damaged or made to do harm: work and memory stay in proportion to the bytes there are.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from llmzip.archive.parity import frame as parity_frame
from llmzip.archive.parity.layout import MARKER, Layout
from llmzip.archive.parser import parse_record, pull, read_records
from llmzip.archive.records import MAGIC, TAG_PARITY, EndRecord, ParityRecord, WholeCheck, encode_record, frame_start
from llmzip.errors import DamagedArchiveError, LLZError, NotAnArchiveError, UnsupportedArchiveError

_NO_PARITY = "the archive is damaged, and has no parity to repair it with; get another copy"
_NOT_ALL = "what its parity protects is whole, but the archive is damaged elsewhere; get another copy"
_LENGTH_BYTES = 4  # of a record's length, at most
_SEARCH = 4  # times the archive's size, bytes that are read where in the end no record is
_MISSING = 8  # an archive cut down to so small a part is given up
_PLACES = 8  # where a frame may have stood, considered at most
_SMALLEST = len(frame_start() + encode_record(WholeCheck().record()))  # bytes of a frame


@dataclass(frozen=True)
class RepairResult:
    """An archive, repaired.

    Attributes:
        archive: its bytes.
        parts, damaged: shards and lists of checks, of all parity frames together; those of them that were damaged.
        lost: whether the archive had parity of which too little is left, and was whole without.
    """

    archive: bytes
    parts: int = 0
    damaged: int = 0
    lost: bool = False


def repair(archive: bytes) -> bytes:
    """The archive as it was before it was damaged, from the parity in it; the same bytes if it is whole.

    Args:
        archive: an archive that was made with parity (`Options.parity`), or several, one after another.

    Raises:
        DamagedArchiveError: too much is damaged, or there is no parity.
        NotAnArchiveError, UnsupportedArchiveError: of the archive.
    """
    repaired = repair_archive(archive)
    if repaired is None:
        try:
            check_records(archive)
        except DamagedArchiveError as e:
            raise DamagedArchiveError(_NO_PARITY) from e
        return archive
    return repaired.archive


def repair_archive(archive: bytes) -> RepairResult | None:
    """What can be made of an archive with its parity; None if it has none.

    Raises:
        LLZError: as for `repair`.
    """
    repaired = repair_frames(archive) or _without_lost_parity(archive)
    if repaired is not None:
        try:
            check_records(repaired.archive)
        except UnsupportedArchiveError:
            pass  # parity knows nothing of what it protects
        except (DamagedArchiveError, NotAnArchiveError) as e:
            raise DamagedArchiveError(_NOT_ALL) from e
    return repaired


def check_records(archive: bytes) -> None:
    """Reads all records. Raises LLZError."""
    for _ in read_records(io.BytesIO(archive)):
        pass


def repair_frames(data: bytes) -> RepairResult | None:
    """Any bytes with parity frames after what they protect, repaired; None if no parity is found.

    Raises:
        DamagedArchiveError: too much is damaged.
    """
    frames = _outermost(_find_frames(data))
    if not frames:
        return None
    out, at, parts, damaged = [], 0, 0, 0
    for frame in frames:
        begin, end, content, lost = frame.repair(data, at)
        out += [data[at:begin] if begin - at >= _SMALLEST else b"", content]  # less than a frame between two was added
        at = end
        parts += frame.layout.shards + frame.layout.records
        damaged += lost
    rest = data[at:]
    added = len(rest) < _SMALLEST and rest.strip(b"\0") and not rest.startswith(MAGIC[: len(rest)])
    return RepairResult(b"".join(out) if added else b"".join([*out, rest]), parts, damaged)


def _without_lost_parity(archive: bytes) -> RepairResult | None:
    """The archive up to a parity frame at its end that is beyond use, if it is whole up to there."""
    whole = 0
    try:
        for placed in read_records(io.BytesIO(archive)):
            if isinstance(placed.record, EndRecord):
                whole = placed.span.stop
    except LLZError:
        if whole and 0 <= archive.find(MARKER, whole) < whole + 32 and archive.find(MAGIC, whole + 1) < 0:
            return RepairResult(archive[:whole], lost=True)
    return None


@dataclass
class _Frame:
    """What is left of a parity frame.

    Attributes:
        payloads: by the records' numbers.
        begin, end: of the records found.
        places: where the frame's magic was, counting from each record: they differ where bytes are missing or were added.
    """

    layout: Layout
    payloads: dict[int, bytes]
    begin: int
    end: int
    places: list[int]

    def takes(self, layout: Layout, number: int, place: int) -> bool:
        """Whether a record further on can be of this frame."""
        return layout == self.layout and number > max(self.payloads) and abs(place - self.places[-1]) < layout.frame_size

    def repair(self, data: bytes, at: int) -> tuple[int, int, bytes, int]:
        """What it protects and itself, whole.

        Args:
            data: the damaged file.
            at: where in it what was repaired before ends.

        Returns:
            Begin and end in the file of what is to be replaced; its replacement; how many parts were damaged.

        Raises:
            DamagedArchiveError: too much is damaged.
        """
        layout, last = self.layout, self.layout.records - 1
        end = max(self.end, min(self.places[-1] + layout.frame_size, len(data)))
        begin = max(at, self.places[0] - layout.size)
        size = layout.size + layout.frame_size
        if size > _MISSING * (end - begin):
            raise DamagedArchiveError(f"beyond repair: of {size:,} bytes only {end - begin:,} are there; get another copy")
        starts = [place - layout.size for place in self.places[:_PLACES]]
        shards = self._shards(data, at, [*starts, at])
        whole = parity_frame.missing_shards_computed([*shards, *(self.payloads.get(number) for number in range(1, last))], layout)
        content = b"".join(whole)[: layout.size]
        frame = parity_frame.frame(content, layout)
        for number, payload in self.payloads.items():
            if not frame.startswith(payload, layout.payload_offset(number)):
                raise DamagedArchiveError("beyond repair: the archive's parity contradicts itself; get another copy")
        return begin, end, content + frame, shards.count(None) + layout.records - len(self.payloads)

    def _shards(self, data: bytes, at: int, starts: list[int]) -> list[bytes | None]:
        """Each data shard, where it is if the protected bytes begin at one of `starts`; None if its check is not found there."""
        layout, checks, shards = self.layout, self._checks(data), []
        for j in range(layout.shards):
            wanted = {check[4 * j : 4 * j + 4] for check in checks}
            begins = [start + j * layout.shard for start in starts]
            size = min(layout.shard, layout.size - j * layout.shard)
            there = (data[b : b + size].ljust(layout.shard, b"\0") for b in begins if at <= b <= self.begin - size)
            shards.append(next((shard for shard in there if parity_frame.check(shard) in wanted), None))
        return shards

    def _checks(self, data: bytes) -> list[bytes]:
        """The list of checks; if no record of it is whole, what stands in its places."""
        numbers = (0, self.layout.records - 1)
        for number in numbers:
            if number in self.payloads:
                return [self.payloads[number]]
        size = self.layout.payload(0)
        begins = [place + self.layout.payload_offset(n) for place in self.places[:_PLACES] for n in numbers]
        return [bytes(min(max(-b, 0), size)) + data[max(b, 0) : max(b + size, 0)] for b in begins]


def _find_frames(data: bytes) -> list[_Frame]:
    frames: list[_Frame] = []
    for begin, end, layout, number, payload in _find_records(data):
        place = begin - layout.offset(number)
        if frames and frames[-1].takes(layout, number, place):
            frame = frames[-1]
            frame.payloads[number], frame.end = payload, end
            if place not in frame.places:
                frame.places.append(place)
        else:
            frames.append(_Frame(layout, {number: payload}, begin, end, [place]))
    return frames


def _find_records(data: bytes) -> Iterator[tuple[int, int, Layout, int, bytes]]:
    """Begin, end and content of whatever is a parity record, wherever it stands."""
    at, wasted = data.find(MARKER), 0
    while at >= 0 and wasted <= _SEARCH * len(data):
        end = at + 1
        for begin in range(max(at - 1 - _LENGTH_BYTES, 0), at - 1):
            record, read = _record(data, begin)
            if record and read - 4 - len(record.content) == at and (found := parity_frame.read(record.content)):
                yield begin, read, *found
                end = read
                break
            wasted += read - begin
        at = data.find(MARKER, end)


def _record(data: bytes, begin: int) -> tuple[ParityRecord | None, int]:
    """The parity record that begins there, if one does, and how far it was read."""
    if not data.startswith(TAG_PARITY, begin):
        return None, begin
    source = io.BytesIO(data)
    source.seek(begin)
    try:
        record = pull(parse_record(), source)
    except LLZError:
        return None, source.tell()
    return record if isinstance(record, ParityRecord) else None, source.tell()


def _outermost(frames: list[_Frame]) -> list[_Frame]:
    """Without those that lie in what others protect, as when an archive was compressed again."""
    outer: list[_Frame] = []
    for frame in reversed(frames):
        if not outer or frame.begin < outer[0].places[0] - outer[0].layout.size:
            outer.insert(0, frame)
    return outer
