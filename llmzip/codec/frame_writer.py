"""Makes one frame of an archive, block after block."""

from __future__ import annotations

from typing import NamedTuple

from llmzip.archive.parity import frame as parity_frame
from llmzip.archive.parity import layout as parity_layout
from llmzip.archive.records import (
    MAGIC,
    CodedBlock,
    ModelRecord,
    SoleBlock,
    StoredBlock,
    WholeCheck,
    XzBlock,
    encode_record,
    frame_start,
    sole_block,
)
from llmzip.codec.block_codec import Begun, BlockCodec, EncodedBlock, Progress, ignore_progress
from llmzip.codec.held_back import HeldBack
from llmzip.codec.observer import AnyAccount
from llmzip.options import Options


class Done(NamedTuple):
    """What an earlier run has done of a frame, up to the end of a coded block.

    Attributes:
        whole: size and check of the content.
        model: the model record in force.
        coded: how many blocks were coded.
        archive_bytes: bytes given out.
    """

    whole: WholeCheck
    model: ModelRecord | None
    coded: int
    archive_bytes: int


class _First(NamedTuple):
    """A first block that is coded: as the only one of its frame, its content, and what takes its place if it is not the only one."""

    sole: SoleBlock
    content: bytes
    instead: StoredBlock | XzBlock | None


class FrameWriter:
    """Makes one frame, block after block.

    Blocks that need no model are held back, up to MAX_BLOCK bytes of content, so that repetition across them is found. So is a first block
    that is coded, until it is known whether it stays the only one. The bytes that are given out depend on the blocks alone, and are in their order.

    Args:
        blocks: encodes each block.
        options: how to encode.
        account: watches the coding.

    Attributes:
        block_bytes: content of one block at most.
        archive_bytes: bytes given out so far.
    """

    def __init__(self, blocks: BlockCodec, options: Options, account: AnyAccount | None = None) -> None:
        self._blocks, self._options, self._account = blocks, options, account
        self._whole = WholeCheck()
        self._model: ModelRecord | None = None  # as written
        self._coded = 0  # blocks
        self._held = HeldBack(options.block_bytes)
        self._first: _First | None = None  # until it is known whether it is the only one
        self._start = frame_start()  # goes out with the first record: if the model is missing, nothing does
        self._kept: list[bytes] = []  # what was given out, if parity is to be made of it
        self.block_bytes = options.level_settings().block_bytes
        self.archive_bytes = 0

    @property
    def content_bytes(self) -> int:
        """Content of the blocks so far."""
        return self._whole.size

    @property
    def model(self) -> ModelRecord | None:
        """The model record in force; None before the first coded block."""
        return self._model

    def go_on(self, done: Done, given_out: bytes) -> None:
        """Take up what an earlier run has done, before the first block. `given_out`: those bytes, if parity is to be made of them."""
        if done.archive_bytes:
            self._whole, self._model, self._coded, self.archive_bytes = done
            self._start = b""
            self._kept = [given_out] if self._options.parity else []

    def block(self, content: bytes, progress: Progress = ignore_progress, begun: Begun[EncodedBlock] | None = None) -> bytes:
        """Take a block; return the records that can be given out now: its own, those held back before it, or none.

        Args:
            content: the block's content.
            progress: is told how far coding is.
            begun: what `BlockCodec.encoding` gave for it.

        Raises:
            LLZError: the model cannot be had, or not be run. The frame cannot go on then.
        """
        before = self.before_next()
        may_be_sole = not self._whole.size
        self._whole.update(content)
        encoded = self._blocks.encode(
            content, self._options, self._model, added=self._held.added, progress=progress, account=self._account, begun=begun
        )  # fmt: skip
        block, model, instead = encoded
        if instead and not may_be_sole:
            block = instead
        if not isinstance(block, CodedBlock):
            return before + self._out(self._held.add(content, block))
        assert model is not None
        if may_be_sole and (sole := sole_block(model, block)):
            self._model, self._first = model, _First(sole, content, instead)
            return b""
        return before + self._coded_block(model, block)

    def before_next(self) -> bytes:
        """The records that can be given out as soon as another block is known to come, before it is coded: those of a first one that was held back."""
        if not self._first:
            return b""
        (sole, content, instead), self._first = self._first, None
        self._model = None
        return self._out(self._held.add(content, instead)) if instead else self._coded_block(sole.model, sole.block)

    def _coded_block(self, model: ModelRecord, block: CodedBlock) -> bytes:
        """The records of a coded block and of what comes before it."""
        named = b"" if self._model else encode_record(model)
        self._model = model
        self._coded += 1
        return self._out(self._held.take() + named + encode_record(block))

    def end(self) -> bytes:
        """The end record, and the parity frame if there is to be one.

        The model record stands once more before it if several blocks depend on it: damage to the first must not cost all of them.
        """
        if self._first:
            self._start = MAGIC
            last = self._out(encode_record(self._first.sole))
        else:
            again = encode_record(self._model) if self._model and self._coded > 1 else b""
            last = self._out(self._held.take() + again + encode_record(self._whole.record()))
        if percent := self._options.parity:
            protected = b"".join(self._kept)
            last += self._out(parity_frame.frame(protected, parity_layout.choose(len(protected), percent)))
        if self._account:
            self._account.archive += self.archive_bytes
        return last

    def _out(self, records: bytes) -> bytes:
        if not records:
            return b""
        out, self._start = self._start + records, b""
        self.archive_bytes += len(out)
        if self._options.parity:
            self._kept.append(out)
        return out
