"""Reading and writing files as users of compressors expect: outputs appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from llmzip import descriptors, streams
from llmzip.errors import LLZError, reason
from llmzip.likeness import dress
from llmzip.temporary import temporary

STDIO = "-"


class FileError(LLZError):
    """A file cannot be read or written."""


def shown(name: str) -> str:
    r"""A file's name as a message has it, of printable characters only: other bytes as \xNN, line breaks as \n, "-" in words."""
    return "standard input" if name == STDIO else "".join(c if c.isprintable() else _escaped(c) for c in name)


def _escaped(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # as Python reads what is not UTF-8
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode()


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
        source = _opened(name, "rb")
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
        target: the name it will have; what is there and no file, as /dev/null, a named pipe or a descriptor, is written to instead.
        force: whether an existing file is replaced.
        like: an open file whose permissions, owner, group and times the new one gets, as far as the system lets it (`likeness`).
    """
    if is_standard_output(target):
        with _standard_output() as sink:
            yield sink
        return
    path = Path(target)
    check_absent(target, force)
    state = "nothing was changed, check its folder and disk"
    try:
        if is_stream(target):
            with _opened(target, "wb") as sink:
                state = "what it was given is not whole"
                yield sink
                streams.flush(sink)
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
        raise FileError(f"{shown(target)} cannot be written ({reason(e)}); {state}") from e


@contextlib.contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    sink = sys.stdout.buffer
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a library prints meanwhile
            yield sink
            streams.flush(sink)
    except BrokenPipeError:
        raise
    except OSError as e:
        raise FileError(f"cannot write to standard output ({reason(e)})") from e


def _opened(name: str, mode: str) -> BinaryIO:
    """A file; a descriptor of the process goes on where it is, unless a file is to be read, which begins at its start."""
    number = descriptors.named(name)
    if number is None or (mode == "rb" and os.path.isfile(name)):
        return cast(BinaryIO, open(name, mode))
    if not descriptors.given(number):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), name)
    return cast(BinaryIO, os.fdopen(os.dup(number), mode))


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
    """Fails if the output is there already, or can never be there, as its name is too long."""
    if target == STDIO:
        return
    try:
        os.lstat(target)
    except OSError as e:
        if e.errno == errno.ENAMETOOLONG:
            raise FileError(f"{shown(target)} cannot be written ({reason(e)}); choose a shorter name with -o") from e
        return  # as it should be, or what is wrong is found out when it is written
    if not force and not is_stream(target):
        raise FileError(f"{shown(target)} exists already; use -f to overwrite it, or -o to choose another name")


def is_standard_output(target: str) -> bool:
    """Whether a name means standard output: "-", /dev/stdout and the like."""
    return target == STDIO or descriptors.named(target) == 1


def is_stream(target: str) -> bool:
    """Whether this is a device, a pipe or one of the process's descriptors, which must not be replaced by a file."""
    if descriptors.named(target) is not None:
        return True
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
