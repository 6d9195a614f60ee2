"""Ray clusters of several nodes on this machine, over the loopback: real ones, with processes of their own for each node."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

FAULTS = Path(__file__).parent / "node_faults"  # a folder whose `sitecustomize` breaks what LLMZIP_TEST_FAULT says


class Machines:
    """A cluster whose head computes nothing, so that it can stay when all else is killed.

    Attributes:
        address: HOST:PORT of it.
    """

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 1 << 27}
        )
        self.address = str(self._cluster.address)

    def add(self, cache: Path, cpus: int = 1, fault: str = "") -> Any:
        """One more node, with a cache of its own, on which something is broken."""
        paths = os.pathsep.join(filter(None, [str(FAULTS), os.environ.get("PYTHONPATH", "")]))
        there = {"LLMZIP_CACHE": str(cache), "LLMZIP_TEST_FAULT": fault, "PYTHONPATH": paths, "LLMZIP_OFFLINE": "1"}
        return self._cluster.add_node(num_cpus=cpus, include_dashboard=False, object_store_memory=1 << 27, env_vars=there)

    def kill(self, node: Any) -> None:
        """End a node at once, with all its processes, if it has not ended."""
        if node in self._cluster.worker_nodes:
            self._cluster.remove_node(node, allow_graceful=False)

    def end(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()


@contextlib.contextmanager
def machines() -> Iterator[Machines]:
    """A cluster without any node that computes, for one test or several."""
    made = Machines()
    try:
        yield made
    finally:
        made.end()


def complaints(said: Iterable[str]) -> list[str]:
    """What was said, but that workers are waited for: on a busy machine they take their time, and that is no fault."""
    return [line for line in said if "waiting for a node" not in line]


def workers(node: Any) -> list[int]:
    """The processes of a node that do the work of a pool."""
    raylet = node.all_processes["raylet"][0].process.pid
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [int(pid) for pid, parent, args in rows if int(parent) == raylet and args.startswith("ray::Worker")]


def of_session(session: int, words: str = "") -> dict[int, str]:
    """The commands of the processes of a session, by process; only those that contain `words`. Ray's processes stay in the session of who started them."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,sid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 3) for line in listed.splitlines()]
    return {int(pid): args for pid, sid, state, args in rows if int(sid) == session and state[0] != "Z" and words in args}


def watchdogs() -> list[str]:
    """The processes that wait for the end of others, which have started clusters for themselves; only those whose others have ended."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = {int(pid): (int(parent), args) for pid, parent, args in (line.split(None, 2) for line in listed.splitlines())}
    return [args for parent, args in rows.values() if "watchdog.watch()" in args and "llmzip" not in rows.get(parent, (0, ""))[1]]


def until(holds: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait for something to hold."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
