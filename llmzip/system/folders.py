"""Folders of files, on this machine or where fsspec reaches (s3://, gs://, memory://), with the few things that a corpus needs."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol, cast

from llmzip.errors import quoted
from llmzip.system.file_names import FileError
from llmzip.system.input_files import reading
from llmzip.system.output_files import writing
from llmzip.system.temporary import temporary

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SELDOM = 30.0  # seconds between two times that a text grows which can only be written as a whole


class Folder(Protocol):
    """A folder. Names of files in it are relative, with "/" between their parts.

    What goes wrong is a FileError.
    """

    def files(self) -> Iterator[str]:
        """The names of all files in it and in the folders in it, in order."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        ...

    def reading(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """A file, to read."""
        ...

    def writing(self, name: str, like: BinaryIO | None = None) -> contextlib.AbstractContextManager[BinaryIO]:
        """A file that takes its name, also that of another file, only when the block ends without an error. `like`: as for `output_files.writing`."""
        ...

    def growing(self, name: str) -> contextlib.AbstractContextManager[GrowingText]:
        """A text to which lines are added. What is there already stays."""
        ...


class GrowingText(Protocol):
    """A text to which lines are added.

    Attributes:
        before: what was there already.
    """

    before: str

    def add(self, line: str) -> None:
        """Add a line. It may be saved later, at the latest when the block ends."""
        ...


def folder(name: str) -> Folder:
    """The folder of this name or URL."""
    return _Remote(name) if _URL.match(name) else _Local(Path(name))


class _Local:
    def __init__(self, root: Path) -> None:
        self._root = root

    def files(self) -> Iterator[str]:
        if not self._root.is_dir():
            raise FileError("is no folder; name one with -r, or files without it")
        for base, folders, names in os.walk(self._root):
            folders.sort()
            for name in sorted(names):
                path = Path(base, name)
                if path.is_file():
                    yield path.relative_to(self._root).as_posix()

    def size(self, name: str) -> int | None:
        with contextlib.suppress(OSError):
            return (self._root / name).stat().st_size
        return None

    def reading(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        return reading(str(self._root / name))

    @contextlib.contextmanager
    def writing(self, name: str, like: BinaryIO | None = None) -> Iterator[BinaryIO]:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(str(path), True, like if _is_of_system(like) else None) as sink:
            yield sink

    @contextlib.contextmanager
    def growing(self, name: str) -> Iterator[GrowingText]:
        self._root.mkdir(parents=True, exist_ok=True)
        with open(self._root / name, "a+", encoding="ascii") as file:
            yield _GrowingFile(file)


def _is_of_system(file: BinaryIO | None) -> bool:
    """Whether a file has a descriptor: one that comes from elsewhere has none."""
    with contextlib.suppress(OSError, AttributeError):
        return file is not None and file.fileno() >= 0
    return False


class _GrowingFile:
    def __init__(self, file: Any) -> None:
        file.seek(0)
        self.before, self._file = file.read(), file
        if self.before and not self.before.endswith("\n"):
            file.write("\n")  # a line that was cut short is no line

    def add(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()


class _Remote:
    def __init__(self, url: str) -> None:
        try:
            core = importlib.import_module("fsspec.core")
            with _said(url):
                self._system, root = core.url_to_fs(url)
        except ImportError as e:
            raise FileError(
                f"needs a library that cannot be loaded ({quoted(e)}); run: pip install fsspec, and what it names for this kind of URL"
            ) from e
        self._url, self._root = url.rstrip("/"), PurePosixPath(root)

    def files(self) -> Iterator[str]:
        with _said(self._url):
            found = sorted(self._system.find(str(self._root)))
        for path in found:
            yield PurePosixPath(path).relative_to(self._root).as_posix()

    def size(self, name: str) -> int | None:
        try:
            with _said(self._url):
                return int(self._system.size(self._path(name)))
        except FileError as e:
            if isinstance(e.__cause__, FileNotFoundError):
                return None
            raise

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        with _said(f"{self._url}/{name}"):
            source = self._system.open(self._path(name), "rb")
        with source:
            yield cast(BinaryIO, source)

    @contextlib.contextmanager
    def writing(self, name: str, like: BinaryIO | None = None) -> Iterator[BinaryIO]:
        with temporary(lambda: tempfile.NamedTemporaryFile(prefix="llmzip-"), lambda file: file.close()) as sink:
            yield cast(BinaryIO, sink)
            sink.flush()
            with _said(f"{self._url}/{name}"):
                self._system.makedirs(str(PurePosixPath(self._path(name)).parent), exist_ok=True)
                self._system.put_file(sink.name, self._path(name) + ".part")
                self._system.mv(self._path(name) + ".part", self._path(name))

    @contextlib.contextmanager
    def growing(self, name: str) -> Iterator[GrowingText]:
        text = _GrowingObject(self, name)
        try:
            yield text
        finally:
            text.save()

    def _path(self, name: str) -> str:
        return str(self._root / name)


class _GrowingObject:
    def __init__(self, folder: _Remote, name: str) -> None:
        self._folder, self._name, self._saved = folder, name, time.monotonic()
        self.before = ""
        if folder.size(name) is not None:
            with folder.reading(name) as source:
                self.before = source.read().decode("ascii", "replace")
        self._lines = [line for line in self.before.split("\n") if line]

    def add(self, line: str) -> None:
        self._lines.append(line)
        if time.monotonic() - self._saved > _SELDOM:
            self.save()

    def save(self) -> None:
        with self._folder.writing(self._name) as sink:
            sink.write("".join(line + "\n" for line in self._lines).encode("ascii"))
        self._saved = time.monotonic()


@contextlib.contextmanager
def _said(name: str) -> Iterator[None]:
    """Turn what a library says of a place into one line."""
    try:
        yield
    except ImportError:
        raise
    except Exception as e:  # each kind of place has its own
        raise FileError(f"{name}: {quoted(e) or type(e).__name__}; check the name and the rights there") from e
