"""The program: `llmzip`, `python -m llmzip`."""

from __future__ import annotations

import gc
import os
import signal


def run() -> None:
    """Run the command line with a quick start and a quick end.

    Imports create hundreds of thousands of objects and hardly any garbage, so collecting it less often saves a quarter of a second. To
    destroy the libraries' objects one by one at the end would take another half a second, when everything is written and closed already.
    """
    if os.name == "posix" and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a traceback would say nothing useful this early
    _share_processors()
    from llmzip.system import signals, standard_streams, temporary

    standard_streams.install()
    signals.install()
    gc.set_threshold(200_000, 20, 20)
    from llmzip.cli import main  # takes a while, during which signals may come

    status: object = 0
    try:
        main(prog_name="llmzip")
    except SystemExit as e:
        status = e.code
    code = status if isinstance(status, int) else int(status is not None)
    code = standard_streams.finish(code)
    temporary.hold()  # if the signals' thread has begun to end the process, it must do so
    os._exit(code)


def _share_processors() -> None:
    """Let threads that wait for each other give up their processor soon.

    By default OpenMP's threads spin for long before they sleep. That is a little faster while nobody else needs the processors. If others
    do, waiting threads use up the time of those they wait for, and a minute can become half an hour. GNU's library reads the variable when
    it is loaded, so this comes before numba and torch. A setting of the user stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


if __name__ == "__main__":
    run()
