"""Inspections of one text with several models, as a table: a model a line, and the other compressors."""

from __future__ import annotations

from collections.abc import Iterator

from llmzip.inspection.phrases import bits_per_byte, percent, plural
from llmzip.inspection.result import Inspection


def table(inspections: dict[str, Inspection], name: str) -> Iterator[str]:
    """Yield lines, the smallest archive first.

    Args:
        inspections: by what the model is called; all of the same content.
        name: of the file.
    """
    first = next(iter(inspections.values()))
    size = len(first.content)
    yield f"{name}: {plural(size, 'byte')}, level {first.level}"
    rows = [("", "archive", "bits/byte", "tokens", "bits/token", "foreseen")]
    sizes = {label: found.archive for label, found in inspections.items()} | first.others
    for label, archive in sorted(sizes.items(), key=lambda item: item[1]):
        found = inspections.get(label)
        of_tokens = ("-", "-", "-")
        if found and len(found):
            of_tokens = f"{len(found):,}", f"{found.total / len(found):.2f}", percent(found.foreseen)
        rows.append((label, f"{archive:,}", bits_per_byte(archive, size), *of_tokens))
    width = max(len(row[0]) for row in rows)
    for label, *cells in rows:
        yield f"{label:<{width}}" + "".join(f"{cell:>12}" for cell in cells)
