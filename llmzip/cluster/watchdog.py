"""Ends what is left of a cluster that a process has started for itself, if that process is killed.

Ray's own processes notice that, but for two: its agents on a node wait for the end of a pipe that each keeps open for the other. So another
process waits for the end of the one that started the cluster.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from llmzip.system import python
from llmzip.system.temporary import temporary

_PROGRAM = "from llmzip.cluster import watchdog; watchdog.watch()"
_MOMENT = 1.0  # seconds in which a process that is killed has ended, after its pipes have
_PATIENCE = 4.0  # seconds in which all of the cluster ends
_PROCESSES = Path("/proc")


@contextlib.contextmanager
def guarding(folder: str) -> Iterator[None]:
    """See that the cluster whose files are in a folder ends with this process, in whatever way that ends."""
    command = python.command(_PROGRAM) if _PROCESSES.is_dir() else None
    if command is None:
        yield
        return
    with temporary(lambda: _start([*command, folder]), _let_go):
        yield


def _start(command: list[str]) -> subprocess.Popen[bytes] | None:
    try:
        return subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError:  # no memory for it, perhaps; then there is no such help
        return None


def _let_go(process: subprocess.Popen[bytes] | None) -> None:
    if process and process.stdin:
        process.stdin.close()


def watch() -> None:
    """Wait for the end of the process that started this one; if it was killed, end what is left of its cluster. The last argument is the folder."""
    folder, starter = sys.argv[-1], os.getppid()
    sys.stdin.buffer.read()
    end = time.monotonic() + _MOMENT
    while os.getppid() == starter:
        if time.monotonic() > end:  # it has ended the cluster itself, and lives on
            return
        time.sleep(0.05)
    end = time.monotonic() + _PATIENCE
    while (left := _users(folder)) and time.monotonic() < end:
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def _users(folder: str) -> list[int]:
    """The processes that have a file of a folder open. All of Ray's have: their logs are there."""
    found = []
    for process in _PROCESSES.iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                if any(os.readlink(file).startswith(f"{folder}/") for file in (process / "fd").iterdir()):
                    found.append(int(process.name))
    return found
