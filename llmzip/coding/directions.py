"""The two directions of a prediction session: symbols to a range coder, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmzip.adapter.adapter import Adapter
from llmzip.coding.lanes import LaneLayout
from llmzip.engine.hidden import Hidden
from llmzip.entropy.compiled_range_coder import CompiledRangeDecoder
from llmzip.entropy.frequencies import TOTAL, Integers
from llmzip.errors import NotReproducedError


class IntervalSink(Protocol):
    """Takes the intervals of coded symbols, as a range encoder does."""

    @property
    def stream_bytes(self) -> int:
        """Bytes of the bitstream so far."""
        ...

    def encode_steps(self, start: Integers, freq: Integers) -> None:
        """Take consecutive steps: cumulative frequencies and frequencies, int64 [steps, lanes]."""
        ...


class Encoding:
    """Encodes the same symbols under one adapter or several.

    Args:
        layout: lanes and steps.
        grid: the symbols, int32 [lanes, steps].
        attempts: adapters, whose rounds are of one length, and where each one's intervals go.
    """

    def __init__(self, layout: LaneLayout, grid: NDArray[np.int32], attempts: Sequence[tuple[Adapter, IntervalSink]]) -> None:
        self.grid, self._steps, self._attempts = grid, layout.steps, attempts
        self.learns, self.round_steps = any(adapter.learns for adapter, _ in attempts), attempts[0][0].steps
        self.finished = False  # before the last step

    @property
    def stream_bytes(self) -> int:
        """Bytes of the shortest bitstream so far."""
        return min(sink.stream_bytes for _, sink in self._attempts)

    def known(self, step: int) -> int:
        """See `Direction.known`: all steps that are left."""
        return self._steps - step

    def code(self, step: int, lanes: int, logits: NDArray[np.float32], state: Hidden | None) -> None:
        """See `Direction.code`."""
        steps = len(logits) // lanes
        symbols = np.ascontiguousarray(self.grid[:lanes, step : step + steps].T).reshape(-1)
        for adapter, sink in self._attempts:
            start, freq = adapter.intervals(logits, state, symbols)
            sink.encode_steps(start.reshape(steps, lanes), freq.reshape(steps, lanes))

    def update(self) -> None:
        """See `Direction.update`."""
        for adapter, _ in self._attempts:
            adapter.update()

    def take_drawn(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """See `Direction.take_drawn`. There must be one attempt."""
        ((adapter, _),) = self._attempts
        return adapter.take_drawn()


class Decoding:
    """Decodes a bitstream.

    Args:
        layout: lanes and steps.
        stream: the bitstream.
        adapter: the one that the encoder chose.
    """

    def __init__(self, layout: LaneLayout, stream: bytes, adapter: Adapter) -> None:
        self.grid = np.zeros((layout.lanes, layout.steps), dtype=np.int32)
        self._adapter, self._layout = adapter, layout
        self.learns, self.round_steps = adapter.learns, adapter.steps
        self.finished = False  # before the last step
        self._coder = CompiledRangeDecoder(layout.lanes, stream)

    @property
    def stream_bytes(self) -> int:
        """Bytes of the bitstream read so far."""
        return self._coder.stream_bytes

    def known(self, step: int) -> int:
        """See `Direction.known`: the next step alone."""
        return 1

    def code(self, step: int, lanes: int, logits: NDArray[np.float32], state: Hidden | None) -> None:
        """See `Direction.code`. Raise NotReproducedError where no encoder goes."""
        targets = self._coder.targets(lanes)
        if (targets >= TOTAL).any():
            raise NotReproducedError(f"noticed by symbol {step * self._layout.lanes + 1:,} of {self._layout.symbols:,} of a block")
        symbols, start, freq = self._adapter.find(logits, state, targets)
        self._coder.advance(start, freq)
        self.grid[:lanes, step] = symbols

    def update(self) -> None:
        """See `Direction.update`."""
        self._adapter.update()

    def take_drawn(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """See `Direction.take_drawn`."""
        return self._adapter.take_drawn()
