"""Registers archives with fsspec, so that fsspec, pandas, dask and others read and write them by their suffix."""

from __future__ import annotations

import sys
from typing import Any, BinaryIO

from llmzip.codec.codec import Codec
from llmzip.fileobj.llzfile import LLZFile


class _File(LLZFile):
    """A file that is abandoned if it is closed because of an exception.

    The `with` of fsspec does not pass the exception on; it only calls `close`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._handled = sys.exc_info()[1]  # an exception older than this file, which does not concern it
        super().__init__(*args, **options)

    def close(self) -> None:
        """Close the file, or abandon it while an exception is handled that was raised after the file was opened."""
        error = sys.exc_info()[1]
        if error is None or error is self._handled:
            super().close()
        else:
            self.abandon()


def register_fsspec(codec: Codec | None = None) -> None:
    """Register the compression "llz" with fsspec, which infers it from the suffix .llz.

        >>> llmzip.register_fsspec()
        >>> with fsspec.open("notes.txt.llz", "rt", compression="infer") as f:
        ...     text = f.read()

    A file opened for writing is left without its end if it is closed while an exception is handled that was raised after it was opened, as
    by `with`. So it cannot pass for a complete archive.

    Args:
        codec: a codec that all files share, so that the model is loaded once; if None, one with the default options. Threads take turns.

    Raises:
        ImportError: fsspec is not installed.
    """
    try:
        from fsspec.compression import register_compression
    except ImportError as e:
        raise ImportError("fsspec is not installed; get it with: pip install fsspec") from e

    shared = codec or Codec()

    def opener(file: BinaryIO, mode: str = "r", **options: Any) -> LLZFile:
        return _File(file, mode, codec=shared, **options)

    register_compression("llz", opener, "llz", force=True)
