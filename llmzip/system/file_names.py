"""Names of files: which mean standard streams or devices, and how messages show them."""

from __future__ import annotations

import os
import stat

from llmzip.errors import LLZError
from llmzip.system import descriptors

STDIO = "-"


class FileError(LLZError):
    """A file cannot be read or written."""


def display_name(name: str) -> str:
    r"""A file's name as a message has it, of printable characters only: other bytes as \xNN, line breaks as \n, "-" in words."""
    return "standard input" if name == STDIO else "".join(c if c.isprintable() else _escaped(c) for c in name)


def _escaped(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # as Python reads what is not UTF-8
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode()


def is_standard_output(target: str) -> bool:
    """Whether a name means standard output: "-", /dev/stdout and the like."""
    return target == STDIO or descriptors.descriptor_of(target) == 1


def is_stream(target: str) -> bool:
    """Whether this is a device, a pipe or one of the process's descriptors, which must not be replaced by a file."""
    if descriptors.descriptor_of(target) is not None:
        return True
    try:
        mode = os.stat(target).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
