"""Results of `salvage`: the pieces of content that were recovered, and the gaps between them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Place:
    """Where a piece or a gap belongs.

    Attributes:
        block: number of the block in the archive, from 1; None for a part that is not a block. A damaged part that may hold several
            blocks counts as one.
        start: position in the content; None if unknown.
        size: bytes of content; None if unknown.
        exact: whether start and size, where they are known, are certain. If false they are only likely.
        archive: positions of its bytes in the archive.
    """

    block: int | None
    start: int | None
    size: int | None
    exact: bool
    archive: range


@dataclass(frozen=True)
class Piece(Place):
    """The content of a block that was recovered; all its checks hold. It has the attributes of `Place` as well.

    Attributes:
        content: the bytes.
        mended: what was wrong with the block's record and was repaired; empty for an undamaged record.
    """

    content: bytes = field(repr=False)
    mended: str = ""


@dataclass(frozen=True)
class Gap(Place):
    """A damaged part. It has the attributes of `Place` as well.

    Attributes:
        reason: what is wrong, in a few words.
        harmless: whether it is proven that no content is missing here.
    """

    reason: str
    harmless: bool = False


@dataclass(frozen=True)
class Salvaged:
    """What could be recovered of an archive's content, and what could not.

    Attributes:
        pieces: the recovered blocks, in order.
        gaps: the damaged parts, roughly in order.
    """

    pieces: list[Piece]
    gaps: list[Gap]

    @property
    def content(self) -> bytes:
        """All pieces, one after another, without the gaps."""
        return b"".join(piece.content for piece in self.pieces)

    @property
    def complete(self) -> bool:
        """Whether it is proven that nothing is missing."""
        return all(gap.harmless for gap in self.gaps)
