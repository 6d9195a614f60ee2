"""What the bodies of records are made of: integers, and the parameters of what learns.

docs/format.md is the specification.
"""

from __future__ import annotations

import struct

from llmzip.errors import DamagedArchiveError, UnsupportedArchiveError
from llmzip.parameters import FROZEN, AdapterParameters, BiasParameters, NeighbourParameters

MAX_ROUND = 4096  # symbols
CAPACITY_BITS = range(4, 21)  # of neighbours
FLAG_BIAS, FLAG_NEIGHBOURS, FLAG_FAR = 1, 2, 4  # of a model record

DAMAGED = "the archive is damaged or cut short; get another copy"


def varint(value: int) -> bytes:
    """Unsigned LEB128: 7 bits a byte, lowest first, the high bit set on all but the last."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Cursor:
    """Takes fields off a record's body; any shortage means damage."""

    def __init__(self, body: bytes) -> None:
        self._body, self._at = body, 0

    @property
    def left(self) -> int:
        """Bytes not taken yet."""
        return len(self._body) - self._at

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        if self._at + n > len(self._body):
            raise DamagedArchiveError(DAMAGED)
        self._at += n
        return self._body[self._at - n : self._at]

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._body) - self._at)

    def varint(self, limit: int) -> int:
        """A varint of at most `limit`."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                if not byte and shift > 7:  # only the shortest form is allowed
                    raise DamagedArchiveError(DAMAGED)
                break
            if shift > 63:
                raise DamagedArchiveError(DAMAGED)
        if value > limit:
            raise DamagedArchiveError(DAMAGED)
        return value

    def word(self) -> int:
        """Four bytes, little endian."""
        return int(struct.unpack("<I", self.take(4))[0])

    def end(self) -> None:
        """Fails unless all was taken."""
        if self._at != len(self._body):
            raise DamagedArchiveError(DAMAGED)


def encode_flagged(a: AdapterParameters, local: bool) -> bytes:
    """Flags, then the parameters of the parts that are switched on."""
    out = bytes([(FLAG_BIAS if a.bias else 0) | (FLAG_NEIGHBOURS if a.neighbours else 0) | (0 if local else FLAG_FAR)])
    if a.bias or a.neighbours:
        out += varint(a.round_symbols)
    if a.bias:
        out += bytes([a.bias.rate, a.bias.prior])
    if a.neighbours:
        out += bytes([a.neighbours.capacity_bits, a.neighbours.sharpness])
    return out


def decode_flagged(c: Cursor) -> tuple[AdapterParameters, bool]:
    """The adapter's parameters, and whether local-attention heads keep their short window.

    Raises:
        UnsupportedArchiveError, DamagedArchiveError.
    """
    flags = c.take(1)[0]
    if flags & ~(FLAG_BIAS | FLAG_NEIGHBOURS | FLAG_FAR):
        raise UnsupportedArchiveError("the archive was made in a way of predicting this llmzip does not know; use a newer llmzip")
    local = not flags & FLAG_FAR
    if not flags & (FLAG_BIAS | FLAG_NEIGHBOURS):
        return FROZEN, local
    symbols = c.varint(MAX_ROUND)
    bias = neighbours = None
    if flags & FLAG_BIAS:
        bias = BiasParameters(*c.take(2))
        if not bias.rate or not bias.prior:
            raise DamagedArchiveError(DAMAGED)
    if flags & FLAG_NEIGHBOURS:
        neighbours = NeighbourParameters(*c.take(2))
        if neighbours.capacity_bits not in CAPACITY_BITS or not neighbours.sharpness:
            raise DamagedArchiveError(DAMAGED)
    if not symbols:
        raise DamagedArchiveError(DAMAGED)
    return AdapterParameters(symbols, bias, neighbours), local
