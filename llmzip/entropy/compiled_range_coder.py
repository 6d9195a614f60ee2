"""The range coder of `range_coder`, compiled: the same bits without a dozen array operations a step."""

from __future__ import annotations

import numpy as np

from llmzip.entropy.kernels import range_coder as kernels
from llmzip.entropy.range_coder import STATE_BITS, Lanes, RangeDecoder, RangeEncoder


class CompiledRangeEncoder(RangeEncoder):
    """`RangeEncoder`, many steps a call."""

    def encode_steps(self, start: Lanes, freq: Lanes) -> None:
        """See `RangeEncoder.encode_steps`."""
        out, shifts = np.empty_like(start), np.empty_like(start)
        kernels.encode(self._low, self.range, start, freq, out, shifts)
        self._steps.append((out, shifts))
        self._bits += int(shifts.sum())

    def encode(self, start: Lanes, freq: Lanes) -> None:
        """See `RangeEncoder.encode`."""
        self.encode_steps(start[None], freq[None])

    def finish(self) -> bytes:
        """See `RangeEncoder.finish`."""
        lanes, steps = len(self.range), sum(len(out) for out, _ in self._steps)
        values, counts = (np.zeros((lanes, steps + 1), np.int64) for _ in range(2))
        carry = np.zeros(lanes, np.int64)
        last = self._last()[None], np.full((1, lanes), STATE_BITS, np.int64)
        end = steps + 1
        for out, shifts in [*self._steps, last][::-1]:
            kernels.propagate(carry, out, shifts)
            first, n = end - len(out), out.shape[1]
            values[:n, first:end], counts[:n, first:end] = out.T, shifts.T
            end = first
        stream = np.zeros(int(counts.sum()) // 8 + 1, np.uint8)
        kernels.interleave(values, counts, lanes, stream)
        return stream.tobytes().rstrip(b"\0")


class CompiledRangeDecoder(RangeDecoder):
    """`RangeDecoder`, one call each way a step."""

    def targets(self, lanes: int) -> Lanes:
        """See `RangeDecoder.targets`."""
        out = np.empty(lanes, np.int64)
        kernels.targets(self._code, self.range, out)
        return out

    def advance(self, start: Lanes, freq: Lanes) -> None:
        """See `RangeDecoder.advance`."""
        self._position = kernels.advance(self._code, self.range, start, freq, self._stream, self._position, self._limit)
