"""Reads and writes streams that llmzip did not open itself, and loses nothing whatever they do.

Standard streams, named pipes, sockets, devices and files of any making may give or take less than they are asked to, and nothing at all for
the moment. All of that is seen to here, and nowhere else.
"""

from __future__ import annotations

import contextlib
import io
import operator
import os
import select
import sys
import time
from typing import Any

_AT_ONCE = 1 << 16  # bytes that are offered to a stream that did not take all it was given
_PART = 1 << 20  # bytes that are asked for where all are wanted
_LOOK = 1000  # milliseconds after which a stream is tried again, whatever its descriptor says
_PAUSES = (0.001, 0.05)  # seconds, the shortest and the longest, where there is no descriptor to tell


def read(source: Any, n: int) -> bytes:
    """The next bytes, from 1 to `n`; b"" only at the stream's end, or if `n` is 0. Waits while there is nothing.

    Args:
        source: a binary file, or what has its `read`: fewer bytes than asked for, None and BlockingIOError are no end.
        n: bytes, not negative.

    Raises:
        TypeError: it gives something else than bytes.
        OSError: it cannot be read, or gives more than it was asked for.
    """
    if not n:
        return b""
    patience = _Patience(source, "POLLIN")
    while (data := _given(source, n)) is None:
        patience.wait()
    if isinstance(data, str):
        raise TypeError("the source gives text, not bytes; open it in binary mode")
    found = data if isinstance(data, bytes) else bytes(memoryview(data))
    if len(found) > n:
        raise OSError(f"the source gave {len(found):,} bytes where {n:,} were asked for")
    return found


def read_all(source: Any, most: int = sys.maxsize) -> bytes:
    """The next `most` bytes, fewer only at the stream's end. Raises TypeError, OSError, as `read`."""
    parts = bytearray()
    while part := read(source, min(_PART, most - len(parts))):
        parts += part
    return bytes(parts)


def write(sink: Any, data: bytes) -> None:
    """Writes all of `data`. Waits while the stream takes nothing.

    Args:
        sink: a binary file, or what has its `write`. That may say how many bytes it took, also by BlockingIOError. None is nothing from an
            `io.RawIOBase`, as Python has it, and all from any other.
        data: any bytes.

    Raises:
        OSError: it cannot be written, or does not say how much it took.
    """
    at, part = 0, data
    patience = _Patience(sink, "POLLOUT")
    while part:
        taken = _taken(sink, part)
        if not taken:
            patience.wait()
        at += taken
        part = data[at : at + _AT_ONCE]


def flush(sink: Any) -> None:
    """Passes on what a stream holds back, if it does that at all. Waits while it cannot. Raises OSError."""
    if not hasattr(sink, "flush"):
        return
    patience = _Patience(sink, "POLLOUT")
    while True:
        try:
            sink.flush()
            return
        except BlockingIOError:
            patience.wait()


def _given(source: Any, n: int) -> Any:
    try:
        return source.read(n)
    except BlockingIOError:
        return None


def _taken(sink: Any, part: bytes) -> int:
    try:
        taken = sink.write(part)
    except BlockingIOError as e:
        taken = getattr(e, "characters_written", 0)
    if taken is None:
        taken = _untold(sink, len(part))
    if not 0 <= (taken := operator.index(taken)) <= len(part):
        raise OSError(f"a stream says that it took {taken:,} of {len(part):,} bytes")
    return taken


def _untold(sink: Any, size: int) -> int:
    """What was taken where the stream does not say: to write it twice is as bad as not at all."""
    if isinstance(sink, io.RawIOBase):
        return 0
    descriptor = _descriptor(sink)
    if descriptor is not None and not os.get_blocking(descriptor):
        raise OSError("a stream that does not block does not say how much it took; let its write return that")
    return size


def _descriptor(stream: Any) -> int | None:
    """The open descriptor below a stream, where there is one."""
    with contextlib.suppress(Exception):  # it is another's code, and may raise what it likes
        number = stream.fileno()
        os.fstat(number)
        return int(number)
    return None


class _Patience:
    """Waits until a stream may be ready: its descriptor tells, and if it has none or that is wrong, time."""

    def __init__(self, stream: Any, event: str) -> None:
        self._stream, self._event = stream, event
        self._poll: Any = None
        self._pause = 0.0

    def wait(self) -> None:
        """Waits for a moment, the longer the more often in a row."""
        if not self._pause:
            descriptor = _descriptor(self._stream)
            if descriptor is not None and hasattr(select, "poll"):
                self._poll = select.poll()
                self._poll.register(descriptor, getattr(select, self._event))
        if self._pause or not self._poll:
            time.sleep(max(self._pause, _PAUSES[0]))
        if self._poll:
            self._poll.poll(_LOOK)
        self._pause = min(max(2 * self._pause, _PAUSES[0]), _PAUSES[1])
