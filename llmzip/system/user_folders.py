"""Folders that are a user's own. Not every user has them: services and containers run under numbers that no home belongs to."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path | None:
    """The platform's folder for what llmzip keeps for this user; None if there is none, as for users without a home."""
    import platformdirs

    try:
        folder = Path(platformdirs.user_cache_dir("llmzip", appauthor=False))
    except RuntimeError:  # no home is known; older versions leave "~" in the name, which would become a folder called so
        return None
    return folder if folder.is_absolute() else None


def expanded(name: str) -> Path | None:
    """The folder `name`, absolute, "~" and "~user" at its start replaced; None if there is no such home."""
    folder = os.path.expanduser(name)
    return None if folder.startswith("~") else Path(os.path.abspath(folder))
