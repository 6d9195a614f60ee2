"""Two machines with a link between them that can be cut: network namespaces of Linux, each with a node of one Ray cluster."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.clusters import of_session, until

_STORE = 1 << 27  # bytes of each node's object store
_HEALTH = {  # the head gives a node up that has not answered so often; Ray's own patience is a minute
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
}


def why_not() -> str:
    """Why namespaces cannot be made here; empty if they can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if shutil.which("ip") is None:
        return "the program ip is not installed"
    name = f"llz-{os.getpid()}-try"
    made = _ip("netns", "add", name)
    tried = made if made.returncode else _ip("-n", name, "link", "add", "one", "type", "veth", "peer", "name", "two")
    _ip("netns", "del", name)
    return f"the system allows no network namespaces ({tried.stderr.strip()})" if tried.returncode else ""


def _ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


def _do(*words: str) -> None:
    done = _ip(*words)
    assert done.returncode == 0, done.stderr


class Linked:
    """A cluster of two machines, "one" with its head, and "two". Each has one worker.

    Attributes:
        address: HOST:PORT of the cluster, in both.
    """

    def __init__(self, cpus: int = 1) -> None:
        self._names = {which: f"llz-{os.getpid()}-{which}" for which in ("one", "two")}
        network = f"10.213.{os.getpid() % 250}"
        self._hosts = {"one": f"{network}.1", "two": f"{network}.2"}
        self.address = f"{self._hosts['one']}:6379"
        self._cpus, self._nodes = cpus, dict[str, subprocess.Popen[bytes]]()
        self._folder = tempfile.mkdtemp(prefix="llz-")  # a short name, for sockets
        for name in self._names.values():
            _do("netns", "add", name)
            _do("-n", name, "link", "set", "lo", "up")
        _do("-n", self._names["one"], "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", self._names["two"])
        for which, name in self._names.items():
            _do("-n", name, "addr", "add", f"{self._hosts[which]}/24", "dev", "wire")
        self.mend()

    def inside(self, which: str) -> list[str]:
        """What begins a command that is to run on a machine."""
        return ["ip", "netns", "exec", self._names[which]]

    def mend(self) -> None:
        """Let the machines reach each other."""
        for name in self._names.values():
            _do("-n", name, "link", "set", "wire", "up")

    def cut(self) -> None:
        """Let no packet through; nobody is told."""
        for name in self._names.values():
            _do("-n", name, "link", "set", "wire", "down")

    def start(self, caches: dict[str, Path]) -> None:
        """Start the nodes that do not run. `caches`: of each machine."""
        for which, host in self._hosts.items():
            if which in self._nodes and self._nodes[which].poll() is None:
                continue
            self.kill(which)
            if which == "one":
                self.kill("two")  # of a cluster that is gone
                where = ["--head", "--port", "6379", "--include-dashboard", "false", "--temp-dir", self._folder]
            else:
                where = ["--address", self.address]
            command = [
                sys.executable,
                "-m",
                "ray.scripts.scripts",
                "start",
                *where,
                "--node-ip-address",
                host,
                "--num-cpus",
                str(self._cpus),
            ]
            env = (
                os.environ
                | _HEALTH
                | {"LLMZIP_CACHE": str(caches[which]), "LLMZIP_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
            )
            log = Path(self._folder, which)
            with log.open("wb") as said:
                self._nodes[which] = subprocess.Popen(
                    [*self.inside(which), *command, "--object-store-memory", str(_STORE), "--block"],
                    env=env, stdout=said, stderr=said, start_new_session=True,
                )  # fmt: skip
            node = self._nodes[which]
            until(lambda log=log, node=node: b"Ray runtime started" in log.read_bytes() or node.poll() is not None)  # type: ignore[misc]
            assert node.poll() is None, log.read_text()

    def kill(self, which: str) -> None:
        """End a machine's node at once, with all its processes."""
        if node := self._nodes.pop(which, None):
            for pid in of_session(node.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            node.wait()

    def workers(self) -> list[int]:
        """The processes on both machines that do the work of a pool."""
        return [pid for node in self._nodes.values() for pid in of_session(node.pid, "ray::Worker")]

    def end(self) -> None:
        """End everything, and leave nothing."""
        for which in ("two", "one"):
            self.kill(which)
        for name in self._names.values():
            _ip("netns", "del", name)
        time.sleep(0.2)
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def linked(cpus: int = 1) -> Iterator[Linked]:
    """Two machines for one test or several. `why_not` says whether they can be made."""
    made = Linked(cpus)
    try:
        yield made
    finally:
        made.end()
