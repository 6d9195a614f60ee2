"""Reading and writing files as users of compressors expect: outputs appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from llmzip.errors import LLZError

STDIO = "-"


class FileError(LLZError):
    """A file cannot be read or written."""


@contextlib.contextmanager
def reading(name: str) -> Iterator[BinaryIO]:
    """The file `name`, or standard input for "-"."""
    if name == STDIO:
        yield sys.stdin.buffer
        return
    try:
        with open(name, "rb") as source:
            os.fstat(source.fileno())
            yield source
    except IsADirectoryError as e:
        raise FileError("is a folder; name a file, or pack it with tar first") from e
    except (FileNotFoundError, PermissionError) as e:
        raise FileError(f"cannot be read ({(e.strerror or 'error').lower()}); check name and permissions") from e


@contextlib.contextmanager
def writing(target: str, force: bool, like: str | None = None) -> Iterator[BinaryIO]:
    """A file that takes its name only when the block ends without an error; "-" is standard output.

    Args:
        target: the name it will have; what is there and no file, as /dev/null or a named pipe, is written to instead.
        force: whether an existing file is replaced.
        like: a file whose mode and modification time the new one gets.
    """
    if target == STDIO:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as e:
            raise FileError(f"cannot write to standard output ({(e.strerror or 'error').lower()})") from e
        return
    path = Path(target)
    if _is_stream(target):
        with open(target, "wb") as sink:
            yield sink
        return
    check_absent(target, force)
    try:
        handle, work = tempfile.mkstemp(prefix=".llmzip-", dir=path.parent)
    except OSError as e:
        raise FileError(f"{target} cannot be written ({(e.strerror or 'error').lower()}); check the folder") from e
    try:
        with os.fdopen(handle, "w+b") as sink:  # readable, too, for who wants to verify it
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        if like:
            shutil.copystat(like, work)
        else:
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(work, 0o666 & ~umask)
        check_absent(target, force)
        os.replace(work, path)
        _sync_folder(path.parent)
    except FileError:
        raise
    except OSError as e:
        raise FileError(f"{target} cannot be written ({(e.strerror or 'error').lower()}); nothing was changed") from e
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(work)


def check_absent(target: str, force: bool) -> None:
    """Fails if the output is there already."""
    if not force and os.path.lexists(target) and not _is_stream(target):
        raise FileError(f"{target} exists already; use -f to overwrite it, or -o to choose another name")


def _is_stream(target: str) -> bool:
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
