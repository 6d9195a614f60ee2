"""How signals end the command line: soon, whatever it is doing, and with no temporary files left.

Python runs a signal's handler in the main thread, between two of its instructions. Compiled code may delay that for seconds, and an
exception from a handler may come anywhere, even between the creation of a file and the `try` that would remove it. So handlers are not used.
Instead the system's part of a handler writes the signal's number into a pipe at once. A thread that reads the pipe removes temporary objects, and
then lets the signal do what it does by default.

Only the program installs this. Importing the package leaves handlers as they are.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from typing import NoReturn

from llmzip.system import temporary

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU")
_PATIENCE = 0.5  # seconds to wait for a file that is being created or removed
_STDERR = 2


def install() -> None:
    """Let signals end the process as described above. Call this once, in the main thread. Ignored signals stay ignored."""
    if os.name != "posix":
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    chosen = [number for name in _ENDING if (number := getattr(signal, name, None))]
    for number in chosen:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda n, _: _tell(writer, n))  # in case a library replaces the pipe
    threading.Thread(target=_watch, args=(reader, frozenset(chosen)), daemon=True).start()


def _tell(writer: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.write(writer, bytes([number]))


def die_of(number: int) -> NoReturn:
    """End the process as the signal does by default; from any thread."""
    import ctypes

    ctypes.pythonapi.PyOS_setsig(number, None)  # `signal.signal` would do, but only in the main thread
    os.kill(os.getpid(), number)
    time.sleep(1)  # the signal may be delivered to another thread
    os._exit(128 + number)


def _watch(reader: int, chosen: frozenset[int]) -> None:
    """Wait for one of the signals, and end the process. Further signals change nothing."""
    while (number := os.read(reader, 1)[0]) not in chosen:
        pass
    temporary.hold(_PATIENCE)
    said = _silence()
    temporary.remove_all()
    if number == signal.SIGINT and said is not None and select.select([], [said], [], 0)[1]:  # a terminal may be stopped
        with contextlib.suppress(OSError):
            os.write(said, b"\nllmzip: interrupted\n" if os.isatty(said) else b"llmzip: interrupted\n")
    die_of(number)


def _silence() -> int | None:
    """Take standard error away from the main thread, which may fail now that temporary files are missing; return where it was, or None."""
    with contextlib.suppress(OSError):
        said = os.dup(_STDERR)
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDERR)
        return said
    return None
