"""Every error a user of llmzip can do something about, one class each.

Each message is one line: what is wrong, then what to do. The command line turns them into exit codes (`exit_code`).
"""

from __future__ import annotations

from typing import Any

_LONGEST = 200  # characters that a message quotes


def quoted(what: object) -> str:
    """What a file or a library says, fit for a message: one line of printable characters, not too long."""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(str(what).split()))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def reason(error: OSError) -> str:
    """Why the system refused something, in its words, fit for the middle of a message."""
    return (error.strerror or str(error) or "error").lower()


class LLZError(Exception):
    """Base of all errors raised by llmzip on purpose. They can be pickled, and so pass from one process to another."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        # By default the message would be given to `__init__` again, which may want something else.
        return _restored, (type(self), self.args), self.__dict__ or None


def _restored(kind: type[LLZError], args: tuple[object, ...]) -> LLZError:
    """A pickled error."""
    return kind.__new__(kind, *args)


class NotAnArchiveError(LLZError):
    """The input does not start with the magic of an llmzip archive."""


class DamagedArchiveError(LLZError):
    """A checksum or a bound does not hold: the archive was altered or cut short."""


class UnsupportedArchiveError(LLZError):
    """The archive is well formed, but of a version this llmzip does not know."""


class ModelUnavailableError(LLZError):
    """The model is not on this machine and could not be, or may not be, fetched."""

    exit_code = 3


class ModelMismatchError(LLZError):
    """Weights or tokenizer are not those the archive, or the registry, names by digest."""

    exit_code = 3


class ModelFormatError(LLZError):
    """A model file cannot be read, or is of an architecture or tokenizer llmzip does not run."""

    exit_code = 3


class InexactMachineError(LLZError):
    """No matrix product available on this machine passed the probe, so nothing may be coded on it."""

    exit_code = 3


class NotReproducedError(LLZError):
    """A coded block's record is intact, but what it decodes to here is not what was coded."""

    exit_code = 3

    def __init__(self, where: str) -> None:
        super().__init__(
            f"this machine or model cannot reproduce the archive ({where}); check it with `llmzip models verify`, or decode it elsewhere"
        )


class DeviceError(LLZError):
    """The device asked for is not there."""

    exit_code = 3


class NotEnoughMemoryError(LLZError):
    """The lanes' keys and values would not fit into this machine's memory."""


class DamagedMessageError(LLZError):
    """No text with the right check byte can be had from a message."""

    def __init__(self) -> None:
        super().__init__(
            "this is not a message, or not as it was written, or it was made with another model; check it against the original"
        )


class OutputLimitError(LLZError):
    """The archive holds more than the caller allows."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the archive holds {size:,} bytes or more, above the limit of {limit:,}; raise --max-output (max_output) to allow it"
        )


class ParameterError(LLZError, ValueError):
    """A parameter is out of range."""

    exit_code = 2
