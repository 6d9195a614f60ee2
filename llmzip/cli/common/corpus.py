"""`compress -r` and `--files-from`: many files, an archive for each, and a manifest of what is done."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

import click

from llmzip.cli.common.digest import Digest
from llmzip.cli.common.job import SUFFIX
from llmzip.system.file_names import STDIO, FileError
from llmzip.system.folders import Folder, GrowingText, folder
from llmzip.system.input_files import reading

MANIFEST = "manifest.jsonl"
Compress = Callable[[str, int | None, BinaryIO, BinaryIO], None]  # name, size, source, sink


@dataclass(frozen=True)
class Source:
    """A file of a corpus.

    Attributes:
        name: its name in the manifest; its archive is called so, with the suffix.
        place: the folder it is in.
        path: its name there.
    """

    name: str
    place: Folder
    path: str


def sources(root: str | None, listed: str | None, out: str) -> dict[str, Source]:
    """The files of a corpus by their names: all in a folder but those of `out`, or those of a list, one a line, from a file or standard input.

    Raises:
        FileError: it cannot be read, or a name cannot be mirrored.
    """
    found: dict[str, Source] = {}
    for source in _in_folder(root, out) if root is not None else _in_list(str(listed)):
        if source.name in found:
            raise FileError(f"{source.name} is listed twice; list each file once")
        found[source.name] = source
    return found


def _in_folder(root: str, out: str) -> Iterator[Source]:
    place, inside = folder(root), f"{os.path.relpath(out, root)}/"  # of URLs, too
    for path in place.files():
        if not path.startswith(inside):
            yield Source(path, place, path)


def _in_list(listed: str) -> Iterator[Source]:
    with reading(listed) as lines:
        names = lines.read().decode("utf-8", "surrogateescape").split("\n")
    for line in filter(None, names):
        path = PurePosixPath(line.partition("://")[2] or line)
        if ".." in path.parts:
            raise FileError(f"{line} cannot be mirrored; list names without ..")
        parent, _, last = line.rpartition("/")
        yield Source(str(path).lstrip("/"), folder(parent or ("/" if line.startswith("/") else ".")), last)


class Corpus:
    """Archives of a corpus.

    Args:
        out: where they go.
        manifest: the lines of what is done.
        force: Whether to do again what is done.
    """

    def __init__(self, out: Folder, manifest: GrowingText, force: bool) -> None:
        self._out, self._manifest, self._adding = out, manifest, threading.Lock()
        self._done = {} if force else dict(_entries(manifest.before))

    def compress(self, source: Source, compress: Compress) -> None:
        """Make the archive of a file, unless it is there already, made of the same content."""
        size, archive = source.place.size(source.path), source.name + SUFFIX
        if self._is_done(source, size, archive):
            return
        with source.place.reading(source.path) as file, self._out.writing(archive, file) as sink:
            content, made = Digest(file), Digest(to=sink)
            compress(source.name, size, content, made)  # type: ignore[arg-type]  # all it needs
        bits = round(8 * made.size / content.size, 4) if content.size else None
        entry = {
            "file": source.name,
            "bytes": content.size,
            "archive_bytes": made.size,
            "bits_per_byte": bits,
            "sha256": content.stated()[1],
        }
        with self._adding:
            self._manifest.add(json.dumps(entry))

    def _is_done(self, source: Source, size: int | None, archive: str) -> bool:
        done = self._done.get(source.name)
        if done is None or done[:1] != (size,) or self._out.size(archive) != done[1]:
            return False
        with source.place.reading(source.path) as file:
            content = Digest(file)
            while content.read(1 << 20):
                pass
        return content.stated()[1] == done[2]


def _entries(manifest: str) -> Iterator[tuple[str, tuple[int, int, str]]]:
    """What the lines of a manifest say. Lines that are none of ours say nothing."""
    for line in manifest.split("\n"):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            yield str(entry["file"]), (int(entry["bytes"]), int(entry["archive_bytes"]), str(entry["sha256"]))


@contextlib.contextmanager
def opened(out: str, force: bool) -> Iterator[Corpus]:
    """The archives at a place. The manifest there is complete when the block ends, and names each file once."""
    place = folder(out)
    with place.growing(MANIFEST) as manifest:
        yield Corpus(place, manifest, force)
    if place.size(MANIFEST):
        _keep_latest(place)


def _keep_latest(place: Folder) -> None:
    """Leave only the latest line of the manifest for each file."""
    with place.reading(MANIFEST) as made:
        lines = made.read().decode("ascii", "replace").splitlines(keepends=True)
    latest = {next((name for name, _ in _entries(line)), line): line for line in lines}
    if len(latest) < len(lines):
        with place.writing(MANIFEST) as sink:
            sink.write("".join(latest.values()).encode("ascii", "replace"))


def check(recursive: bool, listed: str | None, files: tuple[str, ...], output: str | None) -> None:
    """Raise `click.UsageError` unless the options of a corpus fit together."""
    if recursive and listed is not None:
        raise click.UsageError("-r takes a folder, and --files-from a list; give one of them.")
    if recursive and len(files) != 1:
        raise click.UsageError("-r takes one folder.")
    if listed is not None and files:
        raise click.UsageError("--files-from takes no FILE beside the list.")
    if output is None or output == STDIO:
        raise click.UsageError("-r and --files-from need a folder for the archives: -o OUT.")
