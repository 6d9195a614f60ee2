"""How a parity frame and what it protects are cut into shards, groups and records. docs/format.md is the specification."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from llmzip.archive.parity import erasure
from llmzip.archive.records import WholeCheck, encode_record, frame_start
from llmzip.archive.wire import varint
from llmzip.errors import ParameterError
from llmzip.parameters import PERCENTAGES

MARKER = b"\xf5RSP"  # begins the body of every record, so that it can be found in a damaged file
SHARD_SIZES = range(16, (1 << 16) + 1)  # bytes
MAX_SHARDS = 1 << 20  # of data
MAX_SIZE = MAX_SHARDS << 16  # bytes protected
_MOST_DATA = 200  # data shards of a group: more take long and gain nothing
_SIZES_CHOSEN = [1 << bits for bits in range(5, 11)]  # of shards
END = encode_record(WholeCheck().record())


@dataclass(frozen=True)
class Layout:
    """How a parity frame and what it protects are cut.

    Attributes:
        size: bytes protected.
        shard: bytes of a shard; the last data shard is filled up with zeros.
        groups: shard j, data first, then parity, belongs to group j mod groups.
        parity: parity shards of each group.
    """

    size: int
    shard: int
    groups: int
    parity: int

    @property
    def shards(self) -> int:
        """Data shards."""
        return -(-self.size // self.shard)

    @property
    def group(self) -> int:
        """Data shards of the largest group; others may have one less."""
        return -(-self.shards // self.groups)

    @property
    def records(self) -> int:
        """Parity records: a list of checks, the parity shards, and the list again."""
        return self.groups * self.parity + 2

    def payload(self, number: int) -> int:
        """Length of what a record holds besides the layout."""
        return self.shard if 0 < number < self.records - 1 else 4 * self.shards

    def body(self, number: int, payload: bytes) -> bytes:
        """Body of a parity record."""
        return self._head() + struct.pack("<I", number) + payload

    def record_size(self, number: int) -> int:
        """Bytes of a parity record."""
        length = len(self.body(number, b"")) + self.payload(number)
        return 1 + len(varint(length)) + length + 4

    def offset(self, number: int) -> int:
        """Where a parity record begins, counted from its frame's magic."""
        return len(frame_start()) + (self.record_size(0) + (number - 1) * self.record_size(1) if number else 0)

    def payload_offset(self, number: int) -> int:
        """Where the payload of a parity record begins, counted from its frame's magic."""
        return self.offset(number) + self.record_size(number) - 4 - self.payload(number)

    @property
    def frame_size(self) -> int:
        """Bytes of the parity frame."""
        return self.offset(self.records - 1) + self.record_size(0) + len(END)

    @property
    def burst(self) -> int:
        """Bytes that can be lost in one piece, wherever it lies in what is protected and the parity frame."""
        return (self.groups * self.parity - 1 - self.uneven) * self.shard + 1

    @property
    def percent(self) -> int:
        """The same as a share of both together, rounded down."""
        return max(0, 100 * self.burst // (self.size + self.frame_size))

    @property
    def uneven(self) -> bool:
        """Whether a piece over the last data shard, if that is short, and the checks after it may touch a shard more than elsewhere."""
        return self.record_size(0) < self.shard

    def _head(self) -> bytes:
        return MARKER + varint(self.size) + varint(self.shard) + varint(self.groups) + bytes([self.parity])


def choose(size: int, percent: int) -> Layout:
    """The layout for an archive of `size` bytes, so that `percent` percent of it and the parity frame can be lost in one piece.

    Small shards serve scattered damage better, large ones cost less: of the sizes up to 0.5% above the cheapest, the smallest is taken.

    Raises:
        ParameterError: of the percentage or the size.
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
    """The layout with the fewest parity shards of this size; None if no number is enough."""
    shards = -(-size // shard)
    for most in range(min(_MOST_DATA, shards), 0, -1):
        groups = -(-shards // most)
        one = Layout(size, shard, groups, 1)
        step = groups * one.record_size(1)  # bytes of the parity frame for each parity shard of every group
        gain = 100 * groups * shard - percent * step
        if gain <= 0:
            return None
        needed = percent * (size + one.frame_size - step) + 100 * ((1 + one.uneven) * shard - 1)
        layout = replace(one, parity=-(-needed // gain))
        if layout.group + layout.parity <= erasure.MAX_WORD:
            return layout
    return None
