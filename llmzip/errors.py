"""The errors that a user of llmzip can do something about, one class for each kind.

A message is one line: what is wrong, then what to do. The command line exits with the class's `exit_code`.
"""

from __future__ import annotations

from typing import Any

_LONGEST = 200  # characters that a message quotes


def quoted(what: object) -> str:
    """Text from a file or a library, made fit for a message: one line of printable characters, at most _LONGEST of them."""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(str(what).split()))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def reason(error: OSError) -> str:
    """The system's reason for an error, made fit for the middle of a message."""
    return (error.strerror or str(error) or "error").lower()


class LLZError(Exception):
    """Base of all errors that llmzip raises on purpose. They can be pickled, so they can pass from one process to another."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        # By default unpickling would call `__init__` with the message, and some classes take other arguments.
        return _restored, (type(self), self.args), self.__dict__ or None


def _restored(kind: type[LLZError], args: tuple[object, ...]) -> LLZError:
    """A pickled error."""
    return kind.__new__(kind, *args)


class NotAnArchiveError(LLZError):
    """The input does not start with the magic of an llmzip archive."""


class DamagedArchiveError(LLZError):
    """A checksum or a bound does not hold: the archive was altered or cut short."""


class UnsupportedArchiveError(LLZError):
    """The archive is well formed, but of a version that this llmzip does not know."""


class ModelUnavailableError(LLZError):
    """The model is not on this machine, and it could not or must not be fetched."""

    exit_code = 3


class ModelMismatchError(LLZError):
    """Weights or tokenizer are not those that the archive or the registry names by digest."""

    exit_code = 3


class ModelFormatError(LLZError):
    """A model file cannot be read, or llmzip does not support its architecture or tokenizer."""

    exit_code = 3


class InexactMachineError(LLZError):
    """This machine or process computes inexactly, so nothing may be coded on it."""

    exit_code = 3


class NotReproducedError(LLZError):
    """The record of a coded block is intact, but it decodes to other content here."""

    exit_code = 3

    def __init__(self, where: str) -> None:
        super().__init__(
            f"this machine or model cannot reproduce the archive ({where}); check it with `llmzip models verify`, or decode it elsewhere"
        )


class DeviceError(LLZError):
    """The requested device is not there."""

    exit_code = 3


class NotEnoughMemoryError(LLZError):
    """Coding would need more memory than there is."""


class DamagedMessageError(LLZError):
    """A message does not decode to any text with the right check byte."""

    def __init__(self) -> None:
        super().__init__(
            "this is not a message, or not as it was written, or it was made with another model; check it against the original"
        )


class OutputLimitError(LLZError):
    """The archive holds more bytes than the caller allows."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the archive holds {size:,} bytes or more, above the limit of {limit:,}; raise --max-output (max_output) to allow it"
        )


class ParameterError(LLZError, ValueError):
    """A parameter is out of range."""

    exit_code = 2
