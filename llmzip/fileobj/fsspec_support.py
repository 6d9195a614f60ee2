"""fsspec, and so pandas, dask and others, reading and writing archives by their suffix."""

from __future__ import annotations

import sys
from typing import Any, BinaryIO

from llmzip.codec.codec import Codec
from llmzip.fileobj.llzfile import LLZFile


class _File(LLZFile):
    """A file that is abandoned where an exception closes it: fsspec's own `with` says nothing of it, and only closes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._handled = sys.exc_info()[1]  # before: it has nothing to do with this file
        super().__init__(*args, **options)

    def close(self) -> None:
        """As of other files, and `abandon` while an exception is on its way that came after the file was opened."""
        error = sys.exc_info()[1]
        if error is None or error is self._handled:
            super().close()
        else:
            self.abandon()


def register_fsspec(codec: Codec | None = None) -> None:
    """Makes fsspec know the compression "llz", and infer it from the suffix .llz.

        >>> llmzip.register_fsspec()
        >>> with fsspec.open("notes.txt.llz", "rt", compression="infer") as f:
        ...     text = f.read()

    A file to write that is closed while an exception is handled which came after it was opened, as by `with`, is left without its end,
    so that it cannot pass for a whole archive.

    Args:
        codec: a codec for all files, which so load the model once; if None, one with the default options. Threads take turns.

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
