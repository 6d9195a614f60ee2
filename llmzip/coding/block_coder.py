"""The symbols of one block to a bitstream and back: makes the lanes, the adapters and the range coder, and runs a prediction session with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmzip.adapter.adapter import Adapter, Sizes
from llmzip.adapter.observer import Observer
from llmzip.coding.directions import Decoding, Encoding
from llmzip.coding.guesses import Guesses
from llmzip.coding.lanes import LaneLayout
from llmzip.coding.session import Direction, PredictionSession, Progress, logit_bytes, positions
from llmzip.entropy.compiled_range_coder import CompiledRangeEncoder
from llmzip.errors import NotEnoughMemoryError
from llmzip.learning import learner
from llmzip.parameters import AdapterParameters, AttentionSpan

if TYPE_CHECKING:
    from llmzip.engine.engine import Engine

ENCODER_ROWS = 512  # tokens the encoder puts through the transformer at once ...
ENCODER_STEPS = 32  # ... and steps at least: each call reads every lane's keys and values
_SYMBOL_BYTES = 48  # memory of one symbol, about, outside the model and the adapter; the same in both directions


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """Turn a failed allocation into NotEnoughMemoryError. Where the free memory is unknown, no check before can do that."""
    try:
        yield
    except (MemoryError, RuntimeError) as e:
        if isinstance(e, RuntimeError) and "allocate" not in str(e):  # torch's word for it, on any device
            raise
        raise NotEnoughMemoryError("a block needs more memory than this process can have; free or allow it more") from e


def _runs(adapters: Iterable[AdapterParameters]) -> list[list[AdapterParameters]]:
    """Adapters that one run of the model serves: all without corrections, and each of the others."""
    plain = [a for a in adapters if not a.corrections]
    return [[a] for a in adapters if a.corrections] + ([plain] if plain else [])


class BlockCoder:
    """Codes blocks of symbols under one model.

    Args:
        transformer: the model on its device.
        alphabet: number of symbols; those from the model's vocabulary on are raw bytes.
        span: which positions attention sees; it affects every probability.
        adapter: what learns while coding; it affects every probability, too.
        rows: tokens the encoder feeds at once, chosen if None; any number gives the same bits.
        guess: whether the decoder may guess symbols, which saves time and changes no bit.
    """

    def __init__(
        self, transformer: Engine, alphabet: int, span: AttentionSpan, adapter: AdapterParameters,
        threads: int = 1, rows: int | None = None, guess: bool = True,
    ) -> None:  # fmt: skip
        self._transformer, self._alphabet, self._adapter = transformer, alphabet, adapter
        self._span, self._threads, self._rows, self.guess = span, threads, rows, guess

    def encode(self, symbols: NDArray[np.int32], lanes: int, progress: Progress | None = None, ledger: Observer | None = None) -> bytes:
        """The bitstream of `symbols`, int32 [n], n >= lanes >= 1; `ledger` observes what the bits are spent on.

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
            coders = {parameters: CompiledRangeEncoder(layout.lanes) for parameters in adapters}
            for together in _runs(adapters):
                made = [(self._make_adapter(layout, p, adapters[p]), coders[p]) for p in together]
                self._run(layout, Encoding(layout, layout.to_grid(symbols), made), together[0], self._chunk(layout), progress)
                progress = None
            return [coder.finish() for coder in coders.values()]

    def decode(self, stream: bytes, symbols: int, lanes: int, progress: Progress | None = None) -> NDArray[np.int32]:
        """The inverse of `encode`; streams that were not made by it give wrong symbols, or an error.

        Raises:
            NotEnoughMemoryError: for so many lanes.
            NotReproducedError: what an encoder never writes was met, on average after 4,096 wrong symbols.
        """
        layout = LaneLayout(symbols, lanes)
        self._check_memory(layout, 1, "the archive's lanes cannot be changed, so decode it where more memory is free")
        with _memory():
            decoding = Decoding(layout, stream, self._make_adapter(layout, self._adapter))
            self._run(layout, decoding, self._adapter, 1, progress, Guesses(decoding.grid) if self.guess else None)
            return layout.from_grid(decoding.grid)

    def _make_adapter(self, layout: LaneLayout, parameters: AdapterParameters, observer: Observer | None = None) -> Adapter:
        return Adapter(parameters, self._sizes(layout), self._threads, observer)

    def _sizes(self, layout: LaneLayout) -> Sizes:
        config = self._transformer.config
        return Sizes(config.vocab, self._alphabet, config.width, layout.lanes, layout.symbols)

    def _opening(self) -> tuple[int, ...]:
        config = self._transformer.config
        return config.opening or (config.bos,)

    def _chunk(self, layout: LaneLayout) -> int:
        """Steps the encoder feeds at once."""
        if self._rows is None:
            return max(ENCODER_STEPS, ENCODER_ROWS // layout.lanes)
        return max(1, self._rows // layout.lanes)

    def _check_memory(self, layout: LaneLayout, chunk: int, advice: str) -> None:
        steps = positions(layout, len(self._opening()))
        corrections = self._adapter.corrections
        kept = corrections.segment_steps(layout.lanes) if corrections else 0
        needed, free = self._transformer.memory(layout.lanes, self._span, steps, min(chunk, steps), kept)
        sizes = self._sizes(layout)
        fixed = Adapter.memory(self._adapter, sizes, self._threads) + logit_bytes(layout, sizes.vocab) + _SYMBOL_BYTES * layout.symbols
        if corrections:
            fixed += learner.memory(self._transformer, corrections, layout.lanes)
        if free is not None and needed + fixed > free:
            fitting = layout.lanes * (free - fixed) // needed
            if fitting < 1:
                advice = "not even one lane fits, so free some"
            have = f"{layout.lanes} lanes need {(needed + fixed) / 1e6:,.0f} MB, {needed / 1e6:,.0f} of them for keys and values, and {free / 1e6:,.0f} MB are free"
            raise NotEnoughMemoryError(f"{have}; {advice.format(fitting)}")

    def _run(
        self, layout: LaneLayout, direction: Direction, adapter: AdapterParameters, chunk: int, progress: Progress | None,
        guesses: Guesses | None = None,
    ) -> None:  # fmt: skip
        opening = np.array(self._opening(), np.int32)
        session = PredictionSession(self._transformer, opening, layout, self._span, chunk, adapter.corrections)
        session.run(direction, progress, guesses)
