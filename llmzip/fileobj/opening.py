"""`llmzip.open`: archives as binary or text files."""

from __future__ import annotations

import codecs
import io
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast, overload

from llmzip.codec.codec import Codec
from llmzip.fileobj.llzfile import LLZFile

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from llmzip.fileobj.llzfile import FileName
    from llmzip.options import EncodeOptions

_BinaryMode = Literal["r", "rb", "w", "wb", "x", "xb", "a", "ab"]
_TextMode = Literal["rt", "wt", "xt", "at"]


class _TextFile(io.TextIOWrapper):
    """A text file over an `LLZFile`; an exception inside `with` abandons it."""

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and not issubclass(kind, GeneratorExit):
            cast(LLZFile, self.buffer).__exit__(kind, value, trace)
        self.close()


@overload
def open(
    filename: FileName | BinaryIO, mode: _BinaryMode = ..., *, codec: Codec | None = ...,
    encoding: str | None = ..., errors: str | None = ..., newline: str | None = ..., **options: Unpack[EncodeOptions],
) -> LLZFile: ...  # fmt: skip


@overload
def open(
    filename: FileName | BinaryIO, mode: _TextMode, *, codec: Codec | None = ...,
    encoding: str | None = ..., errors: str | None = ..., newline: str | None = ..., **options: Unpack[EncodeOptions],
) -> io.TextIOWrapper: ...  # fmt: skip


@overload
def open(
    filename: FileName | BinaryIO, mode: str, *, codec: Codec | None = ...,
    encoding: str | None = ..., errors: str | None = ..., newline: str | None = ..., **options: Unpack[EncodeOptions],
) -> LLZFile | io.TextIOWrapper: ...  # fmt: skip


def open(
    filename: FileName | BinaryIO,
    mode: str = "rb",
    *,
    codec: Codec | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    **options: Unpack[EncodeOptions],
) -> LLZFile | io.TextIOWrapper:
    r"""Open an archive in binary or text mode.

        >>> with llmzip.open("notes.llz", "wt", encoding="utf-8") as f:
        ...     f.write("some text\n")
        >>> for line in llmzip.open("notes.llz", "rt", encoding="utf-8"):
        ...     print(line, end="")

    Args:
        filename: a path; or a binary file object, which is used from its current position and not closed.
        mode: "r", "w", "x" or "a", as for `LLZFile`; add "t" for text, or "b" or nothing for bytes.
        codec, options: as for `LLZFile`.
        encoding, errors, newline: as for `io.TextIOWrapper`; only with "t".

    Returns:
        An `LLZFile`, or a text file over one.

    Raises:
        ParameterError: an argument is out of range.
        ValueError: the mode is unknown, or the other arguments do not fit it.
        LLZError: the existing file is not an archive that a frame can be added to (mode "a").
        OSError: the file cannot be opened.
    """
    text = "t" in mode
    if text and "b" in mode:
        raise ValueError(f"a file is opened as text or as bytes, not as both: {mode!r}")
    if not text and (encoding, errors, newline) != (None, None, None):
        raise ValueError('encoding, errors and newline are for text, with "t" in the mode')
    file = LLZFile(filename, mode.replace("t", "", 1), codec=codec, **options)
    if not text:
        return file
    try:
        if "w" in mode or "x" in mode:
            file.write(_byte_order_mark(encoding))
        return _TextFile(cast(Any, file), io.text_encoding(encoding), errors, newline)
    except BaseException:
        file.abandon()
        raise


def _byte_order_mark(encoding: str | None) -> bytes:
    """Return the byte order mark of UTF-16 or UTF-32; empty for every other encoding.

    Without it, text in these encodings cannot be read on every machine. `TextIOWrapper` always writes the mark of utf-8-sig, but those of
    UTF-16 and UTF-32 only to seekable files.
    """
    name = codecs.lookup(encoding).name if encoding else ""
    return "".encode(name) if name in ("utf-16", "utf-32") else b""
