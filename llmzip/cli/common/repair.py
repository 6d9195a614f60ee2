"""The repair of damaged archives on their way to the decoder."""

from __future__ import annotations

import io
import shlex
from typing import BinaryIO

from llmzip.archive import damage
from llmzip.system.file_names import display_name


def repaired(name: str, source: BinaryIO) -> tuple[BinaryIO, str]:
    """A damaged archive, repaired, and what to say about it; `source` and an empty text if it has no parity.

    Args:
        name: name of the file.
        source: the file, open at its start.

    Raises:
        LLZError: too much is damaged.
    """
    found = damage.repaired(source)
    if found is None:
        return source, ""
    what = f"{damage.LOST}; the rest is whole" if found.lost else f"is damaged; {damage.extent(found)}"
    return io.BytesIO(found.archive), f"{what}; run: llmzip repair {display_name(shlex.quote(name))}"
