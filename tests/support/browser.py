"""A headless Chromium for tests: one that is installed, else one that is fetched now, else a failure that says what to do."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.support.packages import apt_get, said

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome-headless-shell")
PACKAGE = "chromium-headless-shell"  # Debian's


def chromium() -> str:
    """Path of a browser to run.

    `LLMZIP_TEST_BROWSER` names one. Where none is found, root on a Debian gets the distribution's package, anyone else playwright's download.
    """
    if found := _installed():
        return found
    tried = apt_get(PACKAGE)
    if found := _installed():
        return found
    if own := _playwrights():
        return own
    tried.append(said([sys.executable, "-m", "playwright", "install", "--only-shell", "chromium"], dict(os.environ)))
    if own := _playwrights():
        return own
    raise RuntimeError(
        f"the page's tests need a Chromium: install one ({', '.join(NAMES[:3])}), or name it in LLMZIP_TEST_BROWSER. Tried:\n"
        + "\n".join(tried)
    )


def _installed() -> str | None:
    named = os.environ.get("LLMZIP_TEST_BROWSER")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


def _playwrights() -> str | None:
    """The browser that playwright has fetched, if it has."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        shells = sorted(Path(p.chromium.executable_path).parents[2].glob("chromium_headless_shell-*/*/*headless*shell"))
        whole = Path(p.chromium.executable_path)
    return next((str(path) for path in [*shells, whole] if path.exists()), None)
