"""Finds where in the content the blocks of a damaged archive belong, as far as that can be known.

A block's position is the sum of the sizes before it. The size of a lost part is read from its own fields, if those are undamaged, and is also
computed from the size that the frame's end record states.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import takewhile

from llmzip.archive.records import WHOLE_BYTES, Block, EndRecord, ModelRecord, SoleBlock, encode_record
from llmzip.salvaging.items import Found, Item, Lost, Start, ends_frame

_SLACK = 128  # bytes allowed for model records, end records and bytes inserted by damage


@dataclass
class Part:
    """A block, a lost part, or a repaired part without content.

    Attributes:
        item: the item that the scan found.
        size: bytes of content; None if unknown.
        start: position in the content; None if unknown.
        exact: whether the start, and the size if it is known, are certain. If false they are only likely.
        model: the latest model record before it in its frame; None if there is none.
        models_lost: whether a later model record before it may be lost.
        bounded: whether it is, or seems to be, exactly one block or record.
    """

    item: Item
    size: int | None
    start: int | None = None
    exact: bool = False
    model: ModelRecord | None = None
    models_lost: bool = False
    bounded: bool = True

    @property
    def is_lost(self) -> bool:
        """Whether it is damaged and could not be repaired."""
        return isinstance(self.item, Lost)

    @property
    def is_block(self) -> bool:
        """Whether it is a block that was found."""
        return isinstance(self.item, Found) and isinstance(self.item.record, Block)


@dataclass
class Frame:
    """The parts found of a frame, or of several frames if the boundary between them is lost.

    Attributes:
        start: position of its first byte in the archive.
        stop: position after its last byte.
        parts: the parts, in order.
        models: the model records found.
        end: the end record, if it was found.
        closed: whether there is an end record, damaged or not.
        stated: bytes of content according to a damaged end record; None if there is none.
        spare: bytes of content that the end record states beyond those of the blocks found; None without an end record. Set by `place`.
    """

    start: int
    stop: int
    parts: list[Part] = field(default_factory=list)
    models: list[ModelRecord] = field(default_factory=list)
    end: EndRecord | None = None
    closed: bool = False
    stated: int | None = None
    spare: int | None = None

    def place(self, base: int | None, exact: bool) -> tuple[int | None, bool]:
        """Set positions and sizes of all parts.

        Args:
            base: position where the frame's content starts; None if unknown.
            exact: whether `base` is certain.

        Returns:
            Position where the next frame's content starts, None if unknown; whether it is certain.
        """
        lost = [part for part in self.parts if part.is_lost]
        found = sum(part.size or 0 for part in self.parts if part.is_block)
        total = self.end.size if self.end else found if self.stated == found else None
        inconsistent = sizes_certain = False  # inconsistent: the end record does not fit the parts found
        if total is not None:
            self.spare = total - found
            inconsistent = self.spare < 0 or (self.spare > 0 and not lost) or _exceed(lost, self.spare)
            sizes_certain = not inconsistent and _assign_sizes(lost, self.spare)
        if inconsistent or total is None:
            for part in lost:
                part.size = part.size if part.bounded and not inconsistent else None
        position, certain = None if inconsistent and not lost else base, exact
        for part in self.parts:
            settled = sizes_certain or not part.is_lost
            part.start, part.exact = position, position is not None and certain and (settled or part.size is None)
            certain = certain and settled
            position = None if position is None or part.size is None else position + part.size
        if inconsistent or base is None or total is None:
            return None if inconsistent else position, False
        position = base + total
        for part in reversed(self.parts):
            if part.size is None:
                break
            position -= part.size
            if part.start is None:
                part.start, part.exact = position, exact and sizes_certain
        return base + total, exact and sizes_certain

    @property
    def may_hide_frame(self) -> bool:
        """Whether a damaged part before the first block may hold a whole other frame, even if this frame's content is complete."""
        return not all(part.bounded for part in takewhile(lambda part: not part.is_block, self.parts))


def _exceed(lost: list[Part], spare: int) -> bool:
    """Whether the lost parts are longer than records with `spare` bytes of content can be. No record is much longer than its content."""
    return sum(part.item.stop - part.item.start for part in lost if not part.bounded) > spare + _SLACK


def _assign_sizes(lost: list[Part], spare: int) -> bool:
    """Set the sizes of the lost parts so that they add up to `spare`, as far as that is possible.

    Returns:
        Whether the sizes are certain.
    """
    unknown = [part for part in lost if part.size is None]
    stated = sum(part.size or 0 for part in lost)
    agreed = not unknown and stated == spare
    if not agreed and not spare:
        for part in lost:
            part.size = 0
    elif not agreed and len(lost) == 1:
        lost[0].size = spare
    elif not agreed and len(unknown) == 1 and stated <= spare:
        unknown[0].size = spare - stated
    elif not agreed and (not unknown or stated > spare):
        for part in lost:
            part.size = None
    return (agreed or len(lost) == 1) and all(isinstance(part.item, Lost) and part.item.whole for part in lost)


def group_frames(items: list[Item]) -> list[Frame]:
    """Group the items of a scan into frames."""
    frames: list[Frame] = []
    current: Frame | None = None
    latest: ModelRecord | None = None
    models_lost = False
    for item in (part for one in items for part in _expanded(one)):
        if current is None or isinstance(item, Start) or (current.closed and (current.end or isinstance(item, Found))):
            current, latest, models_lost = Frame(item.start, item.stop), None, not isinstance(item, Start)
            frames.append(current)
        current.stop = item.stop
        if isinstance(item, Start):
            if not item.intact:
                current.parts.append(Part(item, 0))
        elif isinstance(item, Lost):
            current.parts.append(Part(item, item.size, model=latest, models_lost=models_lost, bounded=item.whole))
            models_lost = True
            if ends_frame(item):
                current.closed, current.stated = True, item.total
        else:
            if isinstance(item.record, Block):
                current.parts.append(Part(item, item.record.size, model=latest, models_lost=models_lost))
            elif item.repaired:
                current.parts.append(Part(item, 0))
            if isinstance(item.record, ModelRecord):
                current.models.append(item.record)
                latest = item.record
            elif isinstance(item.record, EndRecord):
                current.end, current.closed = item.record, True
    lengths = {len(encode_record(model)) for frame in frames for model in frame.models}
    for frame in frames:
        _classify_by_length(frame, lengths)
    return frames


def _expanded(item: Item) -> list[Item]:
    """The items that a sole block stands for: its model and its end, which take no bytes, and its block. If it is damaged, its end is none."""
    if isinstance(item, Start) or not isinstance(item.record, SoleBlock):
        return [item]
    sole, model = item.record, Found(item.start, item.start, item.record.model)
    end = [Found(item.stop, item.stop, sole.end)] if isinstance(item, Found) else []
    return [model, replace(item, record=sole.block), *end]


def _classify_by_length(frame: Frame, lengths: set[int]) -> None:
    """Treat a damaged span exactly as long as a model record as one; treat a final span no longer than an end record as the end record.

    Args:
        frame: the frame; its parts are changed.
        lengths: bytes of the archive's model records.
    """
    last = frame.parts[-1] if frame.parts else None
    end = len(encode_record(EndRecord(sum(part.size or 0 for part in frame.parts), bytes(WHOLE_BYTES))))
    for part in frame.parts:
        length = part.item.stop - part.item.start
        if not part.bounded and not part.size and length in lengths:
            part.size, part.bounded = 0, True
        elif not part.bounded and not part.size and part is last and not frame.closed and part.item.stop == frame.stop and length <= end:
            part.size, part.bounded, frame.closed = 0, True, True
