"""How the protected bytes and their parity frame are cut into shards, groups and records. docs/format.md is the specification."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from llmzip.archive.parity import erasure
from llmzip.archive.records import WholeCheck, encode_record, frame_start
from llmzip.archive.wire import varint
from llmzip.errors import ParameterError
from llmzip.parameters import PERCENTAGES

MARKER = b"\xf5RSP"  # begins the body of every parity record, so that it can be found in a damaged file
SHARD_SIZES = range(16, (1 << 16) + 1)  # bytes of a shard that the format allows
MAX_SHARDS = 1 << 20  # most data shards
MAX_SIZE = MAX_SHARDS << 16  # most bytes protected
_MOST_DATA = 200  # most data shards of a group that are chosen: more take long and gain nothing
_SIZES_CHOSEN = [1 << bits for bits in range(5, 11)]  # bytes of a shard
END = encode_record(WholeCheck().record())


@dataclass(frozen=True)
class Layout:
    """How the protected bytes and their parity frame are cut.

    Attributes:
        size: bytes protected.
        shard: bytes of a shard; the last data shard is filled up with zeros.
        groups: number of groups. With data shards counted before parity shards, shard j belongs to group j mod groups.
        parity: parity shards of each group.
    """

    size: int
    shard: int
    groups: int
    parity: int

    @property
    def shards(self) -> int:
        """Number of data shards."""
        return -(-self.size // self.shard)

    @property
    def group(self) -> int:
        """Number of data shards in the largest group; other groups may have one fewer."""
        return -(-self.shards // self.groups)

    @property
    def records(self) -> int:
        """Number of parity records: a list of checks, the parity shards, and the list again."""
        return self.groups * self.parity + 2

    def payload(self, number: int) -> int:
        """Return the bytes of a record's payload."""
        return self.shard if 0 < number < self.records - 1 else 4 * self.shards

    def body(self, number: int, payload: bytes) -> bytes:
        """Return the body of a parity record."""
        return self._head() + struct.pack("<I", number) + payload

    def record_size(self, number: int) -> int:
        """Return the bytes of a parity record."""
        length = len(self.body(number, b"")) + self.payload(number)
        return 1 + len(varint(length)) + length + 4

    def offset(self, number: int) -> int:
        """Return where a parity record begins, in bytes from its frame's magic."""
        return len(frame_start()) + (self.record_size(0) + (number - 1) * self.record_size(1) if number else 0)

    def payload_offset(self, number: int) -> int:
        """Return where the payload of a parity record begins, in bytes from its frame's magic."""
        return self.offset(number) + self.record_size(number) - 4 - self.payload(number)

    @property
    def frame_size(self) -> int:
        """Bytes of the parity frame."""
        return self.offset(self.records - 1) + self.record_size(0) + len(END)

    @property
    def burst(self) -> int:
        """Bytes that can be lost in one piece, anywhere in the protected bytes and the parity frame."""
        return (self.groups * self.parity - 1 - self.uneven) * self.shard + 1

    @property
    def percent(self) -> int:
        """`burst` as a share of the protected bytes and the parity frame, in percent, rounded down."""
        return max(0, 100 * self.burst // (self.size + self.frame_size))

    @property
    def uneven(self) -> bool:
        """Whether a lost piece at the end of the data may touch one shard more than elsewhere.

        That can happen if the piece covers the last data shard, which may be short, and the checks after it.
        """
        return self.record_size(0) < self.shard

    def _head(self) -> bytes:
        return MARKER + varint(self.size) + varint(self.shard) + varint(self.groups) + bytes([self.parity])


def choose(size: int, percent: int) -> Layout:
    """Return a layout with which a share of the archive and its parity frame can be lost in one piece.

    Small shards are better against scattered damage, large ones cost less. Of the shard sizes that cost up to 0.5% more than the cheapest,
    the smallest is chosen.

    Args:
        size: bytes of the archive.
        percent: the share that can be lost, of archive and parity frame together.

    Raises:
        ParameterError: the percentage or the size is out of range.
    """
    if percent not in PERCENTAGES or not 1 <= size <= MAX_SIZE:
        raise ParameterError(
            f"parity must lie between {min(PERCENTAGES)} and {max(PERCENTAGES)} percent of at most {MAX_SIZE:,} bytes, not {percent} of {size:,}"
        )
    shards = [s for s in _SIZES_CHOSEN if -(-size // s) <= MAX_SHARDS] or [-(-size // MAX_SHARDS)]
    layouts = [layout for shard in shards if (layout := _with_shards(size, percent, shard))]
    least = min(size + layout.frame_size for layout in layouts)
    return next(layout for layout in layouts if 200 * (size + layout.frame_size) <= 201 * least)


def _with_shards(size: int, percent: int, shard: int) -> Layout | None:
    """Return the layout with the fewest parity shards of a given size; None if no number of them is enough."""
    shards = -(-size // shard)
    for most in range(min(_MOST_DATA, shards), 0, -1):
        groups = -(-shards // most)
        one = Layout(size, shard, groups, 1)
        step = groups * one.record_size(1)  # bytes that one more parity shard in every group adds to the parity frame
        gain = 100 * groups * shard - percent * step
        if gain <= 0:
            return None
        needed = percent * (size + one.frame_size - step) + 100 * ((1 + one.uneven) * shard - 1)
        layout = replace(one, parity=-(-needed // gain))
        if layout.group + layout.parity <= erasure.MAX_WORD:
            return layout
    return None
