"""Reading and writing files as users of compressors expect: outputs appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from llmzip.errors import LLZError, reason
from llmzip.likeness import dress
from llmzip.temporary import temporary

STDIO = "-"


class FileError(LLZError):
    """A file cannot be read or written."""


class _Source:
    """A file to read whose faults are told from those of the output."""

    def __init__(self, file: BinaryIO, size: int = 0) -> None:
        """`size`: bytes it had when it was opened, if that is known."""
        self._file, self._size = file, size

    def read(self, n: int = -1) -> bytes:
        """As of other files. Raises FileError, at the end also if the file had more bytes when it was opened."""
        try:
            data = self._file.read(n)
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
        source = open(name, "rb")  # noqa: SIM115  closed below
    except IsADirectoryError as e:
        raise FileError("is a folder; name a file, or pack it with tar first") from e
    except (FileNotFoundError, PermissionError) as e:
        raise FileError(f"cannot be read ({reason(e)}); check name and permissions") from e
    with source:
        yield cast(BinaryIO, _Source(source, os.fstat(source.fileno()).st_size))


@contextlib.contextmanager
def writing(target: str, force: bool, like: BinaryIO | None = None) -> Iterator[BinaryIO]:
    """A file that takes its name only when the block ends without an error; "-" is standard output.

    Args:
        target: the name it will have; what is there and no file, as /dev/null or a named pipe, is written to instead.
        force: whether an existing file is replaced.
        like: an open file whose permissions, owner, group and times the new one gets, as far as the system lets it (`likeness`).
    """
    if target == STDIO:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as e:
            raise FileError(f"cannot write to standard output ({reason(e)})") from e
        return
    path = Path(target)
    check_absent(target, force)
    try:
        if is_stream(target):
            with open(target, "wb") as sink:
                yield sink
            return
        with temporary(lambda: tempfile.mkstemp(prefix=".llmzip-", dir=path.parent), _unlink) as (handle, work):
            with os.fdopen(handle, "w+b") as sink:  # readable, too, for who wants to verify it
                yield sink
                sink.flush()
                dress(sink.fileno(), work, None if like is None else like.fileno())
                os.fsync(sink.fileno())
            _name(work, path, force)
            _sync_folder(path.parent)
    except OSError as e:
        raise FileError(f"{target} cannot be written ({reason(e)}); nothing was changed, check its folder and disk") from e


def _unlink(made: tuple[int, str]) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(made[1])


def _name(work: str, path: Path, force: bool) -> None:
    """Gives a complete file its name: at once, and unless `force` to no other file's cost, even one that came just now."""
    if not force:
        try:
            os.link(work, path)
            return
        except FileExistsError:
            check_absent(str(path), force)
        except OSError:  # a file system without links
            check_absent(str(path), force)
    os.replace(work, path)


def check_absent(target: str, force: bool) -> None:
    """Fails if the output is there already."""
    if not force and os.path.lexists(target) and not is_stream(target):
        raise FileError(f"{target} exists already; use -f to overwrite it, or -o to choose another name")


def is_stream(target: str) -> bool:
    """Whether this is a device or a pipe, which must not be replaced by a file."""
    try:
        mode = os.stat(target).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _sync_folder(folder: Path) -> None:
    """Puts a new name on disk, where the system lets folders be opened for that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
