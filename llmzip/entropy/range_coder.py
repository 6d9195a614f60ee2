"""A 32-bit integer range coder for many lanes that advance together, with one interleaved bitstream.

The classic range coder (G. N. N. Martin, 1979), renormalised by bits: a lane's interval is [low, low + range) with
2^31 <= range < 2^32 between steps. Coding a symbol of cumulative frequency c and frequency f, of a total of 2^TOTAL_BITS,
narrows it to

    low + floor(range * c / total), range' = floor(range * (c + f) / total) - floor(range * c / total),

then shifts by the n bits that bring range' back above 2^31. The decoder keeps code - low, so it never sees `low`.

Lanes share one stream. Bits lie in the order in which the decoder asks for them: 32 bits for each lane, then after each step the n bits of
each lane, in the order of lanes. Zeros at the end are left out, and the decoder reads zeros past the end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmzip.entropy.frequencies import TOTAL_BITS

STATE_BITS = 32
_MASK = (1 << STATE_BITS) - 1

Lanes = NDArray[np.int64]  # one value a lane


class _RangeCoder:
    """The width of the interval, which encoder and decoder narrow in the same way.

    Invariants between steps: 2^31 <= range < 2^32 in every lane; products stay below 2^60.
    """

    def __init__(self, lanes: int) -> None:
        self.range = np.full(lanes, _MASK, dtype=np.int64)

    def _narrow(self, start: Lanes, freq: Lanes) -> tuple[Lanes, Lanes]:
        """Narrows the first len(start) lanes; returns how far each low end moves and its shift in bits."""
        active = self.range[: len(start)]
        below = (active * start) >> TOTAL_BITS
        width = ((active * (start + freq)) >> TOTAL_BITS) - below
        shift = STATE_BITS - np.frexp(width.astype(np.float64))[1].astype(np.int64)  # exponent: the bit length, exactly
        np.left_shift(width, shift, out=active)
        return below, shift


class RangeEncoder(_RangeCoder):
    """Collects the intervals of symbols; `finish` gives the bitstream."""

    def __init__(self, lanes: int) -> None:
        super().__init__(lanes)
        self._low = np.zeros(lanes, dtype=np.int64)  # 0 <= low < 2^32
        self._steps: list[tuple[Lanes, Lanes]] = []  # the bits shifted out, bit n being a carry; their number n
        self._bits = 0  # shifted out

    @property
    def stream_bytes(self) -> int:
        """Bytes of the bitstream so far, about."""
        return self._bits >> 3

    def encode(self, start: Lanes, freq: Lanes) -> None:
        """Code one symbol in each of the first len(start) lanes."""
        below, shift = self._narrow(start, freq)
        low = self._low[: len(start)]
        low += below
        out = low >> (STATE_BITS - shift)
        low <<= shift
        low &= _MASK
        self._steps.append((out, shift))
        self._bits += int(shift.sum())

    def encode_steps(self, start: Lanes, freq: Lanes) -> None:
        """Code consecutive steps, int64 [steps, lanes]."""
        for s, f in zip(start, freq, strict=True):
            self.encode(s, f)

    def _last(self) -> Lanes:
        """The last bits of each lane: any value inside the interval will do, so the one with most trailing zeros."""
        half = 1 << (STATE_BITS - 1)
        last: Lanes = (self._low + (half - 1)) & -half
        return last

    def finish(self) -> bytes:
        """The bitstream of all lanes, without trailing zero bytes."""
        lanes = len(self.range)
        steps: list[tuple[Lanes, Lanes]] = [*self._steps, (self._last(), np.full(lanes, STATE_BITS, dtype=np.int64))]
        carry = np.zeros(lanes, dtype=np.int64)
        values = np.zeros((len(steps), lanes), dtype=np.int64)
        counts = np.zeros((len(steps), lanes), dtype=np.int64)
        for t in range(len(steps) - 1, -1, -1):
            out, shift = steps[t]
            n = len(out)
            whole = out + carry[:n]
            carry[:n] = whole >> shift
            values[t, :n], counts[t, :n] = whole & ((1 << shift) - 1), shift
        # Requests in the decoder's order: 32 bits a lane first, then what each step shifts.
        requests = np.concatenate([counts[-1:], counts[:-1]])
        offsets = np.cumsum(requests.reshape(-1)).reshape(requests.shape) - requests
        stream = np.zeros(int(requests.sum()), dtype=np.uint8)
        for lane in range(lanes):
            sizes, v = counts[:, lane], values[:, lane]
            ends = np.cumsum(sizes)
            index = np.arange(ends[-1])
            bits = (np.repeat(v, sizes) >> (np.repeat(ends, sizes) - 1 - index)) & 1
            m = requests[:, lane]
            begin = np.cumsum(m) - m
            stream[np.repeat(offsets[:, lane] - begin, m) + index] = bits
        return np.packbits(stream).tobytes().rstrip(b"\0")


class RangeDecoder(_RangeCoder):
    """Reads symbols back. Any bytes decode to something, so content is checked elsewhere."""

    def __init__(self, lanes: int, stream: bytes) -> None:
        super().__init__(lanes)
        self._stream = np.frombuffer(stream + b"\0" * 8, dtype=np.uint8).astype(np.int64)
        self._limit = 8 * len(stream)
        self._position = 0  # in bits
        self._code = self._read(np.full(lanes, STATE_BITS, dtype=np.int64))  # code - low, 0 <= it < range

    @property
    def stream_bytes(self) -> int:
        """Bytes of the bitstream read so far."""
        return min(self._position, self._limit) >> 3

    def targets(self, lanes: int) -> Lanes:
        """A cumulative frequency inside the symbol's interval, for each of the first `lanes` lanes."""
        code, width = self._code[:lanes], self.range[:lanes]
        inside: Lanes = (((code + 1) << TOTAL_BITS) - 1) // width
        return np.minimum(inside, (1 << TOTAL_BITS) - 1)

    def advance(self, start: Lanes, freq: Lanes) -> None:
        """Remove one symbol from each of the first len(start) lanes."""
        below, shift = self._narrow(start, freq)
        code = self._code[: len(start)]
        code -= below
        code <<= shift
        code |= self._read(shift)
        code &= _MASK  # only damage makes it longer

    def _read(self, counts: Lanes) -> Lanes:
        """The next counts[i] <= 32 bits for each lane, as integers."""
        ends = np.cumsum(counts)
        at = np.minimum(self._position + ends - counts, self._limit)  # past the end there are only zeros
        self._position += int(ends[-1])
        byte, s = at >> 3, self._stream
        window = s[byte] << 32 | s[byte + 1] << 24 | s[byte + 2] << 16 | s[byte + 3] << 8 | s[byte + 4]
        value: Lanes = (window >> (40 - (at & 7) - counts)) & ((1 << counts) - 1)
        return value
