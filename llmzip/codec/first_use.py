"""The first use on a machine, when code has to be compiled: the user is told, and another process compiles a part of it meanwhile."""

from __future__ import annotations

import contextlib
import logging
import subprocess
from collections.abc import Iterator

from llmzip.models.fetching import no_bars, say
from llmzip.system import jit, python

_log = logging.getLogger(__name__)

_OTHER_PART = "from llmzip.adapter import probe; probe.prove(1)"


class FirstUse:
    """What has happened so far."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = no_bars(quiet)
        self._other: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Tell the user, and let another process compile the adapter. It keeps what it has compiled where this process finds it."""
        say("compiling for this processor, which takes a while and happens once", self._quiet)
        command, nothing = python.command(_OTHER_PART), subprocess.DEVNULL
        if command is None:
            return
        try:
            self._other = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)  # noqa: S603
        except OSError:
            _log.debug("no other process can compile", exc_info=True)

    def end(self) -> None:
        """Wait for the other process, if there is one. If it failed, this process will compile everything."""
        if self._other:
            self._other.wait()
            self._other = None

    def abandon(self) -> None:
        """End the other process."""
        if self._other:
            self._other.kill()
            self.end()


@contextlib.contextmanager
def noticed(quiet: bool) -> Iterator[FirstUse]:
    """Notice if something is compiled within. `quiet`: whether to tell nobody; only a terminal is told anyway."""
    first_use = FirstUse(quiet)
    with jit.noticing(first_use.begin):
        try:
            yield first_use
        finally:
            first_use.abandon()
