"""Another Python, for work that may end its process, or that goes on beside this one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

_SAME_MODULES = "import json, sys; sys.path[:] = json.loads(sys.argv[1])\n"


def command(program: str) -> list[str] | None:
    """The command that runs a program in another Python, which finds the same modules as this one; None if there is no Python to start."""
    if not Path(sys.executable or "").name.startswith("python"):  # a program that has Python in it would start itself
        return None
    return [sys.executable, "-c", _SAME_MODULES + program, json.dumps([str(part) for part in sys.path])]
