"""The records of archives, for tests that look into them."""

from __future__ import annotations

import io
from itertools import groupby

from llmzip.archive.parser import read_records
from llmzip.archive.records import Record


def frames_of(archive: bytes) -> list[list[Record]]:
    """The records of each frame."""
    placed = read_records(io.BytesIO(archive))
    return [[p.record for p in frame] for _, frame in groupby(placed, lambda p: p.frame)]


def records_of(archive: bytes) -> list[Record]:
    """The records of all frames."""
    return [p.record for p in read_records(io.BytesIO(archive))]
