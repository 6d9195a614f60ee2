"""Threads of llmzip's own, in which everything runs that can reach a coded bit.

Other code in the process can change how numbers come out: autocast and the default device of torch, the error state of numpy, the context of
decimal, how the processor rounds and whether it takes small numbers for zero. Each of these belongs to one thread. So exact work never runs in a
thread of the caller: `run` hands it to a thread that nobody else touches and waits for the result. What belongs to the whole process is
named in every call that depends on it (torch's default type), or left as it is (torch's number of threads).

Such a thread has OpenMP threads of its own as well. That is why it also works in a forked process, where the parent's are gone.
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

Tell = Callable[..., None]  # what reports progress
_T = TypeVar("_T")

_LAYERS = ["omp", "tbb", "workqueue"]  # of numba's threads, the best first
_TELL_EVERY = 0.05  # seconds between two reports
_MATH = {"linux": "libm.so.6", "darwin": "libSystem.dylib", "win32": "ucrtbase"}  # libraries with the C standard's fesetround
_TO_NEAREST = 0  # FE_TONEAREST, the same number on every platform above


class _CancelledError(BaseException):
    """Ends work that nobody waits for any more."""


class _Job(Generic[_T]):
    """Work for a thread, and the way back to who waits for it."""

    def __init__(self, work: Callable[[Tell], _T], reports: bool) -> None:
        self._work, self._reports, self._told = work, reports, 0.0
        self.answers: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.cancelled = False

    def tell(self, *progress: Any) -> None:
        """Passes progress on now and then. Ends the work if nobody waits for it."""
        if self.cancelled:
            raise _CancelledError
        if self._reports and (now := time.monotonic()) - self._told >= _TELL_EVERY:
            self._told = now
            self.answers.put(("progress", progress))

    def do(self) -> None:
        """Does the work in this thread."""
        answer: tuple[str, Any]
        try:
            with _serving_one_at_a_time():
                _settle()
                answer = ("result", contextvars.Context().run(self._work, self.tell))
        except BaseException as e:
            answer = ("error", e)
        self.answers.put(answer)


class _Threads:
    """Those that wait for work. One more is started when all are busy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[queue.SimpleQueue[_Job[Any]]] = []
        self._most_idle = os.cpu_count() or 1

    def give(self, job: _Job[Any]) -> None:
        """Has one of them do it."""
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
            job.do()
            del job  # may hold much
            with self._lock:
                idle = len(self._idle) < self._most_idle
                if idle:
                    self._idle.append(inbox)


class Turn:
    """A lock that a forked process finds open, as the thread that held it is not there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _turns.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def open(self) -> None:
        """Forgets who held it."""
        self._lock = threading.Lock()


_here = threading.local()  # has `own` in a thread of ours
_turns: weakref.WeakSet[Turn] = weakref.WeakSet()
_numbers = Turn()  # to change torch's number of threads
_one_at_a_time = Turn()  # for a threading layer that serves only one thread
_ready_in = 0  # the process in which numba's threads are known to work
_threads = _Threads()


def run(work: Callable[[Tell], _T], listen: Tell | None = None) -> _T:
    """What `work` returns or raises, run in a thread of llmzip's own.

    Args:
        work: is called with a function that it should call often with its progress, and that ends it if nobody waits any more.
        listen: is called, in the caller's thread, with the progress now and then.

    Raises:
        LLZError: this process cannot compute.
    """
    if getattr(_here, "own", False):
        return work(listen or _ignore)
    if sys.is_finalizing():
        raise LLZError("Python is ending, and computes no more; close archives before")
    job = _Job(work, listen is not None)
    _threads.give(job)
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
            del value, answer, job  # else the traceback would hold itself
    result: _T = value
    return result


def _ignore(*_: object) -> None:
    pass


def default_threads() -> int:
    """How many threads torch gives to a thread that asked for no number: all cores, unless the user chose another number."""
    import torch

    return _in_a_new_thread(torch.get_num_threads)


def use_threads(n: int) -> None:
    """Lets torch and numba use n threads for work in this thread, and nowhere else."""
    import torch

    _start_numba()
    numba = _numba()
    numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))
    if torch.get_num_threads() != n:
        with _numbers:
            before = default_threads()
            torch.set_num_threads(n)  # for this thread, and for threads to come ...
            _in_a_new_thread(lambda: torch.set_num_threads(before))  # ... which shall have as many as before


def _in_a_new_thread(call: Callable[[], _T]) -> _T:
    """What `call` returns in a thread in which nothing was done before."""
    results: list[_T] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


def _settle() -> None:
    """Gives this thread the state that it starts with in a process of its own. Threads inherit how the processor computes."""
    import torch

    torch.set_flush_denormal(False)
    with contextlib.suppress(OSError, AttributeError, KeyError):  # where there is no such function, `engine.float_mode` finds out
        ctypes.CDLL(_MATH[sys.platform]).fesetround(_TO_NEAREST)
    decimal.setcontext(decimal.Context(prec=28, rounding=decimal.ROUND_HALF_EVEN, Emin=-999999, Emax=999999, capitals=1, clamp=0, flags=[]))


def _serving_one_at_a_time() -> contextlib.AbstractContextManager[None]:
    """Lets others wait for this thread where numba's threads serve only one at a time: numba would end the process."""
    with _one_at_a_time:  # numba starts its threads here, or gets them going again
        _start_numba()
        safe = _numba().threading_layer() in ("omp", "tbb")
    return contextlib.nullcontext() if safe else _one_at_a_time


def _start_numba() -> None:
    """Makes numba's threads ready in this process, which may have been forked from one that used them."""
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
        # numba remembers the process that started them, and ends any other one. It forgets when it starts them again, and then the
        # present thread gets OpenMP threads of its own.
        try:
            omppool = importlib.import_module("numba.np.ufunc.omppool")
            ctypes.CFUNCTYPE(None, ctypes.c_int)(omppool.launch_threads)(numba.config.NUMBA_NUM_THREADS)
        except (ImportError, AttributeError, TypeError) as e:
            raise LLZError("a process that was forked cannot compute with this numba; start processes by the method spawn") from e
    _ready_in = os.getpid()


def _numba() -> Any:
    """A library whose types are not complete."""
    return importlib.import_module("numba")


def _is_started(numba: Any) -> bool:
    try:
        numba.threading_layer()
    except ValueError:
        return False
    return True


def _forget() -> None:
    """In a forked process: the threads are not there."""
    global _threads
    _threads = _Threads()
    for turn in list(_turns):
        turn.open()
    _here.__dict__.pop("own", None)  # the process may have been forked by one of them


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
