"""Reading files, or standard input; what goes wrong is said in one line."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from llmzip.errors import reason
from llmzip.system import descriptors, streams
from llmzip.system.file_names import STDIO, FileError


class _Source:
    """A file to read whose faults are told from those of the output."""

    def __init__(self, file: BinaryIO, size: int = 0) -> None:
        """`size`: bytes it had when it was opened, if that is known."""
        self._file, self._size = file, size

    def read(self, n: int = -1) -> bytes:
        """As of other files. Raises FileError, at the end also if the file had more bytes when it was opened."""
        try:
            data = streams.read_all(self._file) if n < 0 else streams.read(self._file, n)
            shorter = not data and n and self._size and os.fstat(self._file.fileno()).st_size < self._size
        except OSError as e:
            raise FileError(f"cannot be read ({reason(e)}); check the file and its disk") from e
        if shorter:
            raise FileError("became shorter while it was read; run again when nobody writes to it")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextlib.contextmanager
def reading(name: str) -> Iterator[BinaryIO]:
    """The file `name`, or standard input for "-"; what goes wrong in reading it is a FileError."""
    if name == STDIO:
        yield cast(BinaryIO, _Source(sys.stdin.buffer))
        return
    try:
        source = descriptors.open_file(name, "rb")
    except IsADirectoryError as e:
        raise FileError("is a folder; name a file, or pack it with tar first") from e
    except (FileNotFoundError, PermissionError) as e:
        raise FileError(f"cannot be read ({reason(e)}); check name and permissions") from e
    with source:
        yield cast(BinaryIO, _Source(source, os.fstat(source.fileno()).st_size))
