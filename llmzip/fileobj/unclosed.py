"""Closes files that are being written and that their user did not close, so that nothing written is lost silently."""

from __future__ import annotations

import atexit
import io
import sys
import warnings
import weakref

_writing: weakref.WeakSet[io.BufferedIOBase] = weakref.WeakSet()


def watch(file: io.BufferedIOBase) -> None:
    """Close `file` when Python exits, unless `unwatch` is called before."""
    _writing.add(file)


def unwatch(file: io.BufferedIOBase) -> None:
    """Forget a file; do nothing if it is not watched."""
    _writing.discard(file)


def describe(file: io.BufferedIOBase) -> str:
    """Return the name of an open file, for messages."""
    return str(getattr(file, "name", "an LLZFile"))


def close(file: io.BufferedIOBase) -> None:
    """Close a file that its user did not close, and warn; print a message on standard error if it cannot be completed."""
    what = describe(file)
    warnings.warn(f"{what} was not closed", ResourceWarning, stacklevel=2, source=file)
    try:
        file.close()
    except Exception as e:
        if sys.stderr:
            print(f"llmzip: {what} was not closed, and is an archive cut short ({e})", file=sys.stderr)


@atexit.register  # exit handlers run while Python can still compute; objects that it drops later are too late
def _close_all() -> None:
    for file in list(_writing):
        if not file.closed:
            close(file)
