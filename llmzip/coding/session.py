"""The loop through the model that encoder and decoder share, for blocks and for messages.

Step t codes symbol t of every lane. A session feeds the transformer as many steps as the direction knows the symbols of: all of them when
encoding, one when decoding. It hands each step's logits to the direction, which codes them. After every round of steps the direction's
adapters are updated.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from llmzip.coding.guesses import Guesses
from llmzip.coding.lanes import LaneLayout
from llmzip.engine import buffers
from llmzip.engine.hidden import Hidden
from llmzip.learning import learner
from llmzip.parameters import AttentionSpan, CorrectionParameters

if TYPE_CHECKING:
    from llmzip.engine.engine import Engine

Progress = Callable[[int, int], None]  # called with the number of symbols just coded, and the bytes of bitstream so far
LOGIT_ROWS = 128  # tokens whose logits are held at once, if a step has no more


class Direction(Protocol):
    """What a session does with logits: encoding or decoding.

    Attributes:
        grid: symbols known so far, int32 [lanes, steps].
        learns: whether an adapter learns, and so needs hidden states.
        round_steps: steps between two calls of `update`, if an adapter learns.
    """

    grid: NDArray[np.int32]
    learns: bool
    round_steps: int

    @property
    def stream_bytes(self) -> int:
        """Bytes of the bitstream so far."""
        ...

    @property
    def finished(self) -> bool:
        """Whether no further step is needed."""
        ...

    def known(self, step: int) -> int:
        """Number of steps from `step` whose input tokens are already known."""
        ...

    def code(self, step: int, lanes: int, logits: NDArray[np.float32], state: Hidden | None) -> None:
        """Code consecutive steps from `step` on; logits float32 [steps * lanes, vocab], rows in step order, which the next call overwrites."""
        ...

    def update(self) -> None:
        """End a round."""
        ...

    def take_drawn(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """See `Adapter.take_drawn`."""
        ...


class PredictionSession:
    """A transformer that predicts the symbols of lanes which advance together.

    Args:
        transformer: the model on its device.
        opening: tokens that every lane begins with, int32 [n], n >= 1.
        layout: lanes and steps.
        span: which positions attention sees; it affects every probability.
        chunk: steps fed at once, at most; any number gives the same bits.
        corrections: parameters of corrections that are learned; None if there are none.
    """

    def __init__(
        self, transformer: Engine, opening: NDArray[np.int32], layout: LaneLayout, span: AttentionSpan, chunk: int,
        corrections: CorrectionParameters | None = None,
    ) -> None:  # fmt: skip
        self._transformer, self._layout, self._chunk = transformer, layout, chunk
        self._last = int(opening[-1])
        self._room = buffers.empty((0, transformer.config.vocab), np.float32)  # of logits
        most = max(min(chunk, layout.steps), len(opening))
        kept = corrections.segment_steps(layout.lanes) if corrections else 0
        self._cache = transformer.cache(layout.lanes, span, positions(layout, len(opening)), most, kept)
        if len(opening) > 1:
            transformer.advance(opening[None, :-1].astype(np.int32), self._cache)  # once, and not for every lane
            if layout.lanes > 1:
                self._cache.copy_first_lane()
        self._learner = learner.make(transformer, corrections, self._cache, layout.lanes) if corrections else None

    def run(self, direction: Direction, progress: Progress | None = None, guesses: Guesses | None = None) -> None:
        """Code all steps, or as many as the direction needs; `guesses` are of the symbols of a direction that knows one step at a time."""
        layout, step = self._layout, 0
        while step < layout.steps and not direction.finished:
            lanes = layout.active(step)
            left = min((layout.full_steps if step < layout.full_steps else layout.steps) - step, self._until_learning())
            if guesses:
                steps = self._advance_guessed(direction, guesses, step, lanes, left)
            else:
                steps = self._advance(direction, step, lanes, min(direction.known(step), self._chunk, left))
            step += steps
            if self._learner and not self._until_learning() and step <= layout.full_steps:
                self._learn(direction, layout.lanes)
            if progress:
                progress(lanes * steps, direction.stream_bytes)

    def _advance(self, direction: Direction, step: int, lanes: int, steps: int) -> int:
        """Feed and code steps whose symbols are known; returns how many."""
        hidden = self._feed(direction, step, lanes, steps)
        ahead = max(1, LOGIT_ROWS // lanes)
        for first in range(0, steps, ahead):
            some = hidden.at(slice(first * lanes, (first + ahead) * lanes))
            logits, state = self._logits(some), some.on_host() if direction.learns else None
            done = 0
            while done < len(some) // lanes:
                now = step + first + done
                more = min(_until_update(direction, now), len(some) // lanes - done)
                self._code(direction, now, lanes, more, slice(done * lanes, (done + more) * lanes), logits, state)
                done += more
        return steps

    def _advance_guessed(self, direction: Direction, guesses: Guesses, step: int, lanes: int, left: int) -> int:
        """Feed the next step, and guesses of those after it; code steps as long as guesses are right, and return how many."""
        start = time.perf_counter()
        guessed = guesses.ahead(step, lanes, left - 1)
        direction.grid[:lanes, step : step + guessed.shape[1]] = guessed
        fed = 1 + guessed.shape[1]
        hidden = self._feed(direction, step, lanes, fed)
        logits, state = self._logits(hidden), hidden.on_host() if direction.learns else None
        guesses.took(fed, time.perf_counter() - start)
        for i in range(fed):
            self._code(direction, step + i, lanes, 1, slice(i * lanes, (i + 1) * lanes), logits, state)
            guesses.take(step + i, lanes)
            if i + 1 == fed or (direction.grid[:lanes, step + i] != guessed[:, i]).any():
                break
        self._cache.rewind(fed - i - 1)
        if self._learner:
            self._learner.corrections.rewind(fed - i - 1)
        return i + 1

    def _feed(self, direction: Direction, step: int, lanes: int, steps: int) -> Hidden:
        """States of steps whose symbols, but for the last, are in the direction's grid; in step order."""
        corrections = self._learner.corrections if self._learner else None
        hidden = self._transformer.advance(self._inputs(direction.grid[:lanes], step, steps), self._cache, corrections)
        return hidden.at(np.arange(lanes * steps, dtype=np.int64).reshape(lanes, steps).T.reshape(-1))  # from lane-major order

    def _logits(self, hidden: Hidden) -> NDArray[np.float32]:
        """Logits, which do not depend on updates, in room that is used again."""
        if len(self._room) < len(hidden):
            self._room = buffers.empty((len(hidden), self._transformer.config.vocab), np.float32)
        return self._transformer.logits(hidden, self._room)

    def _code(
        self, direction: Direction, step: int, lanes: int, steps: int, at: slice, logits: NDArray[np.float32], state: Hidden | None
    ) -> None:
        """Code consecutive steps of a round, whose rows are `at`, and end the round if they are its last."""
        direction.code(step, lanes, logits[at], state.at(at) if state else None)
        if direction.learns and (step + steps) % direction.round_steps == 0:
            direction.update()

    def _until_learning(self) -> int:
        """Steps that may be fed before corrections change."""
        return self._learner.corrections.left if self._learner else sys.maxsize

    def _learn(self, direction: Direction, lanes: int) -> None:
        """Take a step of learning from a segment, all of whose steps are coded, by all lanes."""
        drawn, symbols = (x.reshape(-1, lanes, *x.shape[1:]).swapaxes(0, 1) for x in direction.take_drawn())  # from step order
        assert self._learner
        self._learner.step(drawn.reshape(-1, drawn.shape[-1]), symbols.reshape(-1))

    def _inputs(self, grid: NDArray[np.int32], step: int, steps: int) -> NDArray[np.int32]:
        """The tokens before the symbols of `steps` steps, int32 [lanes, steps]."""
        before = (
            grid[:, step - 1 : step + steps - 1] if step else np.pad(grid[:, : steps - 1], ((0, 0), (1, 0)), constant_values=self._last)
        )
        return tokens(self._transformer, before)


def logit_bytes(layout: LaneLayout, vocab: int) -> int:
    """Memory that the logits of a session take at most."""
    return 4 * vocab * max(layout.lanes, LOGIT_ROWS)


def positions(layout: LaneLayout, opening: int) -> int:
    """Tokens that a lane is fed, with an opening of so many tokens."""
    return layout.steps + opening - 1


def tokens(transformer: Engine, symbols: NDArray[np.int32]) -> NDArray[np.int32]:
    """What the model sees of symbols, any shape: raw bytes look like `bos`."""
    config = transformer.config
    return np.where(symbols < config.vocab, symbols, config.bos).astype(np.int32)


def _until_update(direction: Direction, step: int) -> int:
    """Steps from `step` on to code together."""
    return direction.round_steps - step % direction.round_steps if direction.learns else sys.maxsize
