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
    from llmzip.system import processors, signals, standard_streams, temporary

    processors.share()
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


if __name__ == "__main__":
    run()
