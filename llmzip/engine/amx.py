"""Decides whether products are by AMX: where the processor has it, the system permits it, and a process of its own proved it exact.

That process may die: of an instruction that a virtual machine announces but does not have, for example. So it is another one, and what came of
it is remembered in the cache for this processor, system, code and libraries. What may change by itself, like a lack of memory, is not remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

import llvmlite
import numba
import numpy as np
from numba.core.registry import cpu_target

from llmzip.engine.kernels import amx_proof
from llmzip.errors import LLZError
from llmzip.models import notes
from llmzip.system import amx, jit_cache, python

_log = logging.getLogger(__name__)

_KIND = "proofs"  # of notes
_PROGRAM = "from llmzip.engine.kernels import amx_proof; amx_proof.main()"
_SECONDS = 300  # it compiles
_FATAL = (signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE) if sys.platform != "win32" else ()
_DIED = "died"


def usable() -> bool:
    """Whether to use it. From then on this process has the system's permission to."""
    return announced() and _proven() == amx_proof.EXACT and amx.permitted()


def announced() -> bool:
    """Whether it is wanted, and the processor says that it has it."""
    return amx.wanted() and amx.present(_processor()[2])


def _processor() -> tuple[str, str, str]:
    """Platform, name and features of the processor that numba compiles for."""
    triple, name, features = cpu_target.target_context.codegen().magic_tuple()
    return triple, name, features


@cache
def _proven() -> str:
    """The answer of `amx_proof` on this machine, or _DIED; empty if it had none."""
    name, answer = _name(), ""
    with _tolerant("the cache cannot be read"):
        answer = notes.read(_KIND, name).get("answer", "") if name else ""
    if answer:
        return answer
    answer = _answer()
    _log.info("products by AMX were tried in another process: %s", answer or "no answer")
    if name and answer:
        with _tolerant("the answer cannot be kept"):
            notes.write(_KIND, name, {"answer": answer})
    return answer


@contextlib.contextmanager
def _tolerant(why: str) -> Iterator[None]:
    try:
        yield
    except (LLZError, OSError):  # a cache that is not there, or only to be read
        _log.debug(why, exc_info=True)


def _name() -> str | None:
    """A name for all that an answer depends on; None if the sources cannot be read."""
    sources = jit_cache.digest_of(amx_proof.__name__)
    if sources is None:
        return None
    versions = sys.version, numba.__version__, llvmlite.__version__, np.__version__
    system = platform.release(), platform.version()
    return "amx-" + hashlib.sha256(repr((sources, versions, system, _processor())).encode()).hexdigest()[:32]


def _answer() -> str:
    """Starts the process and waits for its answer."""
    command = python.command(_PROGRAM)
    if command is None:
        return ""
    try:
        result = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        _log.debug("the process failed", exc_info=True)
        return ""
    if -result.returncode in _FATAL:
        return _DIED
    answer = (result.stdout.split() or [""])[-1]  # a start of Python may print something, too
    if result.returncode or answer not in (amx_proof.EXACT, amx_proof.WRONG, amx_proof.REFUSED):
        _log.debug("the process ended with %d: %s", result.returncode, result.stderr[-1000:])
        return ""
    return answer
