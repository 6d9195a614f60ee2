"""Threads of llmzip's own. All work that can reach a coded bit runs in them.

Other code in the process can change the results of computations: autocast and the default device of torch, the error state of numpy, the
context of decimal, the processor's rounding and its treatment of subnormal numbers. Each of these settings belongs to one thread. So exact work
never runs in a thread of the caller: `run` hands it to a thread that nobody else touches, and waits for the result. Settings of the
whole process are either named in every call that depends on them (torch's default type), or left as they are (torch's number of threads).

Each of these threads has its own OpenMP threads. That is why it also works in a forked process, where the parent's OpenMP threads are gone.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import decimal
import importlib
import os
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from llmzip.errors import LLZError

Report = Callable[..., None]  # reports progress
_T = TypeVar("_T")

_LAYERS = ["omp", "tbb", "workqueue"]  # numba's threading layers, the best first
_REPORT_EVERY = 0.05  # seconds between two reports
_MATH = {"linux": "libm.so.6", "darwin": "libSystem.dylib", "win32": "ucrtbase"}  # libraries with the C standard's fesetround
_DEFAULT_MODE = ctypes.c_void_p(-1)  # FE_DFL_ENV of Linux's libraries
_TO_NEAREST = 0  # FE_TONEAREST, the same number on every platform above


class _CancelledError(BaseException):
    """Raised inside work that nobody waits for any more."""


class _Job(Generic[_T]):
    """Work for a thread, and a queue for its answers."""

    def __init__(self, work: Callable[[Report], _T], reports: bool) -> None:
        self._work, self._reports, self._last_report = work, reports, 0.0
        self.answers: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.cancelled = False

    def report(self, *progress: Any) -> None:
        """Report progress, at most every _REPORT_EVERY seconds. End the work if nobody waits for it any more."""
        if self.cancelled:
            raise _CancelledError
        if self._reports and (now := time.monotonic()) - self._last_report >= _REPORT_EVERY:
            self._last_report = now
            self.answers.put(("progress", progress))

    def execute(self) -> None:
        """Do the work in this thread."""
        answer: tuple[str, Any]
        try:
            with _serving_one_at_a_time():
                _reset_state()
                answer = ("result", contextvars.Context().run(self._work, self.report))
        except BaseException as e:
            answer = ("error", e)
        self.answers.put(answer)


class _Threads:
    """A pool of threads. Another one is started when all are busy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[queue.SimpleQueue[_Job[Any]]] = []
        self._most_idle = os.cpu_count() or 1

    def submit(self, job: _Job[Any]) -> None:
        """Let one of the threads do a job."""
        with self._lock:
            inbox = self._idle.pop() if self._idle else self._start()
        inbox.put(job)

    def _start(self) -> queue.SimpleQueue[_Job[Any]]:
        inbox: queue.SimpleQueue[_Job[Any]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, args=(inbox,), name="llmzip", daemon=True).start()
        return inbox

    def _serve(self, inbox: queue.SimpleQueue[_Job[Any]]) -> None:
        _here.own = True
        idle = True
        while idle:
            job = inbox.get()
            job.execute()
            del job  # it may hold much memory
            with self._lock:
                idle = len(self._idle) < self._most_idle
                if idle:
                    self._idle.append(inbox)


