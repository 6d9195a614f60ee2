"""Forecasts how long decoding will take on this machine, by timing a few steps before it begins.

The time of a step has three parts. Matrix products always take the same. Attention grows with the positions seen, up to the window. Votes of
neighbours grow with the symbols kept, up to their capacity. So steps are timed as at the beginning of a block and as at its end, with caches
that are filled for the purpose, and the time between is interpolated. Tokens are random, since votes among equal states would take less than
among real ones. The time is taken to grow in proportion to the lanes.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from llmzip.adapter.adapter import Adapter, Sizes
from llmzip.archive.records import ModelRecord
from llmzip.codec.any_model import LoadedModel, Shape
from llmzip.coding.lanes import LaneLayout
from llmzip.engine.hidden import Hidden
from llmzip.entropy.frequencies import DRAWS, TOTAL
from llmzip.learning import learner
from llmzip.parameters import AttentionSpan

_STEPS, _MOST_STEPS = 3, 48  # that are timed, after one that is not, ...
_SECONDS = 0.08  # ... until they took so long, so that it shows if the machine does something else as well
_LANES, _FULL_LANES = 32, 8  # at most, with empty caches and with full ones; from here on twice the lanes take twice the time
_POSITIONS = 2048  # that attention is timed with at most ...
_KEPT = 1 << 16  # ... and symbols kept
_BYTES = 1 << 28  # that a cache may take for it
_SPARE = 128  # positions it is made larger
_LESSONS = 3  # steps of learning that are timed
_STATES = 64  # different ones of the symbols kept

_log = logging.getLogger(__name__)


class _Times(NamedTuple):
    """Seconds of a step: of the transformer, and of all else."""

    advance: float
    code: float


class Forecast:
    """Of blocks that `loaded` will decode as `model` says.

    Attributes:
        clock: gives the seconds that are spent.
    """

    def __init__(self, loaded: LoadedModel, model: ModelRecord) -> None:
        self.clock: Callable[[], float] = time.perf_counter
        self._transformer, self._alphabet, self._model = loaded.transformer, loaded.alphabet.size, model

    def seconds(self, shapes: Iterable[Shape]) -> float:
        """About how long these blocks will take. Takes a fraction of a second for each order of magnitude of lanes."""
        start = self.clock()
        groups: dict[int, list[Shape]] = {}
        for shape in shapes:
            groups.setdefault(shape.lanes.bit_length(), []).append(shape)
        seconds = 0.0
        for group in groups.values():
            largest = max(group)
            seconds += (self._block(*largest) + self._learning(*largest)) / largest.symbols * sum(shape.symbols for shape in group)
        _log.info("decoding is expected to take %.1f s, which took %.2f s to find out", seconds, self.clock() - start)
        return seconds

    def _block(self, symbols: int, lanes: int) -> float:
        model, steps = self._model, LaneLayout(symbols, lanes).steps
        first = min(lanes, _LANES)
        flat = self._times(first, 0, 0)
        last = self._lanes_in_memory(first)
        before = flat if last == first else self._times(last, 0, 0)
        positions, capacity = min(steps, model.span.window), 1 << model.adapter.neighbours.capacity_bits if model.adapter.neighbours else 0
        kept = min(symbols, capacity)
        after = self._times(last, min(positions, _POSITIONS), min(kept, _KEPT))
        attention = max(0.0, after.advance - before.advance) * positions / min(positions, _POSITIONS)
        votes = max(0.0, after.code - before.code) * kept / max(1, min(kept, _KEPT))
        growth = attention * _mean(steps, model.span.window) + votes * _mean(steps, capacity / lanes)
        return steps * lanes * (sum(flat) / first + growth / last)

    def _learning(self, symbols: int, lanes: int) -> float:
        """Seconds that learning corrections takes: a few steps are timed, after a segment of random symbols."""
        parameters = self._model.adapter.corrections
        if not parameters:
            return 0.0
        lanes = min(lanes, _LANES)
        steps = parameters.segment_steps(lanes)
        mine, rows = self._transformer, lanes * steps
        cache = mine.cache(lanes, replace(self._model.span, window=steps), steps, steps, steps)
        learning = learner.make(mine, parameters, cache, lanes)
        random = np.random.default_rng(2)
        mine.advance(random.integers(mine.config.vocab, size=(lanes, steps), dtype=np.int32), cache, learning.corrections)
        drawn = random.integers(mine.config.vocab, size=(rows, DRAWS), dtype=np.int32)
        times = []
        for _ in range(_LESSONS):
            start = self.clock()
            learning.step(drawn, drawn[:, 0])
            times.append(self.clock() - start)
        return min(times) * symbols / rows

    def _lanes_in_memory(self, lanes: int) -> int:
        """How many of the lanes are timed with caches that are full."""
        needed = self._transformer.memory(1, *self._extent(_POSITIONS), 1)[0]
        return max(1, min(lanes, _FULL_LANES, _BYTES // needed))

    def _extent(self, position: int) -> tuple[AttentionSpan, int]:
        """Attention span and steps of a cache for timing steps from a position on."""
        span = self._model.span
        return replace(span, window=min(span.window, _POSITIONS)), position + _SPARE

    def _times(self, lanes: int, position: int, kept: int) -> _Times:
        """Of steps of so many lanes after so many positions, and symbols of the block."""
        model, transformer, config = self._model, self._transformer, self._transformer.config
        span, positions = self._extent(position)
        cache = transformer.cache(lanes, span, positions, 1)
        total = kept + lanes * (_MOST_STEPS + 1)
        adapter = Adapter(model.adapter, Sizes(config.vocab, self._alphabet, config.width, lanes, total), transformer.threads)
        if position:
            cache.fill_for_timing(position)
        if kept and adapter.neighbours:
            adapter.neighbours.fill_for_timing(kept, self._states())
        random, targets = np.random.default_rng(0), np.full(lanes, TOTAL // 2, np.int64)
        room = np.empty((lanes, config.vocab), np.float32)
        times: list[_Times] = []
        while len(times) <= _STEPS or (len(times) <= _MOST_STEPS and sum(map(sum, times)) < _SECONDS):
            tokens = random.integers(config.vocab, size=(lanes, 1), dtype=np.int32)
            start = self.clock()
            hidden = transformer.advance(tokens, cache)
            state = hidden.on_host()
            advanced = self.clock()
            adapter.find(transformer.logits(hidden, room), state, targets)
            if (len(times) + 1) % adapter.steps == 0:
                adapter.update()
            times.append(_Times(advanced - start, self.clock() - advanced))
        return _Times(*map(statistics.median, zip(*times[1:], strict=True)))  # a mean would count a moment of standing still

    def _states(self) -> Hidden:
        """What random tokens lead to: as near to each other as this model's states are, which is what votes' time depends on."""
        transformer = self._transformer
        cache = transformer.cache(1, replace(self._model.span, window=_STATES), _STATES, _STATES)
        tokens = np.random.default_rng(1).integers(transformer.config.vocab, size=(1, _STATES), dtype=np.int32)
        return transformer.advance(tokens, cache).on_host()


def _mean(steps: int, full: float) -> float:
    """Mean, relative to the final value, of a cost that grows linearly for `full` steps and then stays."""
    return 0.5 if steps <= full else 1 - full / (2 * steps)
