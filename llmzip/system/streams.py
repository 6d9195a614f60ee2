"""Reads and writes streams that llmzip did not open itself, without losing a byte.

Standard streams, named pipes, sockets, devices and file objects of others may transfer less than they are asked to, or nothing for the
moment. All of that is handled here, and nowhere else.
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

_AT_ONCE = 1 << 16  # bytes offered at a time to a stream that did not take everything
_PART = 1 << 20  # bytes asked for at a time when all are wanted
_LOOK = 1000  # milliseconds after which a stream is tried again even if its descriptor is not ready
_PAUSES = (0.001, 0.05)  # shortest and longest pause in seconds, for streams without a descriptor


def read(source: Any, n: int) -> bytes:
    """The next 1 to `n` bytes; b"" only at the stream's end, or if `n` is 0. Wait while there is nothing.

    Args:
        source: a binary file, or an object with such a `read`. Fewer bytes than asked for, None and BlockingIOError do not mean the end.
        n: bytes, not negative.

    Raises:
        TypeError: it gives something other than bytes.
        OSError: it cannot be read, or it gives more bytes than asked for.
    """
    if not n:
        return b""
    patience = _Waiter(source, "POLLIN")
    while (data := _read_once(source, n)) is None:
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
    """Write all of `data`. Wait while the stream takes nothing.

    Args:
        sink: a binary file, or an object with such a `write`. It may say how many bytes it took, also by BlockingIOError. None means that an
            `io.RawIOBase` took nothing, as Python defines it, and that any other object took everything.
        data: any bytes.

    Raises:
        OSError: it cannot be written, or it does not say how much it took.
    """
    at, part = 0, data
    patience = _Waiter(sink, "POLLOUT")
    while part:
        taken = _write_once(sink, part)
        if not taken:
            patience.wait()
        at += taken
        part = data[at : at + _AT_ONCE]


def flush(sink: Any) -> None:
    """Flush a stream, if it has a `flush`. Wait while it cannot. Raises OSError."""
    if not hasattr(sink, "flush"):
        return
    patience = _Waiter(sink, "POLLOUT")
    while True:
        try:
            sink.flush()
            return
        except BlockingIOError:
            patience.wait()


def _read_once(source: Any, n: int) -> Any:
    try:
        return source.read(n)
    except BlockingIOError:
        return None


def _write_once(sink: Any, part: bytes) -> int:
    try:
        taken = sink.write(part)
    except BlockingIOError as e:
        taken = getattr(e, "characters_written", 0)
    if taken is None:
        taken = _assumed(sink, len(part))
    if not 0 <= (taken := operator.index(taken)) <= len(part):
        raise OSError(f"a stream says that it took {taken:,} of {len(part):,} bytes")
    return taken


def _assumed(sink: Any, size: int) -> int:
    """Bytes taken by a stream that does not say how many. To write bytes twice is as bad as to lose them."""
    if isinstance(sink, io.RawIOBase):
        return 0
    descriptor = _descriptor(sink)
    if descriptor is not None and not os.get_blocking(descriptor):
        raise OSError("a stream that does not block does not say how much it took; let its write return that")
    return size


def _descriptor(stream: Any) -> int | None:
    """The open descriptor below a stream; None if there is none."""
    with contextlib.suppress(Exception):  # foreign code, which may raise anything
        number = stream.fileno()
        os.fstat(number)
        return int(number)
    return None


class _Waiter:
    """Waits until a stream may be ready: by its descriptor if it has one, and for some time in any case."""

    def __init__(self, stream: Any, event: str) -> None:
        self._stream, self._event = stream, event
        self._poll: Any = None
        self._pause = 0.0

    def wait(self) -> None:
        """Wait for a moment; longer with every call."""
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
