"""The first use on a machine, when code has to be compiled: the user is told, and other processes compile parts of it meanwhile."""

from __future__ import annotations

import contextlib
import logging
import subprocess
from collections.abc import Iterator

from llmzip.models.config import ModelConfig
from llmzip.models.fetching import no_bars, say
from llmzip.system import jit, python

_log = logging.getLogger(__name__)

ENGINE = (
    "from llmzip.engine import probe; probe.compile_part({config}, 'few rows')",
    "from llmzip.engine import probe; probe.compile_part({config}, 'many rows')",
    "from llmzip.engine import probe; probe.compile_part({config}, 'attention')",
    "from llmzip.engine import probe; probe.compile_part({config}, 'rest'); from llmzip.adapter import probe; probe.prove(1)",
)


LEARNING = ("from llmzip.learning import probe; probe.compile_part({config})",)


def programs(config: ModelConfig, parts: tuple[str, ...] = ENGINE) -> list[str]:
    """Python that compiles the parts, one for each other process, for models of this kind."""
    return [part.format(config=config.as_dict()) for part in parts]


class FirstUse:
    """What has happened so far."""

    def __init__(self, config: ModelConfig, quiet: bool, parts: tuple[str, ...]) -> None:
        self._quiet = no_bars(quiet)
        self._parts = programs(config, parts)
        self._others: list[subprocess.Popen[bytes]] = []

    def begin(self) -> None:
        """Tell the user, and let other processes compile parts. This process finds their code in the cache, and waits where it is not ready yet."""
        say("compiling for this processor, which takes a while and happens once", self._quiet)
        nothing = subprocess.DEVNULL
        for command in filter(None, map(python.command, self._parts)):
            try:
                self._others.append(subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing))  # noqa: S603
            except OSError:
                _log.debug("no other process can compile", exc_info=True)

    def end(self) -> None:
        """End the other processes: this one has all the code that it needs."""
        for other in self._others:
            other.kill()
            other.wait()
        self._others = []


@contextlib.contextmanager
def noticed(config: ModelConfig, quiet: bool, parts: tuple[str, ...] = ENGINE) -> Iterator[None]:
    """Notice if something is compiled within, for a model of this kind. `quiet`: whether to tell nobody; only a terminal is told anyway."""
    first_use = FirstUse(config, quiet, parts)
    with jit.noticing(first_use.begin):
        try:
            yield
        finally:
            first_use.end()
