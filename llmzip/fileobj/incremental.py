"""Compression and decompression of data that comes in pieces, like `LZMACompressor` and `LZMADecompressor` of the standard library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llmzip.archive.parser import ArchiveParser, Placed
from llmzip.archive.records import Block, EndRecord
from llmzip.codec.codec import Codec
from llmzip.codec.cutting import BlockCutter
from llmzip.codec.frame_reader import FrameReader
from llmzip.codec.frame_writer import FrameWriter
from llmzip.errors import LLZError
from llmzip.options import Options

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from typing_extensions import Unpack

    from llmzip.options import DecodeOptions, EncodeOptions


class Compressor:
    """Makes one frame of content that comes in pieces. The bytes are the same as those of `llmzip.compress` for all of the content.

    A block is coded in the call that completes its content, so most calls of `compress` return nothing. Blocks that the model cannot help
    with are held back, up to 16 MiB of content, so that repetitions in them are found. So is the first block, as a frame of one block is shorter.

        >>> c = llmzip.Compressor()
        >>> archive = c.compress(b"some ") + c.compress(b"text") + c.flush()

    Attributes:
        ready: whether it accepts more content; false after `flush` and after an error.
    """

    def __init__(self, *, codec: Codec | None = None, **options: Unpack[EncodeOptions]) -> None:
        """Create a compressor. Nothing is loaded yet.

        Args:
            codec: a codec to use, with its options and the models it has loaded; the other arguments are ignored then.
            options: level, model, lanes, threads and device, as in `Options`.

        Raises:
            ParameterError: an argument is out of range.
        """
        codec = codec or Codec(Options.for_encoding(**options))
        self._writer = FrameWriter(codec.blocks, codec.options, codec.ledger)
        self._cutter = BlockCutter(self._writer.block_bytes)
        self.ready = True

    def compress(self, data: ReadableBuffer) -> bytes:
        """Add content, and return the part of the archive that is ready: whole blocks, or nothing.

        Args:
            data: bytes, or another object with the buffer protocol.

        Raises:
            LLZError: the model is not available or cannot be run; the compressor cannot be used any more.
            ValueError: after `flush`, or after an error.
        """
        return b"".join(self.pieces(data))

    def pieces(self, data: ReadableBuffer) -> Iterator[bytes]:
        """Yield what `compress` returns, block by block. The iterator must be exhausted before any other call."""
        yield from self._coded(self._cutter.feed(data))

    def flush(self) -> bytes:
        """Return the rest of the archive: the last block and the end of the frame. It can be called once.

        Raises:
            LLZError: the model is not available or cannot be run.
            ValueError: after `flush`, or after an error.
        """
        last = b"".join(self._coded(self._cutter.end()))
        self.ready = False
        return last + self._writer.end()

    def _coded(self, contents: Iterator[bytes]) -> Iterator[bytes]:
        if not self.ready:
            raise ValueError("the compressor was flushed or has failed")
        self.ready = False  # until all blocks are coded: a frame that lacks a block must not be ended
        for content in contents:
            yield self._writer.block(content)
        self.ready = True


class Decompressor:
    """Decodes one frame that comes in pieces.

    Content is returned block by block, each after its own check. Only when `eof` becomes true, at the end of the frame, is it certain
    that nothing is missing.

        >>> d = llmzip.Decompressor()
        >>> d.decompress(archive[:100]) + d.decompress(archive[100:])
        b'some text'
        >>> d.eof
        True
    """

    def __init__(self, *, codec: Codec | None = None, **options: Unpack[DecodeOptions]) -> None:
        """Create a decompressor. Nothing is loaded yet.

        Args:
            codec: a codec to use, with its options and the models it has loaded; the other arguments are ignored then.
            options: model, threads and device, as in `Options`.

        Raises:
            ParameterError: an argument is out of range.
        """
        self._records = PushReader()
        self._frame = FrameReader((codec or Codec(Options.for_decoding(**options))).blocks)
        self._next: Placed | None = None  # not decoded yet
        self._content = bytearray()  # decoded, not returned yet
        self._ended = False

    @property
    def eof(self) -> bool:
        """Whether the end of the frame was reached, its check passed and all its content was returned."""
        return self._ended and not self._content

    @property
    def needs_input(self) -> bool:
        """Whether `decompress` needs more of the archive before it can return more content."""
        return not (self._ended or self._content or self._next)

    @property
    def unused_data(self) -> bytes:
        """The bytes after the frame, once `eof` is true: none, another frame for another decompressor, or zeros, which mean nothing."""
        return bytes(self._records.rest) if self.eof else b""

    def decompress(self, data: ReadableBuffer, max_length: int = -1) -> bytes:
        """Add a piece of the archive, and return the content that can be decoded now.

        Args:
            data: the next bytes of the archive; may be empty.
            max_length: most bytes to return; the rest is kept for the next call. No limit if negative.

        Raises:
            NotAnArchiveError, UnsupportedArchiveError, DamagedArchiveError: the archive cannot be read; every later call fails as well.
            LLZError: the model is not available or cannot be run.
            EOFError: after the end of the frame.
        """
        if self.eof:
            raise EOFError("the frame has ended; what follows is in unused_data")
        self._records.push(data)
        while self._advance(max_length < 0 or len(self._content) < max_length):
            pass
        out = bytes(self._content if max_length < 0 else self._content[:max_length])
        del self._content[: len(out)]
        return out

    def _advance(self, decode: bool) -> bool:
        """Take the next record, a block only if `decode`; return whether one was taken."""
        self._next = self._next or self._records.record()
        if self._next is None or (isinstance(self._next.record, Block) and not decode):
            return False
        self._content += self._frame.content(self._next)  # a failure repeats at the next call, as `_next` is kept
        self._ended = isinstance(self._next.record, EndRecord)
        self._next = None
        return True


class PushReader:
    """Reads the records of one frame from bytes that come in pieces.

    Attributes:
        ended: whether the end record was returned.
        rest: bytes that were added and not used yet; after the end record, the bytes that follow the frame.
    """

    def __init__(self) -> None:
        self.ended = False
        self.rest = bytearray()
        self._error: LLZError | None = None
        self._archive = ArchiveParser()
        self._start()

    def _start(self) -> None:
        """Begin with the next record. None may be pending."""
        self._parser = self._archive.next_record()
        self._wanted = next(self._parser)

    def _given(self, placed: Placed) -> Placed:
        """Note that a record is given out."""
        self.ended = isinstance(placed.record, EndRecord)
        if not self.ended and not self._archive.pending:
            self._start()
        return placed

    def push(self, data: ReadableBuffer) -> None:
        """Add bytes."""
        self.rest += data

    def record(self) -> Placed | None:
        """Return the next record; None if more bytes are needed, or after the end record.

        Raises:
            NotAnArchiveError, UnsupportedArchiveError, DamagedArchiveError: the archive cannot be read; every later call raises the same.
        """
        if self._error:
            raise self._error
        if self._archive.pending:
            return self._given(self._archive.take())
        while self.rest and not self.ended:
            part = bytes(self.rest[: self._wanted])
            del self.rest[: self._wanted]
            try:
                self._wanted = self._parser.send(part)
            except StopIteration as done:
                return self._given(done.value)
            except LLZError as e:
                self._error = e
                raise
        return None
