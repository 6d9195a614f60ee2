"""Finds the remains of parity frames in a damaged archive, and repairs with them the bytes that they protect.

The input may be damaged or hostile. Work and memory stay in proportion to its size.
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
_LENGTH_BYTES = 4  # most bytes of a record's encoded length
_SEARCH = 4  # the search stops after reading this many times the archive's size at places that are not records
_MISSING = 8  # an archive is given up if less than one part in this many is left
_PLACES = 8  # most positions of a frame that are tried
_SMALLEST = len(frame_start() + encode_record(WholeCheck().record()))  # bytes of the smallest frame


@dataclass(frozen=True)
class RepairResult:
    """A repaired archive.

    Attributes:
        archive: its bytes.
        parts: number of shards and lists of checks of all parity frames together.
        damaged: number of these that were damaged.
        lost: whether too little is left of the archive's parity, but everything before it is whole.
    """

    archive: bytes
    parts: int = 0
    damaged: int = 0
    lost: bool = False


def repair(archive: bytes) -> bytes:
    """Repair a damaged archive with the parity in it; return the same bytes if it is whole.

    Args:
        archive: an archive that was made with parity (`Options.parity`), or several, one after another.

    Raises:
        DamagedArchiveError: too much is damaged, or there is no parity.
        NotAnArchiveError, UnsupportedArchiveError: it is not an archive, or not one that this version can read.
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
    """Repair an archive with its parity; return None if it has none.

    Raises:
        LLZError: as for `repair`.
    """
    repaired = repair_frames(archive) or _without_lost_parity(archive)
    if repaired is not None:
        try:
            check_records(repaired.archive)
        except UnsupportedArchiveError:
            pass  # parity does not depend on what it protects
        except (DamagedArchiveError, NotAnArchiveError) as e:
            raise DamagedArchiveError(_NOT_ALL) from e
    return repaired


def check_records(archive: bytes) -> None:
    """Read all records. Raises LLZError if one cannot be read."""
    for _ in read_records(io.BytesIO(archive)):
        pass


def repair_frames(data: bytes) -> RepairResult | None:
    """Repair bytes of any kind that are followed by their parity frames; return None if no parity is found.

    Raises:
        DamagedArchiveError: too much is damaged.
    """
    frames = _outermost(_find_frames(data))
    if not frames:
        return None
    out, at, parts, damaged = [], 0, 0, 0
    for frame in frames:
        begin, end, content, lost = frame.repair(data, at)
        out += [data[at:begin] if begin - at >= _SMALLEST else b"", content]  # fewer bytes than a frame, between two: the damage added them
        at = end
        parts += frame.layout.shards + frame.layout.records
        damaged += lost
    rest = data[at:]
    added = len(rest) < _SMALLEST and rest.strip(b"\0") and not rest.startswith(MAGIC[: len(rest)])
    return RepairResult(b"".join(out) if added else b"".join([*out, rest]), parts, damaged)


def _without_lost_parity(archive: bytes) -> RepairResult | None:
    """Return the archive without a parity frame at its end that is damaged beyond use.

    Returns:
        None if no such frame follows a whole archive.
    """
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
    """The remains of a parity frame.

    Attributes:
        layout: how it and the protected bytes are cut.
        payloads: payloads of the records found, by their numbers.
        begin: position of the first record found.
        end: position after the last record found.
        places: positions of the frame's magic, computed from each record. They differ if bytes are missing or were added.
    """

    layout: Layout
    payloads: dict[int, bytes]
    begin: int
    end: int
    places: list[int]

    def takes(self, layout: Layout, number: int, place: int) -> bool:
        """Whether a record found later can belong to this frame."""
        return layout == self.layout and number > max(self.payloads) and abs(place - self.places[-1]) < layout.frame_size

    def repair(self, data: bytes, at: int) -> tuple[int, int, bytes, int]:
        """Return the protected bytes and the parity frame, repaired.

        Args:
            data: the damaged file.
            at: position in it after the part that was repaired before.

        Returns:
            Begin and end of the part of the file to replace; its replacement; the number of parts that were damaged.

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
        whole = parity_frame.compute_missing_shards([*shards, *(self.payloads.get(number) for number in range(1, last))], layout)
        content = b"".join(whole)[: layout.size]
        frame = parity_frame.frame(content, layout)
        for number, payload in self.payloads.items():
            if not frame.startswith(payload, layout.payload_offset(number)):
                raise DamagedArchiveError("beyond repair: the archive's parity contradicts itself; get another copy")
        return begin, end, content + frame, shards.count(None) + layout.records - len(self.payloads)

    def _shards(self, data: bytes, at: int, starts: list[int]) -> list[bytes | None]:
        """Return the data shards, None where one is damaged.

        Args:
            data: the damaged file.
            at: position in it after the part that was repaired before.
            starts: positions where the protected bytes may begin. A shard is taken from the first where its check fits.
        """
        layout, checks, shards = self.layout, self._checks(data), []
        for j in range(layout.shards):
            wanted = {check[4 * j : 4 * j + 4] for check in checks}
            begins = [start + j * layout.shard for start in starts]
            size = min(layout.shard, layout.size - j * layout.shard)
            there = (data[b : b + size].ljust(layout.shard, b"\0") for b in begins if at <= b <= self.begin - size)
            shards.append(next((shard for shard in there if parity_frame.check(shard) in wanted), None))
        return shards

    def _checks(self, data: bytes) -> list[bytes]:
        """Return the list of checks; if both its records are damaged, the bytes at each of its possible positions."""
        numbers = (0, self.layout.records - 1)
        for number in numbers:
            if number in self.payloads:
                return [self.payloads[number]]
        size = self.layout.payload(0)
        begins = [place + self.layout.payload_offset(n) for place in self.places[:_PLACES] for n in numbers]
        return [bytes(min(max(-b, 0), size)) + data[max(b, 0) : max(b + size, 0)] for b in begins]


def _find_frames(data: bytes) -> list[_Frame]:
    """Return the remains of all parity frames, in order."""
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
    """Yield begin, end and fields of every intact parity record, wherever it stands."""
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
    """Return the parity record that begins at a position, None if there is none, and the position up to which bytes were read."""
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
    """Return the frames that do not lie in the protected bytes of others. Such are found if an archive was compressed again."""
    outer: list[_Frame] = []
    for frame in reversed(frames):
        if not outer or frame.begin < outer[0].places[0] - outer[0].layout.size:
            outer.insert(0, frame)
    return outer
