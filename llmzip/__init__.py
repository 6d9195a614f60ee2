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

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from llmzip.archive.parity.repair import repair
    from llmzip.codec.codec import Codec
    from llmzip.codec.executors import Executor
    from llmzip.fileobj.fsspec_support import register_fsspec
    from llmzip.fileobj.incremental import Compressor, Decompressor
    from llmzip.fileobj.llzfile import LLZFile
    from llmzip.fileobj.opening import open
    from llmzip.message.message_codec import MessageCodec
    from llmzip.options import DecodeOptions, EncodeOptions, Options
    from llmzip.salvaging.recovery import salvage
    from llmzip.salvaging.result import Gap, Piece, Place, Salvaged

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
    "MessageCodec": "message.message_codec",
    "Options": "options",
    "open": "fileobj.opening",
    "register_fsspec": "fileobj.fsspec_support",
    "repair": "archive.parity.repair",
    "Gap": "salvaging.result",
    "Piece": "salvaging.result",
    "Place": "salvaging.result",
    "Salvaged": "salvaging.result",
    "salvage": "salvaging.recovery",
}


def compress(data: bytes, *, executor: Executor | None = None, **options: Unpack[EncodeOptions]) -> bytes:
    """The archive of `data`.

    Args:
        data: any bytes; text shrinks most.
        executor: computes the blocks; see `Codec.compress_stream`.
        options: level, model, lanes, threads and device, as in `Options`.

    Raises:
        ParameterError: an argument is out of range.
        LLZError: the model cannot be had, or not be run.
    """
    from llmzip.codec import Codec, Options

    return Codec(Options.for_encoding(**options)).compress(data, executor=executor)


def decompress(archive: bytes, *, executor: Executor | None = None, **options: Unpack[DecodeOptions]) -> bytes:
    """The content of `archive`.

    A damaged archive that has parity is repaired, and a warning says so.

    Args:
        archive: one or more archives, one after another.
        executor: computes the blocks; see `Codec.compress_stream`.
        options: model, threads and device, as in `Options`.

    Raises:
        NotAnArchiveError, DamagedArchiveError, UnsupportedArchiveError: of the archive; nothing is returned.
        ModelUnavailableError, ModelMismatchError: the archive's model is not here.
        LLZError: the model cannot be run, or an argument is out of range.
    """
    from llmzip.codec import Codec, Options

    return Codec(Options.for_decoding(**options)).decompress(archive, executor=executor)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"llmzip.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
