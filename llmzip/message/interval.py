"""The interval of a message's symbols as one exact number, and the ways in which a message's bytes can name a number inside it."""

from __future__ import annotations

from llmzip.entropy.frequencies import TOTAL_BITS
from llmzip.entropy.range_coder import STATE_BITS

LENGTHS = range(4)  # how many bytes more than the least a message may have


class Interval:
    """What the symbols so far have left of the numbers from 0 to 1: [low, low + range) in units of 2^-(32 + shift).

    Invariant: 2^31 <= range < 2^32. `low` is as long as it takes.
    """

    def __init__(self) -> None:
        self.low, self.range, self.shift = 0, (1 << STATE_BITS) - 1, 0

    def narrow(self, start: int, freq: int) -> None:
        """Goes on to a symbol's part."""
        below = (self.range * start) >> TOTAL_BITS
        width = ((self.range * (start + freq)) >> TOTAL_BITS) - below
        n = STATE_BITS - width.bit_length()
        self.low, self.range, self.shift = (self.low + below) << n, width << n, self.shift + n

    def target(self, body: bytes) -> int:
        """A cumulative frequency inside the next symbol's interval, if `body` is a message's."""
        code = ((int.from_bytes(body, "big") << (STATE_BITS + self.shift)) >> (8 * len(body))) - self.low
        return max(0, min(((code + 1 << TOTAL_BITS) - 1) // self.range, (1 << TOTAL_BITS) - 1))

    def least_length(self) -> int:
        """Bytes that may be enough to name a number inside; one more always is.

        Up to two bits are left to luck. More would pay little, and a reader of rubbish would see an end after every symbol in them.
        """
        return -(-(self.shift - 1) // 8)

    def number(self, length: int) -> bytes | None:
        """The lowest number inside that has `length` bytes, if there is one."""
        scale = STATE_BITS + self.shift - 8 * length
        if length < 0 or scale < 0:
            return None
        lowest = -(-self.low >> scale)
        return lowest.to_bytes(length, "big") if lowest << scale < self.low + self.range else None

    def ends(self, body: bytes) -> bool:
        """Whether a message of the symbols so far may have been written as `body`."""
        return len(body) - self.least_length() in LENGTHS and self.number(len(body)) == body

    def past(self, body: bytes) -> bool:
        """Whether no further symbols can be `body`'s."""
        return len(body) < self.least_length()
