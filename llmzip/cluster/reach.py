"""Whether a cluster can still be reached. Ray ends the whole process, and its temporary files stay, once its head has been silent for a minute."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from llmzip.cluster import library
from llmzip.cluster.library import ClusterError

SILENCE = 40.0  # seconds of silence after which a cluster is given up; Ray waits for 60
_PAUSE = 3.0  # seconds between two attempts


@contextlib.contextmanager
def watching(address: str, lose: Callable[[ClusterError], None]) -> Iterator[None]:
    """Call `lose`, from another thread, if the head of the cluster cannot be reached for a while. This process is connected to it.

    Args:
        address: of the cluster, as for `library.connected`.
        lose: is told once why nothing comes from the cluster any more.
    """
    place, over = library.head(address), threading.Event()

    def watch() -> None:
        answered = time.monotonic()
        while not over.wait(_PAUSE):
            if library.answers(place):
                answered = time.monotonic()
            elif time.monotonic() - answered > SILENCE:
                lose(
                    ClusterError(
                        f"the cluster at {place[0]}:{place[1]} cannot be reached for {SILENCE:.0f} s; see that it runs: ray status"
                    )
                )
                return

    threading.Thread(target=watch, name="llmzip reach", daemon=True).start()
    try:
        yield
    finally:
        over.set()
