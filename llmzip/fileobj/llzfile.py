"""Archives as binary files, like `lzma.LZMAFile` of the standard library."""

from __future__ import annotations

import io
import os
import sys
import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from llmzip.codec.codec import Codec
from llmzip.fileobj import appending, unclosed
from llmzip.fileobj.incremental import Compressor
from llmzip.fileobj.seeking import ArchiveBlocks
from llmzip.options import Options
from llmzip.system import streams

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from typing_extensions import Unpack

    from llmzip.options import EncodeOptions

    FileName = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_MODES = {"r": "rb", "w": "wb", "x": "xb", "a": "a+b"}
_PEEK = 8192  # bytes that `peek` returns if the block has so many left


class LLZFile(io.BufferedIOBase):
    """An archive that is read or written like a binary file.

    Reading decodes the blocks that are needed and keeps the last one. The file is seekable if the underlying file is. A seek reads the
    records on the way, which is fast, and decodes none of them. Every block is checked before any of its content is returned. If the
    blocks of a frame were decoded in order, the frame's check is compared before the read that reaches its end returns. After a read
    failed, `tell` returns the start of the block that cannot be decoded.

    Writing codes a block when its content is complete. The archive is the same as that of `compress`. `close` codes the rest and ends
    the frame. An exception inside `with` closes the file without ending the frame (`abandon`), which `lzma.LZMAFile` does not do. The
    file is then an archive cut short, and decoding it reports that. `GeneratorExit` does not count as an exception here.

    A file that is not closed by its user is closed when Python drops the object, or exits. That gives a `ResourceWarning`, and a message
    on standard error if the frame cannot be ended then.

    Only one thread at a time may use a file.

        >>> with llmzip.LLZFile("notes.llz", "w") as f:
        ...     f.write(b"some text")
    """

    _fp: BinaryIO | None = None  # None when closed or not yet opened

    def __init__(
        self,
        filename: FileName | BinaryIO,
        mode: str = "r",
        *,
        codec: Codec | None = None,
        **options: Unpack[EncodeOptions],
    ) -> None:
        """Open the file. The model is loaded when it is first needed.

        Args:
            filename: a path; or a binary file object, which is used from its current position and not closed. A file object may read or
                write fewer bytes than asked for. It may also read or write none for the moment; the operation then waits.
            mode: "r" to read, "w" to write, "x" to write a file that does not exist yet, "a" to add a frame to an archive; each with or
                without "b". "a" replaces zeros that follow the archive, and creates the file if it does not exist.
            codec: a codec to use, with its options and the models it has loaded; the other options are ignored then.
            options: level, model, lanes, threads and device, as in `Options`. For reading, level and lanes have no effect, and model is
                only a place to look for a model that is not in the registry.

        Raises:
            ParameterError: an argument is out of range.
            ValueError: the mode is unknown.
            NotAnArchiveError, UnsupportedArchiveError, DamagedArchiveError: the existing file is not an archive that a frame can be added
                to (mode "a" and a path); its content is unchanged.
            OSError: the file cannot be opened.
        """
        self._pos = 0  # in the content
        self._compressor: Compressor | None = None
        letter = mode.replace("b", "", 1)
        if letter not in _MODES:
            raise ValueError(f"the mode must be one of r, w, x, a, with or without b, not {mode!r}")
        self.mode = "rb" if letter == "r" else "wb"
        codec = codec or Codec(Options.for_encoding(**options))
        self._own = isinstance(filename, (str, bytes, os.PathLike))
        if isinstance(filename, (str, bytes, os.PathLike)):
            # Unbuffered for writing: bytes of which the writing failed must not be written again when the file is closed.
            fp = cast(BinaryIO, open(filename, _MODES[letter], -1 if letter == "r" else 0))  # noqa: SIM115
        elif hasattr(filename, "read" if letter == "r" else "write"):
            fp = filename
        else:
            raise TypeError("filename must be a path, or a file object that can be read or written")
        # Sizes to which the file is set, one after the other, if a frame that was being added is abandoned.
        self._sizes_before = appending.prepare(fp) if self._own and letter == "a" else ()
        if letter == "r":
            self._blocks = ArchiveBlocks(fp, codec)
        else:
            self._compressor = Compressor(codec=codec)
            unclosed.watch(self)
        self._fp = fp

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._fp is None

    @property
    def name(self) -> Any:
        """The name of the underlying file."""
        return self._file().name

    def close(self) -> None:
        """Close the file; when writing, end the frame first. Close the underlying file if it was opened by name.

        A second call does nothing.

        Raises:
            LLZError: the model is not available or cannot be run; the file is closed nevertheless, without the frame's end.
            OSError: the underlying file cannot be written.
        """
        self._finish(True)

    def abandon(self) -> None:
        """Close the file; when writing, do not end the frame, so that the file cannot pass for a complete archive.

        A frame that was being added to an archive (mode "a" and a path) is removed.
        """
        self._finish(False)

    def __del__(self) -> None:
        if self._fp is None or self._compressor is None:
            self._finish(False)
        else:
            unclosed.close(self)

    def _finish(self, complete: bool) -> None:
        """Close the file; if `complete`, end the frame first."""
        if self._fp is None:
            return
        fp, compressor = self._fp, self._compressor
        unclosed.unwatch(self)
        ended = compressor is None
        try:
            if compressor and compressor.ready and complete:
                streams.write(fp, compressor.flush())
                ended = True
        finally:
            self._fp = self._compressor = None
            try:
                for size in () if ended else self._sizes_before:
                    fp.truncate(size)
            finally:
                if self._own:
                    fp.close()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None or issubclass(kind, GeneratorExit):
            self.close()
            return
        if self._compressor is not None:
            warnings.warn(f"{unclosed.describe(self)} was abandoned for an exception", ResourceWarning, stacklevel=2)
        self.abandon()

    def fileno(self) -> int:
        """Return the descriptor of the underlying file."""
        return self._file().fileno()

    def readable(self) -> bool:
        """Return whether the file was opened for reading."""
        self._file()
        return self._compressor is None

    def writable(self) -> bool:
        """Return whether the file was opened for writing."""
        self._file()
        return self._compressor is not None

    def seekable(self) -> bool:
        """Return whether the file was opened for reading and the underlying file is seekable."""
        return self.readable() and self._blocks.seekable

    def tell(self) -> int:
        """Return the position in the content, in bytes."""
        self._file()
        return self._pos

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position in the content, and return it. It may lie beyond the end. Nothing is decoded.

        Args:
            offset: distance from `whence`, in bytes.
            whence: `io.SEEK_SET` for the start, `io.SEEK_CUR` for the current position, `io.SEEK_END` for the end.

        Raises:
            io.UnsupportedOperation: the underlying file is not seekable, or this one was opened for writing.
            ValueError: the position is negative, or `whence` is unknown.
            LLZError: with SEEK_END, the archive is damaged.
        """
        if not self.seekable():
            raise io.UnsupportedOperation("seek")
        if whence not in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._pos}.get(whence)
        position = offset + (self._blocks.size() if base is None else base)
        if position < 0:
            raise ValueError(f"a position cannot be negative: {position}")
        self._pos = position
        return position

    def read(self, size: int | None = -1) -> bytes:
        """Return the next `size` bytes, fewer only at the end; all remaining bytes if `size` is negative or None.

        Raises:
            LLZError: the archive is damaged or cannot be decoded; the subclass says what is wrong.
        """
        return self._take(size, line=False)

    def read1(self, size: int = -1) -> bytes:
        """Return the next bytes of the current block, at most `size`; b"" only at the end. Raises LLZError."""
        block, at = self._reader().at(self._pos) if size else (b"", 0)
        part = block[at:] if size < 0 else block[at : at + size]
        self._pos += len(part)
        return part

    def readline(self, size: int | None = -1) -> bytes:
        r"""Return the bytes up to and including the next b"\n", at most `size` if that is not negative. Raises LLZError."""
        return self._take(size, line=True)

    def peek(self, size: int = -1) -> bytes:
        """Return some of the next bytes, at least one unless at the end, and do not move; `size` is a hint. Raises LLZError."""
        block, at = self._reader().at(self._pos)
        return block[at : at + max(size, _PEEK)]

    def _take(self, size: int | None, line: bool) -> bytes:
        blocks = self._reader()
        left = sys.maxsize if size is None or size < 0 else size
        parts = []
        while left:
            block, at = blocks.at(self._pos)
            end = min(len(block), at + left)
            if line:
                end = block.find(b"\n", at, end) + 1 or end
            if end == at:
                break
            parts.append(block[at:end])
            self._pos += end - at
            left -= end - at
            if line and block[end - 1] == ord("\n"):
                break
        return b"".join(parts)

    def write(self, data: ReadableBuffer) -> int:
        """Add content, and return its size in bytes. Complete blocks are coded and written.

        Raises:
            LLZError: the model is not available or cannot be run. The file can only be closed then, and its frame is not ended.
        """
        fp = self._file()
        if self._compressor is None:
            raise io.UnsupportedOperation("the file was opened for reading")
        view = memoryview(data)
        for piece in self._compressor.pieces(view):
            streams.write(fp, piece)
        self._pos += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Flush the underlying file.

        Content that does not fill a block yet, and blocks held back, stay here until more content comes or `close` is called.
        """
        fp = self._file()
        if self._compressor:
            streams.flush(fp)

    def _file(self) -> BinaryIO:
        if self._fp is None:
            raise ValueError("I/O operation on closed file")
        return self._fp

    def _reader(self) -> ArchiveBlocks:
        self._file()
        if self._compressor is not None:
            raise io.UnsupportedOperation("the file was opened for writing")
        return self._blocks
