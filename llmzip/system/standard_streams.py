"""The program's own standard streams: whole in whatever mode their descriptors are, and nobody else's.

Where PYTHONUNBUFFERED is set, or another program left a descriptor without blocking, Python's own may write less than they are given and
take a pause for the end. And descriptor 1 is every library's: what one prints there would be in the middle of an archive.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING

from llmzip.system import streams

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_STDIN, _STDOUT, _STDERR = range(3)


def install() -> None:
    """Replaces `sys.stdin`, `sys.stdout` and `sys.stderr`; to be called once, before anything is read or written.

    Standard output is from then on the only one that writes to what was descriptor 1. That number is standard error's.
    """
    _open_missing()
    if os.name != "posix":  # a console has text of its own kind, and no such modes
        return
    moved = _STDOUT
    with contextlib.suppress(OSError):  # no descriptor is left
        moved = os.dup(_STDOUT)
        os.dup2(_STDERR, _STDOUT)
    for name, number, now in (("stdin", _STDIN, _STDIN), ("stdout", _STDOUT, moved), ("stderr", _STDERR, _STDERR)):
        old = getattr(sys, name)
        if isinstance(old, io.TextIOWrapper) and old.fileno() == number:
            new = _whole(old, now, f"<{name}>")
            setattr(sys, name, new)
            setattr(sys, f"__{name}__", new)  # who asks for the terminal's width looks there


def finish(status: int) -> int:
    """Passes on what is still held back. Returns the exit status: `status`, or 1 where that was 0 and something did not arrive."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError) as e:
            if not status:
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.write(f"llmzip: standard output: {(getattr(e, 'strerror', None) or str(e)).lower()}\n")
                    sys.stderr.flush()
            status = status or 1
    return status


def _open_missing() -> None:
    """Gives closed standard streams something to be: what is written to standard output, or read, fails then, as it must.

    Else the first files opened would get their numbers, and what is meant for the user would go there.
    """
    for number, name, mode, flags in ((0, "stdin", "r", os.O_WRONLY), (1, "stdout", "w", os.O_RDONLY), (2, "stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            os.open(os.devnull, flags)  # gets the lowest number that is free
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  for as long as the process lives


def _whole(old: io.TextIOWrapper, number: int, name: str) -> io.TextIOWrapper:
    """The same text on a descriptor that is read or written whole; buffered if that was, and encoded as that was.

    What an encoding has no characters for is written by its number: a file's name is not to end the program.
    """
    raw = _Descriptor(number, old.mode, name)
    buffer = io.BufferedReader(raw) if raw.readable() else raw if isinstance(old.buffer, io.RawIOBase) else io.BufferedWriter(raw)
    errors = "backslashreplace" if raw.writable() and old.errors == "strict" else old.errors
    new = io.TextIOWrapper(buffer, old.encoding, errors, None, old.line_buffering, old.write_through)
    new.mode = old.mode  # type: ignore[misc]
    return new


class _Descriptor(io.RawIOBase):
    """A descriptor that takes all it is given, and is at its end only where there is one."""

    def __init__(self, number: int, mode: str, name: str) -> None:
        self._file = io.FileIO(number, "r" if "r" in mode else "w", closefd=False)
        self.mode, self.name = self._file.mode, name

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = streams.read(self._file, len(view))
        view[: len(data)] = data
        return len(data)

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data)
        streams.write(self._file, bytes(view))
        return view.nbytes

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()

    def readable(self) -> bool:
        return self._file.readable()

    def writable(self) -> bool:
        return self._file.writable()
