"""Ray itself: whether it is here, and the connection to a cluster, or to one that is started on this machine for a run."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from llmzip.cluster import watchdog
from llmzip.errors import LLZError, quoted
from llmzip.system.temporary import temporary

AUTO, LOCAL = "auto", "local"
CPUS = "CPU"  # what Ray calls them
_STORE = 1 << 28  # bytes that workers of this machine may pass on at once: blocks, and never models, as they have one cache
_SURROUNDINGS = {
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # all that it would print to standard output, amid an archive
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # else it takes SIGTERM for a fault of its own
}
_TOKEN = "RAY_AUTH_MODE"  # noqa: S105  the name of a variable
_PATIENCE = 10.0  # seconds to wait for a connection
_SOON = 5.0  # seconds for what should take none
_ADDRESS = re.compile(r"(ray://)?[^\s/:]+:\d{1,5}|(ray://)?\[[0-9a-fA-F:]+\]:\d{1,5}")


class ClusterError(LLZError):
    """A cluster cannot be reached, or none of its nodes can be used."""

    exit_code = 3


def ray() -> Any:
    """Ray, untyped: few of its functions have types.

    Raises:
        ClusterError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a change to come
    try:
        import ray as library
    except ImportError as e:
        raise ClusterError(f"--cluster needs Ray, which cannot be loaded ({quoted(e)}); run: pip install 'llmzip[ray]'") from e
    return library


def check_address(address: str) -> None:
    """Raise ClusterError unless this can be the address of a cluster."""
    if address not in (AUTO, LOCAL) and not _ADDRESS.fullmatch(address):
        raise ClusterError(f"{quoted(address)!r} is no cluster; write {AUTO}, {LOCAL}, HOST:PORT or ray://HOST:PORT")


@contextlib.contextmanager
def connected(address: str, cpus: int) -> Iterator[None]:
    """A connection of this process to a cluster. It ends with the block, or with the process, in whatever way; workers end with it.

    Args:
        address: as for `check_address`. "local" starts a cluster on this machine, and ends it.
        cpus: how many CPUs a cluster that is started here says it has.

    Raises:
        ClusterError: it cannot be reached, or not be started.
    """
    check_address(address)
    with _surroundings():
        library = ray()
    _knock(address)
    with contextlib.ExitStack() as stack:
        given: dict[str, Any] = {"address": address, "namespace": "llmzip"}
        if address == LOCAL:
            folder = stack.enter_context(temporary(lambda: tempfile.mkdtemp(prefix="llmzip-ray-"), _remove))
            stack.enter_context(watchdog.guarding(folder))
            given |= {"include_dashboard": False, "num_cpus": cpus, "object_store_memory": _STORE, "_temp_dir": folder}
        stack.enter_context(temporary(lambda: _connect(library, given), lambda _: _disconnect(library, address)))
        yield


def _knock(address: str) -> None:
    """Raise ClusterError if nobody listens there: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as e:
        raise ClusterError(f"no cluster at {address} ({quoted(e)}); see that it runs: ray status") from e


def _connect(library: Any, given: dict[str, Any]) -> None:
    try:
        with _surroundings(), _own_signals(), contextlib.redirect_stderr(io.StringIO()):  # it praises its authentication there
            library.init(**given, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except Exception as e:  # of many kinds
        library.shutdown()
        name = given["address"]
        advice = "make room in memory and in the folder for temporary files" if name == LOCAL else "see that it runs: ray status"
        if name != LOCAL and _TOKEN not in os.environ:
            advice += f"; if it has a token, set {_TOKEN}=token"
        raise ClusterError(f"no cluster at {name} ({quoted(e)}); {advice}") from e


def _disconnect(library: Any, address: str) -> None:
    """End the connection, and the cluster if it was started here. One that does not answer any more is not waited for."""
    if address == LOCAL:
        library.shutdown()
        return
    ending = threading.Thread(target=library.shutdown, daemon=True)
    ending.start()
    ending.join(_SOON)


def head(address: str) -> tuple[str, int]:
    """Host and port that answer as long as the cluster can be reached, to which this process is connected."""
    place = address.removeprefix("ray://") if address.startswith("ray://") else str(ray().get_runtime_context().gcs_address)
    host, _, port = place.rpartition(":")
    return host.strip("[]"), int(port)


def answers(place: tuple[str, int]) -> bool:
    """Whether somebody listens there."""
    with contextlib.suppress(OSError):
        socket.create_connection(place, _SOON).close()
        return True
    return False


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """Variables for Ray, which reads them when it is imported and when it connects. Afterwards they are as they were."""
    before = {name: os.environ.get(name) for name in _SURROUNDINGS}
    os.environ.update(_SURROUNDINGS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's ways with signals. Ray would set handlers of its own, which end it with another status, and without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual, own = signal.signal, {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal = lambda number, _: signal.getsignal(number)  # type: ignore[assignment]  # only this thread may call it
    try:
        yield
    finally:
        signal.signal = usual
        for number, handler in own.items():
            signal.signal(number, handler)  # its compiled part has replaced it


def _remove(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
