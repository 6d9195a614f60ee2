"""Where in the content the blocks of a damaged archive belong, as far as it can be told.

Positions follow from the sizes of what comes before. The size of what is lost stands in its own fields, if those are not damaged, and follows
from the size that the frame's end record states.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile

from llmzip.archive.records import TAG_END, WHOLE_BYTES, Block, EndRecord, ModelRecord, encode_record
from llmzip.salvaging.scan import Found, Item, Lost, Start

_SLACK = 128  # bytes of models' and end records, and of what was inserted by damage


@dataclass
class Part:
    """A block, a part that is lost, or one that holds no content and was mended.

    Attributes:
        item: what the scanner found.
        size: bytes of content; None if unknown.
        start: its position in the content; None if unknown.
        exact: whether start, and the size if it is known, are certain and not just likely.
        model: the latest model record before it in its frame.
        models_lost: whether another may have come after that one.
        bounded: whether it is one block or record, or seems to be.
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
        """Whether it is damage that could not be mended."""
        return isinstance(self.item, Lost)

    @property
    def is_block(self) -> bool:
        """Whether it is a block that is there."""
        return isinstance(self.item, Found) and isinstance(self.item.record, Block)


@dataclass
class Frame:
    """What is there of a frame, or of several if what separates them is lost.

    Attributes:
        start: position of its first byte in the archive.
        stop: of the byte after its last.
        parts: in order.
        models: the model records that are there.
        end: the end record, if it is there.
        closed: whether there is an end record, damaged or not.
        stated: bytes of content, by a damaged end record.
        spare: bytes of content that the end record states beyond those of the blocks found; None without an end record.
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
        """Sets positions and sizes.

        Args:
            base: where the frame's content starts; None if unknown.
            exact: whether that is certain.

        Returns:
            The same of what follows the frame.
        """
        lost = [part for part in self.parts if part.is_lost]
        found = sum(part.size or 0 for part in self.parts if part.is_block)
        total = self.end.size if self.end else found if self.stated == found else None
        torn = sure = False
        if total is not None:
            self.spare = total - found
            torn = self.spare < 0 or (self.spare > 0 and not lost) or _too_long(lost, self.spare)
            sure = not torn and _fit(lost, self.spare)
        if torn or total is None:
            for part in lost:
                part.size = part.size if part.bounded and not torn else None
        position, certain = None if torn and not lost else base, exact
        for part in self.parts:
            fits = sure or not part.is_lost
            part.start, part.exact = position, position is not None and certain and (fits or part.size is None)
            certain = certain and fits
            position = None if position is None or part.size is None else position + part.size
        if torn or base is None or total is None:
            return None if torn else position, False
        position = base + total
        for part in reversed(self.parts):
            if part.size is None:
                break
            position -= part.size
            if part.start is None:
                part.start, part.exact = position, exact and sure
        return base + total, exact and sure

    @property
    def hides(self) -> bool:
        """Whether all of a frame before this one may be in a damaged part, even if this one's content is all there."""
        return not all(part.bounded for part in takewhile(lambda part: not part.is_block, self.parts))


def _too_long(lost: list[Part], spare: int) -> bool:
    """Whether more is lost than records with `spare` bytes of content can have had: no record is much longer than its content."""
    return sum(part.item.stop - part.item.start for part in lost if not part.bounded) > spare + _SLACK


def _fit(lost: list[Part], spare: int) -> bool:
    """Makes the sizes of what is lost add up to `spare`, as far as that is possible; whether they are certain then."""
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


def frames(items: list[Item]) -> list[Frame]:
    """Sorts what the scanner found into frames."""
    out: list[Frame] = []
    current: Frame | None = None
    latest: ModelRecord | None = None
    lossy = False
    for item in items:
        if current is None or isinstance(item, Start) or (current.closed and (current.end or isinstance(item, Found))):
            current, latest, lossy = Frame(item.start, item.stop), None, not isinstance(item, Start)
            out.append(current)
        current.stop = item.stop
        if isinstance(item, Start):
            if not item.intact:
                current.parts.append(Part(item, 0))
        elif isinstance(item, Lost):
            current.parts.append(Part(item, item.size, model=latest, models_lost=lossy, bounded=item.whole))
            lossy = True
            if item.tag == TAG_END:
                current.closed, current.stated = True, item.total
        else:
            if isinstance(item.record, Block):
                current.parts.append(Part(item, item.record.size, model=latest, models_lost=lossy))
            elif item.mended:
                current.parts.append(Part(item, 0))
            if isinstance(item.record, ModelRecord):
                current.models.append(item.record)
                latest = item.record
            elif isinstance(item.record, EndRecord):
                current.end, current.closed = item.record, True
    lengths = {len(encode_record(model)) for frame in out for model in frame.models}
    for frame in out:
        _guess(frame, lengths)
    return out


def _guess(frame: Frame, lengths: set[int]) -> None:
    """What is lost and as long as a model record is one; so is an end record what is lost at the end, and no longer."""
    last = frame.parts[-1] if frame.parts else None
    end = len(encode_record(EndRecord(sum(part.size or 0 for part in frame.parts), bytes(WHOLE_BYTES))))
    for part in frame.parts:
        length = part.item.stop - part.item.start
        if not part.bounded and not part.size and length in lengths:
            part.size, part.bounded = 0, True
        elif not part.bounded and not part.size and part is last and not frame.closed and part.item.stop == frame.stop and length <= end:
            part.size, part.bounded, frame.closed = 0, True, True
