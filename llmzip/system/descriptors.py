"""File names that mean one of the process's own descriptors: /dev/stdout, /dev/fd/5, /proc/self/fd/1, and links to them."""

from __future__ import annotations

import errno
import os
from typing import BinaryIO, cast

_FOLDERS = ("/proc/self/fd", "/proc/thread-self/fd", "/dev/fd")
_LINKS = 40  # links that are followed, as many as the system follows


def descriptor_of(path: str) -> int | None:
    """The number of the descriptor that a path means; None if it means something else.

    Opening such a name again would truncate the file behind it or begin at its start, and replacing it would take the name away from
    everybody.
    """
    folders = {os.path.realpath(folder) for folder in _FOLDERS}
    for _ in range(_LINKS):
        folder, name = os.path.split(os.path.abspath(path))
        folder = os.path.realpath(folder)
        if folder in folders and name.isdecimal() and name == str(int(name)):
            return int(name)
        try:
            path = os.path.join(folder, os.readlink(os.path.join(folder, name)))
        except (OSError, ValueError):  # no link
            return None
    return None


def is_inherited(number: int) -> bool:
    """Whether the program was started with this descriptor. Descriptors that it opened itself are not inheritable."""
    try:
        return os.get_inheritable(number)
    except (OSError, OverflowError):
        return False


def open_file(name: str, mode: str) -> BinaryIO:
    """Open a file. A descriptor of the process continues where it stands, unless it is a regular file to read, which begins at its start."""
    number = descriptor_of(name)
    if number is None or (mode == "rb" and os.path.isfile(name)):
        return cast(BinaryIO, open(name, mode))
    if not is_inherited(number):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), name)
    return cast(BinaryIO, os.fdopen(os.dup(number), mode))
