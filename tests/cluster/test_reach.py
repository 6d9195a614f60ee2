"""A cluster whose head is silent is given up before Ray ends the process. Needs no Ray."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from llmzip.cluster import library, reach
from llmzip.cluster.library import ClusterError
from llmzip.cluster.tasks import Attempt, ClusterTask
from llmzip.codec.block_codec import ignore_progress
from llmzip.codec.pool import Work
from llmzip.errors import LLZError


class Pool:
    """A pool from which nothing comes."""

    lost: LLZError | None = None

    def post(self, event: Callable[[], None]) -> None:
        raise AssertionError

    def ended(self, task: ClusterTask[Any]) -> None:
        raise AssertionError


def test_a_head_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "SILENCE", 0.5)
    monkeypatch.setattr(reach, "_PAUSE", 0.05)
    told, said = threading.Event(), list[ClusterError]()

    def lose(why: ClusterError) -> None:
        said.append(why)
        told.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(library, "head", lambda address: server.getsockname()[:2])
        with reach.watching("a:1", lose):
            assert not told.wait(1.5)
            server.close()
            assert told.wait(20)
    assert "cannot be reached" in str(said[0])
    assert len(said) == 1


def test_who_waits_gets_the_error() -> None:
    pool = Pool()
    task: ClusterTask[int] = ClusterTask(pool, Work(lambda blocks, progress: 1, ()), deque())
    Attempt(task, task.work)
    assert not task.wait(0)
    threading.Timer(0.3, lambda: setattr(pool, "lost", ClusterError("gone"))).start()
    with pytest.raises(ClusterError, match="gone"):
        task.result(ignore_progress)
