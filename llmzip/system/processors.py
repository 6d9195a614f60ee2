"""Processors that several programs share."""

from __future__ import annotations

import os


def share() -> None:
    """Let threads that wait for each other give up their processor soon.

    By default OpenMP's threads spin for long before they sleep. That is a little faster while nobody else needs the processors. If others
    do, waiting threads use up the time of those they wait for, and a minute can become half an hour. GNU's library reads the variable when
    it is loaded, so this comes before numba and torch. A setting of the user stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
