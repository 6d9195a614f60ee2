"""Reads documents: files, folders of files, JSON lines and Parquet."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from llmzip.errors import LLZError, reason
from llmzip.system import streams
from llmzip.system.file_names import display_name
from llmzip.system.input_files import reading

LINES, TABLES = (".jsonl", ".ndjson"), (".parquet",)  # suffixes of files that hold many documents
_ROWS = 256  # of a table, read together


@dataclass(frozen=True)
class Document:
    """A text to measure.

    Attributes:
        name: of its file, with the number of its line or row from 1, if the file holds many.
        group: what it is counted with; empty without groups.
        content: its bytes; text is UTF-8.
    """

    name: str
    group: str
    content: bytes = field(repr=False)


class UnreadableError(LLZError):
    """A document cannot be read; the message names it. The ones after it can be."""


Found = Document | UnreadableError


def documents(names: list[str], text: str = "text", group: str | None = None) -> Iterator[Found]:
    """Yield the documents of files and folders, in the order of the names; of folders in the order of their paths. None is empty.

    Args:
        names: of files and folders; "-" is standard input.
        text: the field of JSON lines and the column of tables that has the text.
        group: the one that has the group; without, documents have none.
    """
    for name in names:
        files = _files_in(name) if os.path.isdir(name) else iter([name])
        for file in files:
            yield from _documents_of(file, text, group)


def _files_in(folder: str) -> Iterator[str]:
    for path, folders, files in os.walk(folder):
        folders.sort()
        yield from (os.path.join(path, file) for file in sorted(files))


def _documents_of(file: str, text: str, group: str | None) -> Iterator[Found]:
    shown = display_name(file)
    kind: Callable[[str], Iterator[Any]] | None = (
        _lines if file.lower().endswith(LINES) else _rows(text, group) if file.lower().endswith(TABLES) else None
    )
    try:
        if kind is None:
            with reading(file) as source:
                content = streams.read_all(source)
            yield Document(shown, "", content) if content else UnreadableError(f"{shown}: is empty")
            return
        for number, record in enumerate(kind(file), 1):
            yield _of_record(f"{shown}:{number}", record, text, group)
    except OSError as e:
        yield UnreadableError(f"{shown}: cannot be read ({reason(e)})")
    except LLZError as e:
        yield e if isinstance(e, UnreadableError) else UnreadableError(f"{shown}: {e}")


def _lines(file: str) -> Iterator[Any]:
    """What the lines of a file say; None for one that is no JSON."""
    with reading(file) as source:
        for line in streams.read_all(source).splitlines():
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError:
                    yield None


def _rows(text: str, group: str | None) -> Callable[[str], Iterator[Any]]:
    def rows(file: str) -> Iterator[Any]:
        """The rows of a table, with the columns that are wanted."""
        try:
            parquet = importlib.import_module("pyarrow.parquet")
        except ImportError:
            raise UnreadableError(f"{display_name(file)}: needs pyarrow; run: pip install pyarrow") from None
        try:
            table = parquet.ParquetFile(file)
            columns = [name for name in (text, group) if name in table.schema_arrow.names]
            for batch in table.iter_batches(_ROWS, columns=columns):
                yield from batch.to_pylist()
        except (OSError, ValueError) as e:  # as pyarrow's own errors are
            raise UnreadableError(f"{display_name(file)}: is no Parquet file ({' '.join(str(e).split())[:80]})") from e

    return rows


def _of_record(name: str, record: Any, text: str, group: str | None) -> Found:
    if not isinstance(record, dict):
        return UnreadableError(f"{name}: is no JSON object")
    content = record.get(text)
    if not isinstance(content, str):
        return UnreadableError(f"{name}: has no text in {text!r}; name its field with --field")
    of = record.get(group, "") if group else ""
    try:
        encoded = content.encode()
    except UnicodeEncodeError:
        return UnreadableError(f"{name}: is not Unicode: half of a surrogate pair stands alone")
    return Document(name, str(of), encoded) if encoded else UnreadableError(f"{name}: is empty")
