"""Archives as binary files, in the manner of the standard library's `lzma`."""

from __future__ import annotations

import atexit
import io
import os
import sys
import warnings
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from llmzip.archive.parser import read_records
from llmzip.codec.codec import Codec
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
_unclosed: weakref.WeakSet[LLZFile] = weakref.WeakSet()  # that are being written
_PEEK = 8192  # bytes that `peek` gives if it can


class LLZFile(io.BufferedIOBase):
    """An archive that is read or written like a binary file.

    Reading decodes the blocks that are needed and keeps the last one. If the file below is seekable, so is this one: a jump reads
    the records on the way, which is fast, and decodes none of them. Every block is checked before any of it is given out; the
    check of the whole is compared when the blocks of a frame were decoded in order, before the read that reaches its end returns.
    Where a read fails, `tell` says where the block starts that cannot be had.

    Writing codes a block when its content is there; the archive is the one `compress` makes. `close` codes the rest and ends the
    frame. An exception inside `with` closes the file without that (`abandon`), which `lzma.LZMAFile` does not do: what was written
    then is an archive cut short, and decoding says so. The end of a generator is no such exception.

    A file that nobody closes is closed when Python drops it, or ends. That gives a `ResourceWarning`, and a message on standard error if
    the frame cannot be ended then.

    One thread at a time may use a file.

        >>> with llmzip.LLZFile("notes.llz", "w") as f:
        ...     f.write(b"some text")
    """

    _fp: BinaryIO | None = None  # None when closed, or not opened

    def __init__(
        self,
        filename: FileName | BinaryIO,
        mode: str = "r",
        *,
        codec: Codec | None = None,
        **options: Unpack[EncodeOptions],
    ) -> None:
        """Opens the file; the model is loaded when it is first needed.

        Args:
            filename: a path; or a binary file object, which is used from where it stands and not closed. That may give or take less than
                it is asked to, or nothing for the moment, which is waited out.
            mode: "r" to read, "w" to write, "x" to write a file that is not there yet, "a" to add a frame to an archive, in place of zeros
                that follow it, or to write one where nothing is; with or without "b".
            codec: a codec to use, with its options and the models it has loaded; the other options are not looked at then.
            options: level, model, lanes, threads and device, as in `Options`. For reading, level and lanes mean nothing, and model is only
                a place to look for a model that is not in the registry.

        Raises:
            ParameterError: an argument is out of range.
            ValueError: there is no such mode.
            NotAnArchiveError, UnsupportedArchiveError, DamagedArchiveError: what is there already is no archive that a frame can be
                added to (mode "a" and a path); it is left as it is.
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
            # Without a buffer to write: what failed to be written once must not be written again when the file is closed.
            fp = cast(BinaryIO, open(filename, _MODES[letter], -1 if letter == "r" else 0))  # noqa: SIM115
        elif hasattr(filename, "read" if letter == "r" else "write"):
            fp = filename
        else:
            raise TypeError("filename must be a path, or a file object that can be read or written")
        # To what sizes the file is brought again, one after the other, if a frame that was being added is abandoned.
        self._before = _ready_for_more(fp) if self._own and letter == "a" else ()
        if letter == "r":
            self._blocks = ArchiveBlocks(fp, codec)
        else:
            self._compressor = Compressor(codec=codec)
            _unclosed.add(self)
        self._fp = fp

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._fp is None

    @property
    def name(self) -> Any:
        """The name of the file below."""
        return self._file().name

    def close(self) -> None:
        """Ends the frame, when writing, and closes the file below if it was opened by name. Again, it does nothing.

        Raises:
            LLZError: the model cannot be had, or not be run; the file is closed nevertheless, without the frame's end.
            OSError: the file below cannot be written.
        """
        self._finish(True)

    def abandon(self) -> None:
        """Closes the file, when writing without the frame's end, so that what was written cannot pass for a whole archive.

        A frame that was being added to an archive (mode "a" and a path) is taken off again.
        """
        self._finish(False)

    def __del__(self) -> None:
        self._close_forgotten()

    def _close_forgotten(self) -> None:
        """Closes a file that its user did not, and says so: what was written to it shall not be lost in silence."""
        if self._fp is None or self._compressor is None:
            self._finish(False)
            return
        what = self._described()
        warnings.warn(f"{what} was not closed", ResourceWarning, stacklevel=2, source=self)
        try:
            self.close()
        except Exception as e:
            if sys.stderr:
                print(f"llmzip: {what} was not closed, and is an archive cut short ({e})", file=sys.stderr)

    def _described(self) -> str:
        return str(getattr(self._fp, "name", "an LLZFile"))

    def _finish(self, whole: bool) -> None:
        if self._fp is None:
            return
        fp, compressor = self._fp, self._compressor
        _unclosed.discard(self)
        ended = compressor is None
        try:
            if compressor and compressor.ready and whole:
                streams.write(fp, compressor.flush())
                ended = True
        finally:
            self._fp = self._compressor = None
            try:
                for size in () if ended else self._before:
                    fp.truncate(size)
            finally:
                if self._own:
                    fp.close()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None or issubclass(kind, GeneratorExit):
            self.close()
            return
        if self._compressor is not None:
            warnings.warn(f"{self._described()} was abandoned for an exception", ResourceWarning, stacklevel=2)
        self.abandon()

    def fileno(self) -> int:
        """The descriptor of the file below."""
        return self._file().fileno()

    def readable(self) -> bool:
        """Whether the file was opened for reading."""
        self._file()
        return self._compressor is None

    def writable(self) -> bool:
        """Whether the file was opened for writing."""
        self._file()
        return self._compressor is not None

    def seekable(self) -> bool:
        """Whether the file was opened for reading, and the file below is seekable."""
        return self.readable() and self._blocks.seekable

    def tell(self) -> int:
        """The position in the content, in bytes."""
        self._file()
        return self._pos

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a position of the content, also beyond its end, and returns it; nothing is decoded.

        Args:
            offset: bytes.
            whence: from where: `io.SEEK_SET` the start, `io.SEEK_CUR` the present position, `io.SEEK_END` the end.

        Raises:
            io.UnsupportedOperation: the file below is not seekable, or this one was opened for writing.
            ValueError: the position is negative, or `whence` unknown.
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
        """The next `size` bytes, fewer only at the end; all that is left if `size` is negative or None.

        Raises:
            LLZError: of the kind that fits what is wrong.
        """
        return self._take(size, line=False)

    def read1(self, size: int = -1) -> bytes:
        """The next bytes, at most `size` and none beyond the present block; b"" only at the end. Raises LLZError."""
        block, at = self._reader().at(self._pos) if size else (b"", 0)
        part = block[at:] if size < 0 else block[at : at + size]
        self._pos += len(part)
        return part

    def readline(self, size: int | None = -1) -> bytes:
        r"""The bytes to the next b"\n" and with it, at most `size` if that is not negative. Raises LLZError."""
        return self._take(size, line=True)

    def peek(self, size: int = -1) -> bytes:
        """Some of the next bytes, at least one unless at the end, without moving on; `size` is a hint. Raises LLZError."""
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
        """Takes content and returns its size in bytes; blocks that are complete are coded and written.

        Raises:
            LLZError: the model cannot be had, or not be run; the file can only be closed then, and the frame is not ended.
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
        """Passes on what was given out so far; content that does not fill a block yet waits for more, or for `close`, and so do blocks held back."""
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


@atexit.register
def _close_forgotten() -> None:
    """While Python can still compute."""
    for file in list(_unclosed):
        file._close_forgotten()


def _ready_for_more(fp: BinaryIO) -> tuple[int, int]:
    """Takes zeros off the end of a file that is an archive, or empty; it is closed if it is neither.

    Returns:
        its size now, and its size before.

    Raises:
        LLZError: it is no archive, and was left as it is.
    """
    try:
        size, end = fp.seek(0, io.SEEK_END), 0
        if size:
            fp.seek(0)
            reader = io.BufferedReader(fp)  # type: ignore[type-var]
            for placed in read_records(reader):
                end = placed.span.stop
            reader.detach()
        if end < size:
            fp.truncate(end)
        fp.seek(end)
        return end, size
    except BaseException:
        fp.close()
        raise
