"""How much memory the machine has left."""

from __future__ import annotations

import contextlib
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_LIMIT, _USED, _STATISTICS = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current", "memory.stat"))


def available() -> int | None:
    """Bytes that can still be allocated, or None where that is not known."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        found.append(1024 * int(_MEMINFO.read_text().split("MemAvailable:")[1].split()[0]))
    with contextlib.suppress(OSError, ValueError, KeyError):  # a container's own limit; "max" if it has none
        held = dict(line.split() for line in _STATISTICS.read_text().splitlines())
        cached = int(held["inactive_file"]) + int(held["active_file"])  # counted as used, but given back when needed
        found.append(int(_LIMIT.read_text()) - int(_USED.read_text()) + cached)
    return min(found, default=None)
