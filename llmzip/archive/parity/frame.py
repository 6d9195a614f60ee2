"""Makes and reads parity frames, and computes missing shards from those that are left. docs/format.md is the specification."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from llmzip.archive.parity import erasure
from llmzip.archive.parity.layout import END, MARKER, MAX_SHARDS, MAX_SIZE, SHARD_SIZES, Layout
from llmzip.archive.records import ParityRecord, encode_record, frame_start
from llmzip.archive.wire import Cursor
from llmzip.errors import DamagedArchiveError

_Shard = TypeVar("_Shard")


class Content(NamedTuple):
    """Fields of a parity record.

    Attributes:
        layout: how the protected bytes and the parity frame are cut.
        number: number of the record in its frame, from 0.
        payload: a parity shard, or the list of checks of the data shards.
    """

    layout: Layout
    number: int
    payload: bytes


def read(body: bytes) -> Content | None:
    """Return the fields in a parity record's body; None if it is not one or is invalid."""
    if not body.startswith(MARKER):
        return None
    c = Cursor(body[len(MARKER) :])
    try:
        layout = Layout(c.varint(MAX_SIZE), c.varint(SHARD_SIZES[-1]), c.varint(MAX_SHARDS), c.take(1)[0])
        number, payload = c.word(), c.rest()
    except DamagedArchiveError:
        return None
    if not layout.size or layout.shard not in SHARD_SIZES or not 1 <= layout.groups <= layout.shards <= MAX_SHARDS:
        return None
    if not layout.parity or layout.group + layout.parity > erasure.MAX_WORD:
        return None
    if number >= layout.records or len(payload) != layout.payload(number):
        return None
    return Content(layout, number, payload)


def frame(data: bytes, layout: Layout) -> bytes:
    """Return the parity frame for `data`, which is put after it."""
    shards = cut(data, layout)
    checks = b"".join(map(check, shards))
    payloads = [checks, *_parity_shards(shards, layout), checks]
    records = [encode_record(ParityRecord(layout.body(number, payload))) for number, payload in enumerate(payloads)]
    return frame_start() + b"".join(records) + END


def cut(data: bytes, layout: Layout) -> list[bytes]:
    """Return the data shards; the last is filled up with zeros."""
    return [data[at : at + layout.shard].ljust(layout.shard, b"\0") for at in range(0, layout.size, layout.shard)]


def check(shard: bytes) -> bytes:
    """Return the CRC-32 of a shard as stored: four bytes, little endian."""
    return struct.pack("<I", zlib.crc32(shard))


def _parity_shards(shards: list[bytes], layout: Layout) -> list[bytes]:
    """Return the parity shards of all groups, in their order in the frame."""
    total = len(shards) + layout.groups * layout.parity
    numbered = shards + [b""] * (total - len(shards))
    for group in range(layout.groups):
        data = shards[group :: layout.groups]
        numbered[group :: layout.groups] = data + erasure.parity(_filled(data, layout), layout.parity)
    return numbered[len(shards) :]


def _filled(data: Sequence[_Shard], layout: Layout) -> list[_Shard | bytes]:
    """Return a group's data shards, with zero shards before them so that there are as many as in the largest group."""
    return [bytes(layout.shard)] * (layout.group - len(data)) + list(data)


def compute_missing_shards(shards: Sequence[bytes | None], layout: Layout) -> list[bytes]:
    """Return all data shards; missing ones are computed from the shards that are left.

    Args:
        shards: data shards, then parity shards, None where one is missing.
        layout: how they are grouped.

    Raises:
        DamagedArchiveError: more are missing than can be computed.
    """
    groups = [shards[g :: layout.groups] for g in range(layout.groups)]
    worst = max(group.count(None) for group in groups)
    if worst > layout.parity:
        where = f", {worst:,} of them in one group" if layout.groups > 1 else ""
        raise DamagedArchiveError(
            f"beyond repair: {shards.count(None):,} of {len(shards):,} parts are damaged{where}, and {layout.parity:,} of "
            f"{len(groups[0]):,} can be restored; get another copy"
        )
    whole = [b""] * layout.shards
    for g, group in enumerate(groups):
        data = group[: -layout.parity]
        whole[g :: layout.groups] = erasure.compute_missing(_filled(data, layout), group[-layout.parity :])[-len(data) :]
    return whole
