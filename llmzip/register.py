"""fsspec, and so pandas, dask and others, reading and writing archives by their suffix."""

from __future__ import annotations

from typing import Any, BinaryIO

from llmzip.codec import Codec
from llmzip.file import LLZFile


def register_fsspec(codec: Codec | None = None) -> None:
    """Makes fsspec know the compression "llz", and infer it from the suffix .llz.

        >>> llmzip.register_fsspec()
        >>> with fsspec.open("notes.txt.llz", "rt", compression="infer") as f:
        ...     text = f.read()

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
        return LLZFile(file, mode, codec=shared, **options)

    register_compression("llz", opener, "llz", force=True)
