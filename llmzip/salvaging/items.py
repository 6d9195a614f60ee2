"""What a scan finds in an archive: starts of frames, records, and damaged parts."""

from __future__ import annotations

from dataclasses import dataclass

from llmzip.archive.records import TAG_END, TAG_SOLE, AnyRecord, EndRecord, SoleBlock

DAMAGED, CUT = "damaged", "cut off"  # reasons of damaged parts


@dataclass(frozen=True)
class Start:
    """The start of a frame, its magic and version: data[start:stop].

    Attributes:
        start: position of its first byte in the archive.
        stop: position after its last byte.
        intact: whether magic and version are correct.
    """

    start: int
    stop: int
    intact: bool = True


@dataclass(frozen=True)
class Found:
    """A record that is intact or was repaired: data[start:stop].

    Attributes:
        start: position of its first byte in the archive.
        stop: position after its last byte.
        record: the record.
        repaired: what was wrong and was repaired; empty for an intact record.
        proven: whether its own checks, those of the decoded content included, leave no doubt. If not, only the frame's check can decide.
    """

    start: int
    stop: int
    record: AnyRecord
    repaired: str = ""
    proven: bool = True


@dataclass(frozen=True)
class Lost:
    """A damaged part: data[start:stop].

    Attributes:
        start: position of its first byte in the archive.
        stop: position after its last byte.
        reason: what is wrong, in a few words.
        whole: whether it is known to be exactly one record.
        tag: the record's tag, if the part is one record or looks like an end record; else empty.
        size: bytes of content according to the record's fields; None if the fields are out of range or missing.
        total: bytes of content of the frame, according to the fields of an end record; None if there are none.
        record: the record, if only its CRC is wrong; else None.
    """

    start: int
    stop: int
    reason: str = DAMAGED
    whole: bool = False
    tag: bytes = b""
    size: int | None = None
    total: int | None = None
    record: AnyRecord | None = None


Item = Start | Found | Lost


def ends_frame(item: Item) -> bool:
    """Whether this is a frame's last record, intact or not."""
    if isinstance(item, Lost):
        return item.tag in (TAG_END, TAG_SOLE)
    return isinstance(item, Found) and isinstance(item.record, (EndRecord, SoleBlock))
