"""Programs run as users who are not the administrator, wherever the interpreter is: in a container or a home that others cannot enter, too."""

from __future__ import annotations

import os

NOBODY = 65534  # a user, and a group, to whom files may belong
HOMELESS = 54321  # a user whom no machine knows
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def unprivileged(*command: str) -> list[str]:
    """A command for which the modes of files count: without the administrator's rights, though it keeps its number."""
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command] if ROOT else list(command)


def homeless(*command: str) -> list[str]:
    """A command run by a user without an entry among the users; may read and write what it likes, so that it finds the interpreter."""
    user = [f"--reuid={HOMELESS}", f"--regid={HOMELESS}", "--clear-groups"]
    return ["setpriv", *user, "--inh-caps=+dac_override", "--ambient-caps=+dac_override", *command]


def give_away(*paths: str | os.PathLike[str]) -> None:
    """Makes files and folders, and all in those, another user's, whom alone they let write."""
    for path in paths:
        for folder, _, files in os.walk(path):
            for name in (folder, *(os.path.join(folder, f) for f in files)):
                if ROOT:
                    os.chown(name, NOBODY, NOBODY)
        if not ROOT:  # the nearest there is
            for folder, _, _ in os.walk(path):
                os.chmod(folder, 0o555)
