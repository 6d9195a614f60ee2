"""llmzip: lossless text compression with a language model, exact on every machine.

    >>> import llmzip
    >>> llmzip.decompress(llmzip.compress(b"text"))
    b'text'

Importing the package loads neither torch nor a model; the first call that needs them does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmzip.errors import LLZError

if TYPE_CHECKING:
    from llmzip.codec import Codec, Options

__version__ = "0.1.0"
__all__ = ["Codec", "LLZError", "Options", "__version__", "compress", "decompress"]


def compress(data: bytes, *, model: str | None = None, lanes: int | None = None) -> bytes:
    """The archive of `data`.

    Args:
        data: any bytes; text shrinks most.
        model: registry ID, `hf:OWNER/NAME@REVISION` or path; the default model if None.
        lanes: streams coded in parallel (more: faster decoding, larger archive); chosen from the size if None.

    Raises:
        LLZError: the model cannot be had, or a parameter is out of range.
    """
    from llmzip.codec import Codec, Options

    return Codec(Options(model=model, lanes=lanes)).compress(data)


def decompress(archive: bytes, *, model: str | None = None) -> bytes:
    """The content of `archive`.

    Args:
        archive: one or more archives, one after another.
        model: where to look for a model that is not in the registry; its digest must match the archive's.

    Raises:
        LLZError: the archive is damaged, of an unknown version, or its model is not here.
    """
    from llmzip.codec import Codec, Options

    return Codec(Options(model=model)).decompress(archive)


def __getattr__(name: str) -> object:
    if name in ("Codec", "Options"):
        from llmzip import codec

        return getattr(codec, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
