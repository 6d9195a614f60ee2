"""Threads meet: none goes on before all have come, and threads that do not come are not waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from llmzip.engine import build, compiled
from llmzip.engine.kernels import layers
from llmzip.engine.kernels.meeting import WORDS, gather, meet
from llmzip.engine.kernels.rows import jit
from llmzip.models.convert import IntegerModel
from llmzip.parameters import AttentionSpan
from tests.support import tiny

_ROUNDS = 2000


@jit
def _take_turns(meeting: Any, marks: Any, me: Any, threads: Any) -> Any:
    """In each round write one's mark, and count the others' marks of the round that are missing after the meeting."""
    missing = 0
    for step in range(_ROUNDS):
        marks[me, step] = step + 1
        meet(meeting, threads)
        for other in range(threads):
            missing += marks[other, step] != step + 1
        meet(meeting, threads)
    return missing


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_what_was_written_before_is_there_after(threads: int) -> None:
    meeting, marks, missing = np.zeros(WORDS, np.int64), np.zeros((threads, _ROUNDS), np.int64), [-1] * threads

    def work(me: int) -> None:
        assert gather(meeting, threads)
        missing[me] = _take_turns(meeting, marks, me, threads)

    workers = [threading.Thread(target=work, args=(me,)) for me in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert missing == [0] * threads


def test_threads_that_do_not_come() -> None:
    """Whoever comes too late hears the same."""
    meeting = np.zeros(WORDS, np.int64)
    assert not gather(meeting, 2)
    assert not gather(meeting, 2)
    assert gather(np.zeros(WORDS, np.int64), 1)


def test_layers_without_enough_threads(tiny_model: IntegerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread then does it all, and nothing was done before."""
    tokens = np.random.default_rng(0).integers(0, tiny.config().vocab, (1, 9)).astype(np.int32)

    def logits() -> np.ndarray:
        engine = build.build(tiny_model, device="cpu", threads=2)
        return engine.logits(engine.advance(tokens, engine.cache(1, AttentionSpan(40, 4), 9, 9)))

    expected, asked = logits(), list[int]()

    def only_one(*arguments: Any) -> None:
        asked.append(arguments[-1])
        if arguments[-1] == 1:
            layers.run_shares(*arguments)

    monkeypatch.setattr(compiled, "run_shares", only_one)
    assert np.array_equal(logits(), expected)
    assert asked[-2:] == [2, 1]


def test_threads_that_come_late_now_and_then(tiny_model: IntegerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are waited for again: at once, and after three times in a row when some time has passed."""
    engine, asked, late, now = build.build(tiny_model, device="cpu", threads=2), list[int](), [True], [1000.0]

    def run_shares(*arguments: Any) -> None:
        asked.append(arguments[-1])
        if arguments[-1] == 1 or not late[0]:
            layers.run_shares(*arguments)

    monkeypatch.setattr(compiled, "run_shares", run_shares)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    cache = engine.cache(1, AttentionSpan(40, 4), 99, 9)

    def step(is_late: bool) -> list[int]:
        late[0] = is_late
        asked.clear()
        engine.advance(np.zeros((1, 1), np.int32), cache)
        return list(asked)

    assert [step(is_late) for is_late in (True, True, False, True, True)] == [[2, 1], [2, 1], [2], [2, 1], [2, 1]]
    assert step(True) == [2, 1]  # three times in a row
    assert step(False) == [1]
    now[0] += 9.0
    assert step(False) == [1]
    now[0] += 2.0
    assert step(True) == [2, 1]
    now[0] += 11.0
    assert step(False) == [1]  # this time it rests longer
    now[0] += 11.0
    assert [step(False), step(True)] == [[2], [2, 1]]


@jit
def without_memory(tiles, vectors, group, qkv, turns, constants, cache, noted, out, share, shares):  # type: ignore[no-untyped-def]
    if share == 0:
        raise MemoryError


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("steps", [1, 150])
def test_a_thread_without_memory(tiny_model: IntegerModel, monkeypatch: pytest.MonkeyPatch, threads: int, steps: int) -> None:
    """It is an error, no result, and the other thread does not wait for ever."""
    monkeypatch.setattr(compiled, "attend", without_memory)
    engine = compiled.CompiledTransformer(tiny_model, threads)
    with pytest.raises(MemoryError):
        engine.advance(np.zeros((1, steps), np.int32), engine.cache(1, AttentionSpan(400, 4), 999, steps))


@pytest.mark.slow
def test_fewer_threads_than_said() -> None:
    """OpenMP is told to have one thread only: every wait ends, and there are few."""
    code = (
        "import time, numpy as np; from llmzip.engine import build, questions; from tests.support import tiny; from llmzip.parameters import AttentionSpan\n"
        "model = questions.small_model(tiny.config()); engine = build.build(model, 'cpu', 2); cache = engine.cache(1, AttentionSpan(40, 4), 99, 9)\n"
        "for _ in range(40): engine.advance(np.zeros((1, 1), np.int32), cache)\n"
        "print(engine.name, engine._missed)"
    )
    run = [sys.executable, "-c", code]
    environment = os.environ | {"OMP_THREAD_LIMIT": "1", "NUMBA_NUM_THREADS": "2", "NUMBA_THREADING_LAYER": "omp"}
    answer = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=500, check=True).stdout.split()
    assert answer[0].startswith("compiled")
    assert int(answer[-1]) <= 3
