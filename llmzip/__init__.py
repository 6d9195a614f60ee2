"""llmzip: lossless text compression with a language model, exact on every machine.

    >>> import llmzip
    >>> llmzip.decompress(llmzip.compress(b"text"))
    b'text'

Importing the package loads neither torch nor a model; the first call that needs them does. A `Codec` keeps its models loaded for
many calls, files and objects: all that compress or decompress take one as `codec`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from llmzip.errors import (
    DamagedArchiveError,
    DamagedMessageError,
    DeviceError,
    InexactMachineError,
    LLZError,
    ModelFormatError,
    ModelMismatchError,
    ModelUnavailableError,
    NotAnArchiveError,
    NotEnoughMemoryError,
    NotReproducedError,
    OutputLimitError,
    ParameterError,
    UnsupportedArchiveError,
)
from llmzip.parameters import DEFAULT_LEVEL

if TYPE_CHECKING:
    from llmzip.archive.parity.repair import repair
    from llmzip.codec.codec import Codec
    from llmzip.fileobj.fsspec_support import register_fsspec
    from llmzip.fileobj.incremental import Compressor, Decompressor
    from llmzip.fileobj.llzfile import LLZFile
    from llmzip.fileobj.opening import open
    from llmzip.message.message_codec import MessageCodec
    from llmzip.options import Options
    from llmzip.salvaging.recovery import Gap, Piece, Place, Salvaged, salvage

__version__ = "0.1.0"
__all__ = [
    "Codec",
    "Compressor",
    "DamagedArchiveError",
    "DamagedMessageError",
    "Decompressor",
    "DeviceError",
    "Gap",
    "InexactMachineError",
    "LLZError",
    "LLZFile",
    "MessageCodec",
    "ModelFormatError",
    "ModelMismatchError",
    "ModelUnavailableError",
    "NotAnArchiveError",
    "NotEnoughMemoryError",
    "NotReproducedError",
    "Options",
    "OutputLimitError",
    "ParameterError",
    "Piece",
    "Place",
    "Salvaged",
    "UnsupportedArchiveError",
    "__version__",
    "compress",
    "decompress",
    "open",
    "register_fsspec",
    "repair",
    "salvage",
]

_MODULES = {  # of what is imported only when it is asked for
    "Codec": "codec.codec",
    "Compressor": "fileobj.incremental",
    "Decompressor": "fileobj.incremental",
    "LLZFile": "fileobj.llzfile",
    "MessageCodec": "message.codec",
    "Options": "options",
    "open": "fileobj.opening",
    "register_fsspec": "fileobj.fsspec_support",
    "repair": "archive.parity.repair",
    "Gap": "salvaging.recovery",
    "Piece": "salvaging.recovery",
    "Place": "salvaging.recovery",
    "Salvaged": "salvaging.recovery",
    "salvage": "salvaging.recovery",
}


def compress(
    data: bytes,
    *,
    level: int = DEFAULT_LEVEL,
    model: str | None = None,
    lanes: int | None = None,
    threads: int | None = None,
    device: str = "auto",
) -> bytes:
    """The archive of `data`.

    Args:
        data: any bytes; text shrinks most.
        level: 1 (fast) to 9 (small).
        model: registry ID, `hf:OWNER/NAME@REVISION` or path; the default model if None.
        lanes: streams coded in parallel (more: faster decoding, larger archive); chosen from the size and level if None.
        threads: CPU threads; all cores if None. The archive does not depend on them.
        device: "auto", "cpu" or "cuda". The archive does not depend on it.

    Raises:
        ParameterError: an argument is out of range.
        LLZError: the model cannot be had, or not be run.
    """
    from llmzip.codec.codec import Codec
    from llmzip.options import Options

    return Codec(Options(level=level, model=model, lanes=lanes, threads=threads, device=device)).compress(data)


def decompress(archive: bytes, *, model: str | None = None, threads: int | None = None, device: str = "auto") -> bytes:
    """The content of `archive`.

    Args:
        archive: one or more archives, one after another.
        model: where to look for a model that is not in the registry; its digest must match the archive's.
        threads: CPU threads; all cores if None.
        device: "auto", "cpu" or "cuda".

    Raises:
        NotAnArchiveError, DamagedArchiveError, UnsupportedArchiveError: of the archive; nothing is returned.
        ModelUnavailableError, ModelMismatchError: the archive's model is not here.
        LLZError: the model cannot be run, or an argument is out of range.
    """
    from llmzip.codec.codec import Codec
    from llmzip.options import Options

    return Codec(Options(model=model, threads=threads, device=device)).decompress(archive)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"llmzip.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
