"""One block through the model: the loop that encoder and decoder share, and its two ends.

Step t codes symbol t of every lane. The loop feeds the transformer as many steps as the end knows the symbols of (all
of them when encoding, one when decoding), and hands each step's logits to the end, which codes them under the adapter. After every round of steps the adapter is updated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from llmzip.adapter import Adapter, Sizes
from llmzip.adapter.ledger import Ledger
from llmzip.adapter.neighbours import State
from llmzip.compiled_rangecoder import CompiledRangeDecoder, CompiledRangeEncoder
from llmzip.errors import NotEnoughMemoryError
from llmzip.lanes import LaneLayout
from llmzip.parameters import AdapterParameters

if TYPE_CHECKING:
    from llmzip.engine.transformer import Transformer

Progress = Callable[[int], None]  # called with the number of symbols just coded
ENCODER_ROWS = 512  # tokens the encoder puts through the transformer at once ...
ENCODER_STEPS = 32  # ... and steps at least: each call reads every lane's keys and values
HEAD_ROWS = 64  # tokens whose logits are held at once, where no round ends before


class _End(Protocol):
    grid: NDArray[np.int32]  # [lanes, steps]: symbols known so far
    adapter: Adapter

    def known(self, step: int) -> int:
        """From `step` on, for how many steps the symbols before them are known."""
        ...

    def code(self, step: int, lanes: int, logits: NDArray[np.float32], state: State | None) -> None:
        """Codes consecutive steps from `step` on; logits float32 [steps * lanes, vocab], rows in step order."""
        ...


class _Encoding:
    def __init__(self, layout: LaneLayout, grid: NDArray[np.int32], adapter: Adapter) -> None:
        self.grid, self.adapter, self._steps = grid, adapter, layout.steps
        self.coder = CompiledRangeEncoder(layout.lanes)

    def known(self, step: int) -> int:
        return self._steps - step

    def code(self, step: int, lanes: int, logits: NDArray[np.float32], state: State | None) -> None:
        steps = len(logits) // lanes
        symbols = np.ascontiguousarray(self.grid[:lanes, step : step + steps].T).reshape(-1)
        start, freq = self.adapter.intervals(logits, state, symbols)
        self.coder.encode_steps(start.reshape(steps, lanes), freq.reshape(steps, lanes))


class _Decoding:
    def __init__(self, layout: LaneLayout, stream: bytes, adapter: Adapter) -> None:
        self.grid = np.zeros((layout.lanes, layout.steps), dtype=np.int32)
        self.adapter = adapter
        self.coder = CompiledRangeDecoder(layout.lanes, stream)

    def known(self, step: int) -> int:
        return 1

    def code(self, step: int, lanes: int, logits: NDArray[np.float32], state: State | None) -> None:
        symbols, start, freq = self.adapter.find(logits, state, self.coder.targets(lanes))
        self.coder.advance(start, freq)
        self.grid[:lanes, step] = symbols


class BlockCoder:
    """Codes blocks of symbols under one model.

    Args:
        transformer: the model on its device.
        alphabet: number of symbols; those from the model's vocabulary on are raw bytes.
        window, sinks: see `engine.cache.KVCache`; both affect every probability.
        adapter, near: see `parameters.Level`; these, too.
        rows: tokens the encoder feeds at once, chosen if None; any number gives the same bits.
    """

    def __init__(
        self, transformer: Transformer, alphabet: int, window: int, sinks: int, adapter: AdapterParameters, near: bool = True,
        threads: int = 1, rows: int | None = None,
    ) -> None:  # fmt: skip
        self._transformer, self._alphabet, self._adapter = transformer, alphabet, adapter
        self._window, self._sinks, self._near, self._threads, self._rows = window, sinks, near, threads, rows

    def encode(self, symbols: NDArray[np.int32], lanes: int, progress: Progress | None = None, ledger: Ledger | None = None) -> bytes:
        """The bitstream of `symbols`, int32 [n], n >= lanes >= 1; what the bits are spent on goes to `ledger`.

        Raises:
            NotEnoughMemoryError: for so many lanes.
        """
        layout = LaneLayout(len(symbols), lanes)
        self._check_memory(layout, self._chunk(layout), "--lanes {} would fit")
        end = _Encoding(layout, layout.to_grid(symbols), self._make_adapter(layout, ledger))
        self._run(layout, end, progress)
        return end.coder.finish()

    def decode(self, stream: bytes, symbols: int, lanes: int, progress: Progress | None = None) -> NDArray[np.int32]:
        """The inverse of `encode`; damaged streams give wrong symbols, never an error.

        Raises:
            NotEnoughMemoryError: for so many lanes.
        """
        layout = LaneLayout(symbols, lanes)
        self._check_memory(layout, 1, "the archive's lanes cannot be changed, so decode it where more memory is free")
        end = _Decoding(layout, stream, self._make_adapter(layout))
        self._run(layout, end, progress)
        return layout.from_grid(end.grid)

    def _make_adapter(self, layout: LaneLayout, ledger: Ledger | None = None) -> Adapter:
        config = self._transformer.config
        sizes = Sizes(config.vocab, self._alphabet, config.width, layout.lanes, layout.symbols)
        return Adapter(self._adapter, sizes, self._threads, ledger)

    def _chunk(self, layout: LaneLayout) -> int:
        """Steps the encoder feeds at once."""
        if self._rows is None:
            return max(ENCODER_STEPS, ENCODER_ROWS // layout.lanes)
        return max(1, self._rows // layout.lanes)

    def _check_memory(self, layout: LaneLayout, chunk: int, advice: str) -> None:
        needed, free = self._transformer.memory(layout.lanes, self._window, layout.steps, min(chunk, layout.steps), self._near)
        if free is not None and needed > free:
            fitting = layout.lanes * free // needed
            if not fitting:
                advice = "not even one lane fits, so free some"
            sizes = f"{layout.lanes} lanes need {needed / 1e6:,.0f} MB for keys and values, and {free / 1e6:,.0f} MB are free"
            raise NotEnoughMemoryError(f"{sizes}; {advice.format(fitting)}")

    def _run(self, layout: LaneLayout, end: _End, progress: Progress | None) -> None:
        transformer = self._transformer
        chunk = self._chunk(layout)
        cache = transformer.cache(layout.lanes, self._window, self._sinks, layout.steps, min(chunk, end.known(0)), self._near)
        step = 0
        while step < layout.steps:
            lanes = layout.active(step)
            last = layout.full_steps if step < layout.full_steps else layout.steps
            steps = min(end.known(step), chunk, last - step)
            hidden = transformer.advance(self._inputs(end.grid[:lanes], step, steps), cache)
            rows = np.arange(lanes * steps).reshape(lanes, steps).T  # step order, from lane-major order
            first = 0
            while first < steps:
                some = min(self._until_update(end.adapter, step + first, lanes), steps - first)
                part = hidden.at(np.ascontiguousarray(rows[first : first + some]).reshape(-1))
                state = State(part.q.cpu().numpy(), part.scale.cpu().numpy()) if end.adapter.learns else None
                end.code(step + first, lanes, transformer.logits(part), state)
                first += some
                if end.adapter.learns and (step + first) % end.adapter.steps == 0:
                    end.adapter.update()
            step += steps
            if progress:
                progress(lanes * steps)

    @staticmethod
    def _until_update(adapter: Adapter, step: int, lanes: int) -> int:
        """Steps from `step` on to code together."""
        return adapter.steps - step % adapter.steps if adapter.learns else max(1, HEAD_ROWS // lanes)

    def _inputs(self, grid: NDArray[np.int32], step: int, steps: int) -> NDArray[np.int32]:
        """The tokens before the symbols of `steps` steps: [lanes, steps]. Raw bytes look like the start token."""
        config = self._transformer.config
        before = (
            grid[:, step - 1 : step + steps - 1] if step else np.pad(grid[:, : steps - 1], ((0, 0), (1, 0)), constant_values=config.bos)
        )
        return np.where(before < config.vocab, before, config.bos).astype(np.int32)
