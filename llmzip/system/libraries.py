"""Libraries of other compressors, if this machine has them."""

from __future__ import annotations

import importlib
from typing import Any

ZSTD = ("compression.zstd", "zstandard")  # the first is Python's own, from 3.14; both have compress(data, level)


def import_first(*names: str) -> Any | None:
    """The first of these modules that can be imported; None if none can."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
