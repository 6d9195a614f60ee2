"""How many threads compute if nobody says so."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numba
import pytest

from llmzip.system import exact_threads


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("4", 4), ("4,2", 4), (" 3 ", 3), ("1", 1), ("+2", None), ("x", None), ("0", None), ("", None), (",4", None), ("-1", None),
        ("2.5", None), ("4x", None), ("\u00b2", None), ("\u0664", None), ("007", 7),
    ],
)  # fmt: skip
def test_the_users_number(chosen: str, expected: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenMP has it: several numbers are those of nested levels, and what is none does not count."""
    monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    assert exact_threads.default_threads() == (cores() if expected is None else expected)


def test_all_cores_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert exact_threads.default_threads() == cores()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 6}, raising=False)
    assert exact_threads.default_threads() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert exact_threads.default_threads() == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert exact_threads.default_threads() == 1


def test_the_callers_number_stays() -> None:
    """It belongs to the thread that does the work."""

    def in_a_new_thread() -> int:
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(numba.get_num_threads()))
        thread.start()
        thread.join()
        return seen[0]

    def work(_: object) -> int:
        exact_threads.use_threads(1)
        return numba.get_num_threads()

    before = numba.get_num_threads(), in_a_new_thread()
    assert exact_threads.run(work) == 1
    assert (numba.get_num_threads(), in_a_new_thread()) == before


def test_more_threads_than_numba_has() -> None:
    exact_threads.run(lambda _: exact_threads.use_threads(10_000))


def test_torch_is_not_imported_for_its_number() -> None:
    program = """
import sys
from llmzip.system import exact_threads
exact_threads.default_threads()
exact_threads.run(lambda _: exact_threads.use_threads(2))
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
