"""Prepares a file that is an archive for adding a frame to it."""

from __future__ import annotations

import io
from typing import BinaryIO

from llmzip.archive.parser import read_records


def prepare(fp: BinaryIO) -> tuple[int, int]:
    """Remove the zeros at the end of an archive, and move to its end. An empty file is accepted as well.

    Args:
        fp: the file, readable and writable. It is closed if an exception is raised.

    Returns:
        The file's size now, and its size before, in bytes.

    Raises:
        NotAnArchiveError, UnsupportedArchiveError, DamagedArchiveError: it is not an archive that a frame can be added to; its content
            is unchanged.
        OSError: the file cannot be read or changed.
    """
    try:
        size, end = fp.seek(0, io.SEEK_END), 0
        if size:
            fp.seek(0)
            reader = io.BufferedReader(fp)  # type: ignore[type-var]
            for placed in read_records(reader):
                end = placed.span.stop
            reader.detach()
        if end < size:
            fp.truncate(end)
        fp.seek(end)
        return end, size
    except BaseException:
        fp.close()
        raise
