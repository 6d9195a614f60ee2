"""One block through the model: the loop that encoder and decoder share, and its two ends.

Step t codes symbol t of every lane. The loop feeds the transformer as many steps as the end knows the symbols of (all
of them when encoding, one when decoding), and hands each step's logits to the end, which codes them under the adapter. After every round of steps the adapter is updated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from llmzip.adapter.adapter import Adapter, Sizes
from llmzip.adapter.neighbours import State
from llmzip.adapter.observer import Observer
from llmzip.coding.lanes import LaneLayout
from llmzip.entropy.compiled_range_coder import CompiledRangeDecoder, CompiledRangeEncoder
from llmzip.entropy.frequencies import TOTAL
from llmzip.errors import NotEnoughMemoryError, NotReproducedError
from llmzip.parameters import AdapterParameters

if TYPE_CHECKING:
    from llmzip.engine.transformer import Transformer

Progress = Callable[[int, int], None]  # called with the number of symbols just coded, and the bytes of bitstream so far
ENCODER_ROWS = 512  # tokens the encoder puts through the transformer at once ...
ENCODER_STEPS = 32  # ... and steps at least: each call reads every lane's keys and values
_SYMBOL_BYTES = 48  # that a symbol takes between bytes and bits, about, either way
HEAD_ROWS = 64  # tokens whose logits are held at once, where no round ends before


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """For where it cannot be known beforehand how much there is."""
    try:
        yield
    except (MemoryError, RuntimeError) as e:
        if isinstance(e, RuntimeError) and "allocate" not in str(e):  # torch's word for it, on any device
            raise
        raise NotEnoughMemoryError("a block needs more memory than this process can have; free or allow it more") from e


class _End(Protocol):
    grid: NDArray[np.int32]  # [lanes, steps]: symbols known so far
    learns: bool
    round_steps: int  # between two calls of `update`, if anything learns

    @property
    def stream_bytes(self) -> int:
        """Bytes of the bitstream so far."""
        ...

    def known(self, step: int) -> int:
        """From `step` on, for how many steps the symbols before them are known."""
        ...

    def code(self, step: int, lanes: int, logits: NDArray[np.float32], state: State | None) -> None:
        """Codes consecutive steps from `step` on; logits float32 [steps * lanes, vocab], rows in step order."""
        ...

    def update(self) -> None:
        """Ends a round."""
        ...


class _Encoding:
    """The same symbols under one adapter or several, whose rounds are of one length."""

    def __init__(self, layout: LaneLayout, grid: NDArray[np.int32], adapters: list[Adapter]) -> None:
        self.grid, self._steps = grid, layout.steps
        self._tries = [(adapter, CompiledRangeEncoder(layout.lanes)) for adapter in adapters]
        self.learns, self.round_steps = any(adapter.learns for adapter in adapters), adapters[0].steps

    @property
    def stream_bytes(self) -> int:
        return min(coder.stream_bytes for _, coder in self._tries)

    def known(self, step: int) -> int:
        return self._steps - step

    def code(self, step: int, lanes: int, logits: NDArray[np.float32], state: State | None) -> None:
        steps = len(logits) // lanes
        symbols = np.ascontiguousarray(self.grid[:lanes, step : step + steps].T).reshape(-1)
        for adapter, coder in self._tries:
            start, freq = adapter.intervals(logits, state, symbols)
            coder.encode_steps(start.reshape(steps, lanes), freq.reshape(steps, lanes))

    def update(self) -> None:
        for adapter, _ in self._tries:
            adapter.update()

    def finish(self) -> list[bytes]:
        return [coder.finish() for _, coder in self._tries]


class _Decoding:
    def __init__(self, layout: LaneLayout, stream: bytes, adapter: Adapter) -> None:
        self.grid = np.zeros((layout.lanes, layout.steps), dtype=np.int32)
        self._adapter = adapter
        self.learns, self.round_steps = adapter.learns, adapter.steps
        self._coder = CompiledRangeDecoder(layout.lanes, stream)
        self._layout = layout

    @property
    def stream_bytes(self) -> int:
        return self._coder.stream_bytes

    def known(self, step: int) -> int:
        return 1

    def code(self, step: int, lanes: int, logits: NDArray[np.float32], state: State | None) -> None:
        targets = self._coder.targets(lanes)
        if (targets >= TOTAL).any():  # no encoder goes there
            raise NotReproducedError(f"noticed by symbol {step * self._layout.lanes + 1:,} of {self._layout.symbols:,} of a block")
        symbols, start, freq = self._adapter.find(logits, state, targets)
        self._coder.advance(start, freq)
        self.grid[:lanes, step] = symbols

    def update(self) -> None:
        self._adapter.update()


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

    def encode(self, symbols: NDArray[np.int32], lanes: int, progress: Progress | None = None, ledger: Observer | None = None) -> bytes:
        """The bitstream of `symbols`, int32 [n], n >= lanes >= 1; what the bits are spent on goes to `ledger`, any observer.

        Raises:
            NotEnoughMemoryError: for so many lanes.
        """
        return self.encode_variants(symbols, lanes, {self._adapter: ledger}, progress)[0]

    def encode_variants(
        self,
        symbols: NDArray[np.int32],
        lanes: int,
        adapters: Mapping[AdapterParameters, Observer | None],
        progress: Progress | None = None,
    ) -> list[bytes]:
        """Bitstreams of `symbols` under each of `adapters` instead of the coder's own, in little more time than one.

        Args:
            adapters: with the same `round_symbols`; and who observes each.

        Raises:
            NotEnoughMemoryError: for so many lanes.
        """
        layout = LaneLayout(len(symbols), lanes)
        self._check_memory(layout, self._chunk(layout), "--lanes {} would fit")
        with _memory():
            made = [self._make_adapter(layout, parameters, observer) for parameters, observer in adapters.items()]
            end = _Encoding(layout, layout.to_grid(symbols), made)
            self._run(layout, end, progress)
            return end.finish()

    def decode(self, stream: bytes, symbols: int, lanes: int, progress: Progress | None = None) -> NDArray[np.int32]:
        """The inverse of `encode`; streams that were not made by it give wrong symbols, or an error.

        Raises:
            NotEnoughMemoryError: for so many lanes.
            NotReproducedError: what an encoder never writes was met, on average after 4,096 wrong symbols.
        """
        layout = LaneLayout(symbols, lanes)
        self._check_memory(layout, 1, "the archive's lanes cannot be changed, so decode it where more memory is free")
        with _memory():
            end = _Decoding(layout, stream, self._make_adapter(layout, self._adapter))
            self._run(layout, end, progress)
            return layout.from_grid(end.grid)

    def _make_adapter(self, layout: LaneLayout, parameters: AdapterParameters, observer: Observer | None = None) -> Adapter:
        return Adapter(parameters, self._sizes(layout), self._threads, observer)

    def _sizes(self, layout: LaneLayout) -> Sizes:
        config = self._transformer.config
        return Sizes(config.vocab, self._alphabet, config.width, layout.lanes, layout.symbols)

    def _opening(self) -> tuple[int, ...]:
        config = self._transformer.config
        return config.opening or (config.bos,)

    def _positions(self, layout: LaneLayout) -> int:
        """Tokens a lane is fed."""
        return layout.steps + len(self._opening()) - 1

    def _chunk(self, layout: LaneLayout) -> int:
        """Steps the encoder feeds at once."""
        if self._rows is None:
            return max(ENCODER_STEPS, ENCODER_ROWS // layout.lanes)
        return max(1, self._rows // layout.lanes)

    def _check_memory(self, layout: LaneLayout, chunk: int, advice: str) -> None:
        steps = self._positions(layout)
        needed, free = self._transformer.memory(layout.lanes, self._window, steps, min(chunk, steps), self._near)
        fixed = Adapter.memory(self._adapter, self._sizes(layout)) + _SYMBOL_BYTES * layout.symbols
        if free is not None and needed + fixed > free:
            fitting = layout.lanes * (free - fixed) // needed
            if fitting < 1:
                advice = "not even one lane fits, so free some"
            sizes = f"{layout.lanes} lanes need {(needed + fixed) / 1e6:,.0f} MB, {needed / 1e6:,.0f} of them for keys and values, and {free / 1e6:,.0f} MB are free"
            raise NotEnoughMemoryError(f"{sizes}; {advice.format(fitting)}")

    def _run(self, layout: LaneLayout, end: _End, progress: Progress | None) -> None:
        transformer = self._transformer
        chunk = self._chunk(layout)
        opening = self._opening()
        cache = transformer.cache(
            layout.lanes, self._window, self._sinks, self._positions(layout), max(min(chunk, end.known(0)), len(opening)), self._near
        )
        if len(opening) > 1:
            transformer.advance(np.tile(np.array(opening[:-1], np.int32), (layout.lanes, 1)), cache)
        step = 0
        while step < layout.steps:
            lanes = layout.active(step)
            last = layout.full_steps if step < layout.full_steps else layout.steps
            steps = min(end.known(step), chunk, last - step)
            hidden = transformer.advance(self._inputs(end.grid[:lanes], step, steps), cache)
            rows = np.arange(lanes * steps).reshape(lanes, steps).T  # step order, from lane-major order
            first = 0
            while first < steps:
                some = min(self._until_update(end, step + first, lanes), steps - first)
                part = hidden.at(np.ascontiguousarray(rows[first : first + some]).reshape(-1))
                state = State(part.q.cpu().numpy(), part.scale.cpu().numpy()) if end.learns else None
                end.code(step + first, lanes, transformer.logits(part), state)
                first += some
                if end.learns and (step + first) % end.round_steps == 0:
                    end.update()
            step += steps
            if progress:
                progress(lanes * steps, end.stream_bytes)

    @staticmethod
    def _until_update(end: _End, step: int, lanes: int) -> int:
        """Steps from `step` on to code together."""
        return end.round_steps - step % end.round_steps if end.learns else max(1, HEAD_ROWS // lanes)

    def _inputs(self, grid: NDArray[np.int32], step: int, steps: int) -> NDArray[np.int32]:
        """The tokens before the symbols of `steps` steps: [lanes, steps]. Raw bytes look like `bos`."""
        config, last = self._transformer.config, self._opening()[-1]
        before = grid[:, step - 1 : step + steps - 1] if step else np.pad(grid[:, : steps - 1], ((0, 0), (1, 0)), constant_values=last)
        return np.where(before < config.vocab, before, config.bos).astype(np.int32)
