"""Writing files as users of compressors expect: outputs appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from llmzip.errors import reason
from llmzip.system import descriptors, permissions, streams
from llmzip.system.file_names import STDIO, FileError, display_name, is_standard_output, is_stream
from llmzip.system.temporary import temporary


@contextlib.contextmanager
def writing(target: str, force: bool, like: BinaryIO | None = None) -> Iterator[BinaryIO]:
    """A file that takes its name only when the block ends without an error; "-" is standard output.

    Args:
        target: the name it will have. A device, a named pipe or a descriptor of that name is written to.
        force: If true, replace an existing file.
        like: an open file. The new one gets its permissions, owner, group and times, as far as the system allows (`permissions`).
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
            with descriptors.open_file(target, "wb") as sink:
                state = "what it was given is not whole"
                yield sink
                streams.flush(sink)
            return
        with temporary(lambda: tempfile.mkstemp(prefix=".llmzip-", dir=path.parent), _unlink) as (handle, work):
            with os.fdopen(handle, "w+b") as sink:  # readable, too, for who wants to verify it
                yield sink
                sink.flush()
                permissions.copy_permissions(sink.fileno(), work, None if like is None else like.fileno())
                os.fsync(sink.fileno())
            _publish(work, path, force)
            _sync_folder(path.parent)
    except OSError as e:
        raise FileError(f"{display_name(target)} cannot be written ({reason(e)}); {state}") from e


@contextlib.contextmanager
def going_on(target: str, force: bool, like: BinaryIO | None = None) -> Iterator[BinaryIO]:
    """A file that takes its name only when the block ends without an error. Until then it is TARGET.part, and stays if it does not get that far.

    Args:
        target: the name it will have, of an ordinary file.
        force, like: as for `writing`.

    Raises:
        FileError: another process writes it, or it cannot be written.
    """
    from filelock import FileLock, Timeout

    path, part = Path(target), Path(f"{target}.part")
    check_absent(target, force)
    lock = FileLock(f"{part}.lock", timeout=0)
    try:
        with lock:
            try:
                with open(os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600), "r+b") as sink:
                    yield sink
                    sink.flush()
                    permissions.copy_permissions(sink.fileno(), str(part), None if like is None else like.fileno())
                    os.fsync(sink.fileno())
                _publish(str(part), path, force)
                _unlink_if_there(part)  # where the file got its name as a link
                _sync_folder(path.parent)
            finally:
                _unlink_if_there(Path(lock.lock_file))
    except Timeout as e:
        raise FileError(f"{display_name(str(part))} is in use; wait for the other process that compresses the same file") from e
    except OSError as e:
        raise FileError(
            f"{display_name(target)} cannot be written ({reason(e)}); check its folder and disk, and run again with --resume"
        ) from e


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


def _unlink(made: tuple[int, str]) -> None:
    _unlink_if_there(Path(made[1]))


def _unlink_if_there(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _publish(work: str, path: Path, force: bool) -> None:
    """Publish the finished file atomically; without `force`, never replace an existing file, even one just created."""
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
    """Raise FileError if the output exists already, or if its name is too long for any file."""
    if target == STDIO:
        return
    try:
        os.lstat(target)
    except OSError as e:
        if e.errno == errno.ENAMETOOLONG:
            raise FileError(f"{display_name(target)} cannot be written ({reason(e)}); choose a shorter name with -o") from e
        return  # as it should be, or what is wrong is found out when it is written
    if not force and not is_stream(target):
        raise FileError(f"{display_name(target)} exists already; use -f to overwrite it, or -o to choose another name")


def _sync_folder(folder: Path) -> None:
    """Write a new name to disk, where the system lets folders be opened for that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
