"""Where threads that work on one thing wait for each other, compiled by numba.

To end one parallel loop and begin the next takes numba's threads some microseconds, and a layer has nine steps that need each other's results. So
all layers are one parallel loop, whose threads meet here. They spin for a moment, and then give up their processor to others.

A meeting is int64 [WORDS] of zeros. Each of its words has a cache line of its own.
"""

from __future__ import annotations

import sys
from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from llmzip.engine.kernels.rows import jit, parallel
from llmzip.engine.kernels.simd import INTP, X86, nothing
from llmzip.system.jit import call

_COUNT, _ROUND, _HERE, _STATE, WORDS = 0, 8, 16, 24, 32
_GATHERING, _GATHERED, _APART, _FAILED = 0, 1, 2, 3
_SPINS = 2000  # before a thread lets others have its processor
_SECONDS = 2  # by the clock's count of seconds, until threads that have not come are not waited for
_yield_processor = types.ExternalFunction("SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32())
_seconds = types.ExternalFunction("_time64" if sys.platform == "win32" else "time", types.int64(types.intp))


def _word(builder: Any, args: Any) -> Any:
    address, index = args[:2]
    return builder.inttoptr(builder.add(address, builder.mul(index, INTP(8))), ir.IntType(64).as_pointer())


@intrinsic
def _add(_typing: Any, _address: Any, _index: Any) -> Any:
    """Adds 1 to a word; returns what it was."""
    return types.intp(types.intp, types.intp), lambda _c, builder, _s, args: builder.atomic_rmw(
        "add", _word(builder, args), INTP(1), "seq_cst"
    )


@intrinsic
def _read(_typing: Any, _address: Any, _index: Any) -> Any:
    return types.intp(types.intp, types.intp), lambda _c, builder, _s, args: builder.load_atomic(_word(builder, args), "seq_cst", 8)


@intrinsic
def _write(_typing: Any, _address: Any, _index: Any, _value: Any) -> Any:
    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _word(builder, args), "seq_cst", 8)
        return nothing()

    return types.none(*[types.intp] * 3), codegen


@intrinsic
def _decide(_typing: Any, _address: Any, _index: Any, _value: Any) -> Any:
    """Sets a word that is still 0."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        builder.cmpxchg(_word(builder, args), INTP(0), args[2], "seq_cst", "seq_cst")
        return nothing()

    return types.none(*[types.intp] * 3), codegen


@intrinsic
def _pause(_typing: Any) -> Any:
    """Tells the processor that this is a loop which waits."""

    def codegen(_context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return nothing()

    return types.none(), codegen


@jit
def _wait(spins):
    if spins < _SPINS:
        _pause()
    else:
        _yield_processor()


@jit
def gather(meeting, threads):
    """Wait until `threads` threads have called this; returns whether all came in time. They must be different threads, which `meet` relies on."""
    if threads == 1:
        return True
    at = meeting.ctypes.data
    if _add(at, _HERE) == threads - 1:
        _decide(at, _STATE, _GATHERED)
    spins, begin = 0, np.int64(0)
    while _read(at, _STATE) == _GATHERING:
        spins += 1
        if spins == _SPINS:
            begin = _seconds(0)
        # By the clock, as others may use the processor for long between two spins.
        if spins > _SPINS and _seconds(0) - begin >= _SECONDS:
            _decide(at, _STATE, _APART)
        _wait(spins)
    return _read(at, _STATE) == _GATHERED


@jit
def meet(meeting, threads):
    """Wait until `threads` threads that have gathered have called this. What each wrote before, all can read after. After `fail` nobody waits."""
    if threads == 1:
        return
    at = meeting.ctypes.data
    now = _read(at, _ROUND)
    if _add(at, _COUNT) == threads - 1:
        _write(at, _COUNT, 0)
        _write(at, _ROUND, now + 1)
        return
    spins = 0
    while _read(at, _ROUND) == now and _read(at, _STATE) != _FAILED:
        spins += 1
        _wait(spins)


@jit
def fail(meeting):
    """Say that a thread has failed. The others then come to their end, with results that are worth nothing."""
    _write(meeting.ctypes.data, _STATE, _FAILED)


@parallel
def in_threads(code, where, meeting, threads):
    """Let `threads` threads call code(where, share, threads), see `jit.gathered`, with shares 0, 1, ... of the work. If one fails, `has_failed` says so."""
    for share in nb.prange(threads):
        if not call(code, (where, np.int64(share), threads)):
            fail(meeting)


def has_failed(meeting: NDArray[np.int64]) -> bool:
    """Whether a thread has failed, once all have ended."""
    return bool(meeting[_STATE] == _FAILED)
