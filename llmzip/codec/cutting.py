"""Cuts input into blocks, and recognises blocks that need no model. The cuts shape the archive's bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from llmzip.archive import lzma2
from llmzip.archive.records import StoredBlock, XzBlock, content_check
from llmzip.codec.density import is_dense, is_hopeless
from llmzip.system import streams

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_XZ_IS_ENOUGH = 25  # if xz shrinks a block this many times, the model's gain is not worth its time
_BINARY_SHARE = 0.2  # a block with a larger share of bytes that are not UTF-8 is not text
_CUT_SEARCH = 4096  # bytes before a block's end in which the end of a line is looked for


class BlockCutter:
    """Cuts bytes that come in pieces into blocks of at most `size` bytes.

    A cut is at the end of a line if possible, else between two characters if possible. Cuts depend on the bytes alone, not on the pieces.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held = bytearray()  # less than a block

    @property
    def room(self) -> int:
        """How many bytes complete a block, at least 1."""
        return self._size - len(self._held)

    def feed(self, data: ReadableBuffer) -> Iterator[bytes]:
        """Take `data` and yield the blocks that are complete now. Exhaust it before feeding more."""
        view = memoryview(data).cast("B")
        while view:
            room = self.room
            self._held += view[:room]
            view = view[room:]
            if len(self._held) == self._size:
                block = bytes(self._held[: _cut(self._held)])
                del self._held[: len(block)]
                yield block

    def end(self) -> Iterator[bytes]:
        """Yield the last block, if anything is left."""
        if self._held:
            yield bytes(self._held)
            self._held.clear()


def _cut(data: bytearray) -> int:
    """Where to end a block that is full."""
    size = len(data)
    cut = data.rfind(b"\n", max(0, size - _CUT_SEARCH)) + 1
    if not cut:
        cut = next((i for i in range(size - 1, max(size - 4, 0), -1) if data[i] & 0xC0 != 0x80), size)
        if data[cut : cut + 1] < b"\xc0":
            cut = size
    return cut


def read_blocks(source: BinaryIO, size: int) -> Iterator[bytes]:
    """Cut a stream into blocks; read no further than the next block needs."""
    cutter = BlockCutter(size)
    while data := streams.read(source, cutter.room):
        yield from cutter.feed(data)
    yield from cutter.end()


def xz_block(content: bytes, preset: int = lzma2.USUAL) -> XzBlock:
    """This as an xz block."""
    return XzBlock(len(content), content_check(content), lzma2.pack(content, preset))


def smallest_classic(content: bytes) -> StoredBlock | XzBlock:
    """The smaller of the blocks that need no model."""
    packed = xz_block(content)
    return packed if len(packed.body()) < len(content) else StoredBlock(content)


def is_enough(packed: int, text: int) -> bool:
    """Whether `packed` bytes for so many bytes of text are so few that the model's gain is not worth its time."""
    return packed * _XZ_IS_ENOUGH < text


def skip_model(text: bytes, plain: StoredBlock | XzBlock) -> bool:
    """Whether the model is no help: for very repetitive, binary or random input. Decided without loading the model.

    Args:
        text: the text that the model would code.
        plain: the same content as a block without the model.
    """
    if isinstance(plain, XzBlock) and is_enough(len(plain.stream), len(text)):
        return True
    invalid = sum(0xDC80 <= ord(c) <= 0xDCFF for c in text.decode("utf-8", "surrogateescape") if c > "\x7f")
    return invalid > _BINARY_SHARE * len(text) or (is_dense(text) and is_hopeless(text, len(plain.body())))