class ForkSafeLock:
    """A lock that is free in a forked process, where the thread that held it does not exist."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def release_in_child(self) -> None:
        """Make the lock free, whoever held it."""
        self._lock = threading.Lock()


_here = threading.local()  # has the attribute `own` in a thread of the pool
_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()
_numbers = ForkSafeLock()  # held while torch's number of threads changes
_one_at_a_time = ForkSafeLock()  # held during work if the threading layer serves only one thread
_ready_in = 0  # ID of the process in which numba's threads are known to work
_threads = _Threads()


def run(work: Callable[[Report], _T], listen: Report | None = None) -> _T:
    """Run `work` in a thread of llmzip's own; return or raise what it does.

    Args:
        work: is called with a function. It should call that often with its progress, which also ends the work if nobody waits any more.
        listen: is called with the progress, now and then, in the caller's thread.

    Raises:
        LLZError: this process cannot compute.
    """
    if getattr(_here, "own", False):
        return work(listen or _ignore)
    if sys.is_finalizing():
        raise LLZError("Python is ending, and computes no more; close archives before")
    job = _Job(work, listen is not None)
    _threads.submit(job)
    try:
        while (answer := job.answers.get())[0] == "progress":
            assert listen is not None
            listen(*answer[1])
    except BaseException:  # of the listener, or an interruption
        job.cancelled = True
        raise
    kind, value = answer
    if kind == "error":
        try:
            raise value
        finally:
            del value, answer, job  # otherwise the traceback would refer to itself
    result: _T = value
    return result


def _ignore(*_: object) -> None:
    pass


def default_threads() -> int:
    """All cores that this process may use, unless the user chose another number by OMP_NUM_THREADS."""
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if chosen.isascii() and chosen.isdigit() and int(chosen):
        return int(chosen)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(n: int) -> None:
    """Let numba, and torch if it is imported, use n threads for work in this thread, and only there."""
    _start_numba()
    numba = _numba()
    numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))
    torch = sys.modules.get("torch")
    if torch and torch.get_num_threads() != n:
        with _numbers:
            before = _in_a_new_thread(torch.get_num_threads)
            torch.set_num_threads(n)  # sets it for this thread and for threads that start later ...
            _in_a_new_thread(lambda: torch.set_num_threads(before))  # ... and those must keep the old number


def _in_a_new_thread(call: Callable[[], Any]) -> Any:
    """The result of `call` in a new thread."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


def _reset_state() -> None:
    """Give this thread the state that a new process has. Threads inherit the processor's floating-point mode."""
    with contextlib.suppress(OSError, AttributeError, KeyError):  # without such functions, `engine.float_mode` notices a wrong mode
        library = ctypes.CDLL(_MATH[sys.platform])
        library.fesetround(_TO_NEAREST)
        if sys.platform == "linux":
            library.fesetenv(_DEFAULT_MODE)  # keeps subnormal numbers
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)
    decimal.setcontext(decimal.Context(prec=28, rounding=decimal.ROUND_HALF_EVEN, Emin=-999999, Emax=999999, capitals=1, clamp=0, flags=[]))


def _serving_one_at_a_time() -> contextlib.AbstractContextManager[None]:
    """A lock for the time of the work if numba's threading layer serves only one thread at a time: otherwise numba would end the process."""
    with _one_at_a_time:  # numba starts its threads here, or starts them again
        _start_numba()
        safe = _numba().threading_layer() in ("omp", "tbb")
    return contextlib.nullcontext() if safe else _one_at_a_time


def _start_numba() -> None:
    """Make numba's threads ready in this process, which may have been forked from one that used them."""
    global _ready_in
    if _ready_in == os.getpid():
        return
    numba = _numba()
    if not _is_started(numba):
        chosen, numba.config.THREADING_LAYER_PRIORITY = numba.config.THREADING_LAYER_PRIORITY, _LAYERS
        try:
            numba.get_num_threads()  # starts them
        finally:
            numba.config.THREADING_LAYER_PRIORITY = chosen
    if numba.threading_layer() == "omp":
        # numba remembers which process started its threads, and ends any other process that uses them. To start them again makes it
        # remember this one, and the present thread gets OpenMP threads of its own.
        try:
            omppool = importlib.import_module("numba.np.ufunc.omppool")
            ctypes.CFUNCTYPE(None, ctypes.c_int)(omppool.launch_threads)(numba.config.NUMBA_NUM_THREADS)
        except (ImportError, AttributeError, TypeError) as e:
            raise LLZError("a process that was forked cannot compute with this numba; start processes by the method spawn") from e
    _ready_in = os.getpid()


def _numba() -> Any:
    """numba, untyped: its types are not complete."""
    return importlib.import_module("numba")


def _is_started(numba: Any) -> bool:
    try:
        numba.threading_layer()
    except ValueError:
        return False
    return True


def _forget() -> None:
    """Forget all threads: in a forked process they do not exist."""
    global _threads
    _threads = _Threads()
    for lock in list(_locks):
        lock.release_in_child()
    _here.__dict__.pop("own", None)  # the process may have been forked by a thread of the pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
