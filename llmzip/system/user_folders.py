"""The user's own folders. Not every user has them: services and containers may run as users without a home."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path | None:
    """The platform's cache folder for llmzip and this user; None if there is none, as for users without a home."""
    import platformdirs

    try:
        folder = Path(platformdirs.user_cache_dir("llmzip", appauthor=False))
    except RuntimeError:  # no home is known; older versions leave "~" in the name, and a folder of that name would be created
        return None
    return folder if folder.is_absolute() else None


def expanded(name: str) -> Path | None:
    """The absolute name of a folder, with "~" and "~user" at its start replaced; None if there is no such home."""
    folder = os.path.expanduser(name)
    return None if folder.startswith("~") else Path(os.path.abspath(folder))
