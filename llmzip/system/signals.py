"""How signals end the command line: soon, whatever it is doing, and leaving nothing behind.

Python runs a signal's handler in the main thread, between two of its instructions: compiled code may keep that waiting for
seconds, and an exception out of a handler may come at any place, also between a file's creation and the `try` that would remove
it. So they are not waited for. The system's part of them writes the signal's number into a pipe at once; a thread that waits there
removes what is temporary, and then lets the signal do what it would have done without us.

Only the program does this: who imports the package keeps handlers as they are.
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
_PATIENCE = 0.5  # seconds, for a file that is being made or removed
_STDERR = 2


def install() -> None:
    """Lets signals end the process as described above; to be called once, in the main thread. Those that are ignored stay so."""
    if os.name != "posix":
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    chosen = [number for name in _ENDING if (number := getattr(signal, name, None))]
    for number in chosen:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda n, _: _tell(writer, n))  # in case a library took the pipe's place
    threading.Thread(target=_watch, args=(reader, frozenset(chosen)), daemon=True).start()


def _tell(writer: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.write(writer, bytes([number]))


def die_of(number: int) -> NoReturn:
    """Ends the process as the signal does where nobody handles it; from any thread."""
    import ctypes

    ctypes.pythonapi.PyOS_setsig(number, None)  # `signal.signal` would do, but only in the main thread
    os.kill(os.getpid(), number)
    time.sleep(1)  # it comes to whichever thread
    os._exit(128 + number)


def _watch(reader: int, chosen: frozenset[int]) -> None:
    """Waits for one of the signals, and ends the process. More of them change nothing."""
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
    """Takes standard error from the main thread, which may trip over what is missing now; where it can be had, if it is there."""
    with contextlib.suppress(OSError):
        said = os.dup(_STDERR)
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDERR)
        return said
    return None
