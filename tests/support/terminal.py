"""Runs the command line with a terminal on one of its streams."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import tty
from pathlib import Path


def at_terminal(stream: str, *args: str, columns: int = 100, cwd: Path, **env: str) -> tuple[int, bytes, bytes]:
    """Runs the command with "stdout" or "stderr" being a terminal; exit code, what came to that, and what came to the other."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: slave}
    command = [sys.executable, "-m", "llmzip", *args]
    process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, env=os.environ | env, **streams)  # type: ignore[call-overload]
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 1 << 16):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(master)
    out, err = process.communicate()
    return process.returncode, shown, out or err or b""
