"""Turns the records of an archive, in order, into its content."""

from __future__ import annotations

from llmzip.archive.parser import Placed
from llmzip.archive.records import EndRecord, ModelRecord, ParityRecord, WholeCheck
from llmzip.codec.block_codec import Announce, Begun, BlockCodec, Progress, ignore_progress
from llmzip.errors import DamagedArchiveError

_WHOLE_MISMATCH = "the content as a whole does not match its check; get another copy"


class FrameReader:
    """Decodes the records of one frame after another and checks each frame as a whole.

    Args:
        blocks: decodes each block.
        announce: is told of each coded block before it is decoded.
    """

    def __init__(self, blocks: BlockCodec, announce: Announce | None = None) -> None:
        self._blocks, self._announce = blocks, announce
        self._whole = WholeCheck()

    def content(self, placed: Placed, progress: Progress = ignore_progress, begun: Begun[bytes] | None = None) -> bytes:
        """The content of a block; nothing for a record of another kind.

        Args:
            placed: the record.
            progress: is told how far decoding is.
            begun: what `BlockCodec.decoding` gave for it.

        Raises:
            DamagedArchiveError: the block, or with the end record the whole, does not match its check.
            LLZError: the model cannot be had, or not be run.
        """
        record = placed.record
        if isinstance(record, EndRecord):
            check_whole(self._whole, record)
            self._whole = WholeCheck()
        elif not isinstance(record, (ModelRecord, ParityRecord)):
            content = self._blocks.decode(record, placed.model, progress, self._announce, begun)
            self._whole.update(content)
            return content
        return b""


def check_whole(whole: WholeCheck, end: EndRecord) -> None:
    """Raise DamagedArchiveError if a frame's content is not what its end record says."""
    if not whole.is_what(end):
        raise DamagedArchiveError(_WHOLE_MISMATCH)
