"""The program's standard streams: they transfer everything in any mode of their descriptors, and no library can write to them.

If PYTHONUNBUFFERED is set, or if another program made a descriptor non-blocking, Python's own streams may write less than they are given and
take a pause for the end. And any library may print to descriptor 1, in the middle of an archive.
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
    """Replace `sys.stdin`, `sys.stdout` and `sys.stderr`. Call this once, before anything is read or written.

    From then on only `sys.stdout` writes to what was descriptor 1. The number 1 itself means standard error.
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
            new = _rebuilt(old, now, f"<{name}>")
            setattr(sys, name, new)
            setattr(sys, f"__{name}__", new)  # who asks for the terminal's width looks there


def finish(status: int) -> int:
    """Flush the streams. Return the exit status: `status`, or 1 if that was 0 and something could not be written."""
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
    """Open closed standard streams on the null device, so that reading from them or writing to them fails, as it must.

    Otherwise the first files that are opened would get their numbers, and output for the user would go there.
    """
    for number, name, mode, flags in ((0, "stdin", "r", os.O_WRONLY), (1, "stdout", "w", os.O_RDONLY), (2, "stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            os.open(os.devnull, flags)  # gets the lowest number that is free
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  for as long as the process lives


def _rebuilt(old: io.TextIOWrapper, number: int, name: str) -> io.TextIOWrapper:
    """A text stream like `old` on a descriptor that transfers everything.

    A character that the encoding lacks is written by its number: a file's name must not end the program.
    """
    raw = _Descriptor(number, old.mode, name)
    buffer = io.BufferedReader(raw) if raw.readable() else raw if isinstance(old.buffer, io.RawIOBase) else io.BufferedWriter(raw)
    errors = "backslashreplace" if raw.writable() and old.errors == "strict" else old.errors
    new = io.TextIOWrapper(buffer, old.encoding, errors, None, old.line_buffering, old.write_through)
    new.mode = old.mode  # type: ignore[misc]
    return new


class _Descriptor(io.RawIOBase):
    """A descriptor that takes everything it is given, and reports its end only when it is there."""

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
