"""Fields in the bodies of records: integers, and the adapter's parameters.

docs/format.md is the specification.
"""

from __future__ import annotations

import struct

from llmzip.errors import DamagedArchiveError, UnsupportedArchiveError
from llmzip.parameters import DOWN, FROZEN, GATE_UP, VALUES, AdapterParameters, BiasParameters, CorrectionParameters, NeighbourParameters

MAX_ROUND = 4096  # most symbols coded between two updates of the adapter
CAPACITY_BITS = range(4, 21)  # log2 of the number of symbols that neighbours remember
MAX_RANK = 16  # of corrections
MAX_SEGMENT = 512  # most symbols between two steps of learning, but for the lanes of one step
FLAG_BIAS, FLAG_NEIGHBOURS, FLAG_FAR, FLAG_CORRECTIONS = 1, 2, 4, 8  # flags in a model record

DAMAGED = "the archive is damaged or cut short; get another copy"


def varint(value: int) -> bytes:
    """Return a number as unsigned LEB128: 7 bits a byte, lowest first, the high bit set in all bytes but the last."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Cursor:
    """Reads fields from a record's body, one after another. Its methods raise DamagedArchiveError if a field is invalid or cut short."""

    def __init__(self, body: bytes) -> None:
        self._body, self._at = body, 0

    @property
    def left(self) -> int:
        """Number of bytes not read yet."""
        return len(self._body) - self._at

    def take(self, n: int) -> bytes:
        """Return the next n bytes."""
        if self._at + n > len(self._body):
            raise DamagedArchiveError(DAMAGED)
        self._at += n
        return self._body[self._at - n : self._at]

    def rest(self) -> bytes:
        """Return all remaining bytes."""
        return self.take(len(self._body) - self._at)

    def varint(self, limit: int) -> int:
        """Return the next varint, which must be at most `limit`."""
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
        """Return the next four bytes as an unsigned integer, little endian."""
        return int(struct.unpack("<I", self.take(4))[0])

    def end(self) -> None:
        """Raise DamagedArchiveError if bytes are left."""
        if self._at != len(self._body):
            raise DamagedArchiveError(DAMAGED)


def encode_flagged(a: AdapterParameters, local: bool) -> bytes:
    """Return the flags, followed by the parameters of the parts of the adapter that are switched on.

    Args:
        a: the adapter's parameters.
        local: whether local-attention heads keep their short window.
    """
    parts = (FLAG_BIAS if a.bias else 0) | (FLAG_NEIGHBOURS if a.neighbours else 0) | (FLAG_CORRECTIONS if a.corrections else 0)
    out = bytes([parts | (0 if local else FLAG_FAR)])
    if a.bias or a.neighbours:
        out += varint(a.round_symbols)
    if a.bias:
        out += bytes([a.bias.rate, a.bias.prior])
    if a.neighbours:
        out += bytes([a.neighbours.capacity_bits, a.neighbours.sharpness])
    if a.corrections:
        out += bytes([a.corrections.rank, a.corrections.matrices, a.corrections.rate]) + varint(a.corrections.segment)
    return out


def decode_flagged(c: Cursor) -> tuple[AdapterParameters, bool]:
    """Return the adapter's parameters, and whether local-attention heads keep their short window.

    Raises:
        UnsupportedArchiveError: a flag is unknown.
        DamagedArchiveError: a parameter is out of range.
    """
    flags = c.take(1)[0]
    if flags & ~(FLAG_BIAS | FLAG_NEIGHBOURS | FLAG_FAR | FLAG_CORRECTIONS):
        raise UnsupportedArchiveError("the archive was made in a way of predicting this llmzip does not know; use a newer llmzip")
    local = not flags & FLAG_FAR
    symbols = c.varint(MAX_ROUND) if flags & (FLAG_BIAS | FLAG_NEIGHBOURS) else FROZEN.round_symbols
    bias = neighbours = None
    if flags & FLAG_BIAS:
        bias = BiasParameters(*c.take(2))
        if not bias.rate or not bias.prior:
            raise DamagedArchiveError(DAMAGED)
    if flags & FLAG_NEIGHBOURS:
        neighbours = NeighbourParameters(*c.take(2))
        if neighbours.capacity_bits not in CAPACITY_BITS or not neighbours.sharpness:
            raise DamagedArchiveError(DAMAGED)
    corrections = _corrections(c) if flags & FLAG_CORRECTIONS else None
    if not symbols:
        raise DamagedArchiveError(DAMAGED)
    return AdapterParameters(symbols, bias, neighbours, corrections), local


def _corrections(c: Cursor) -> CorrectionParameters:
    rank, matrices, rate = c.take(3)
    segment = c.varint(MAX_SEGMENT)
    if not 1 <= rank <= MAX_RANK or not 1 <= matrices <= (VALUES | GATE_UP | DOWN) or not rate or not segment:
        raise DamagedArchiveError(DAMAGED)
    return CorrectionParameters(rank, segment, rate, matrices)
