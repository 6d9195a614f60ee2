"""The program: `llmzip`, `python -m llmzip`."""

from __future__ import annotations

import gc
import os
import signal


def run() -> None:
    """Runs the command line with a quick start and a quick end.

    Imports make hundreds of thousands of objects and next to no garbage: looking for it less often saves a quarter of a
    second. Taking down the libraries' objects one by one takes half a second more, when everything is written and closed.
    """
    if os.name == "posix" and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # there is nothing yet that its traceback could tell
    _share_processors()
    from llmzip.system import signals, standard_streams, temporary

    standard_streams.install()
    signals.install()
    gc.set_threshold(200_000, 20, 20)
    from llmzip.cli import main  # takes a while, in which signals may come

    status: object = 0
    try:
        main(prog_name="llmzip")
    except SystemExit as e:
        status = e.code
    code = status if isinstance(status, int) else int(status is not None)
    code = standard_streams.finish(code)
    temporary.hold()  # a signal's thread, if it has begun to end the process, shall do so
    os._exit(code)


def _share_processors() -> None:
    """Lets threads that wait for each other give their processor away soon.

    OpenMP's threads spin for long by default, which is a little faster where nobody else wants the processors. But where others do, each
    spins away the time that another needs for what it waits for, and a minute becomes half an hour. GNU's library reads
    this when it is loaded, so this comes before torch; what the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


if __name__ == "__main__":
    run()
