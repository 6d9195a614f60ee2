"""Programs that tests need: the distribution's package, where this may be installed."""

from __future__ import annotations

import os
import shutil
import subprocess

LIMIT = 600  # seconds an installation may take


def apt_get(package: str) -> list[str]:
    """Root on a Debian gets the package; returns what was tried, and the end of what that said."""
    if not (hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get")):
        return ["apt-get is for root on a Debian"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]
    return [said(command, environment) for command in (["apt-get", "update", "-q"], install)]


def said(command: list[str], environment: dict[str, str]) -> str:
    """Runs it; the command and the end of what it said."""
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return f"$ {' '.join(command)}\ntook more than {LIMIT} s"
    return f"$ {' '.join(command)}\n{(done.stdout + done.stderr)[-500:]}"
