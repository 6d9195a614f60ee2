"""Guesses of the next symbols while decoding: what followed the last few symbols when they came before.

Decoding one symbol reads all weights. Several rows in one call read them once, so symbols that are guessed are fed together with the last
known one. Where the decoded symbol is another one, the rows after it are dropped (Leviathan, Kalman and Matias, "Fast inference from
transformers via speculative decoding", 2023; here the draft is a copy). Rows are the same whatever they are fed with, so no bit depends on a guess.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_LANES = 4  # with more, nothing is guessed: guesses must be right in all lanes at once
_LONGEST, _SHORTEST = 4, 2  # symbols that must have come before
_MOST = 7  # symbols guessed at once
_LENGTHS = 32  # matches are told apart up to this length
_SLOWLY = 0.1  # weight of the newest time in an average
_FIRST_PRICE = 0.2  # of a further step, until it is measured


class _Copy:
    """The place that a lane is compared with.

    Attributes:
        source: where the symbol that followed lies, in the flat grid; -1 if there is no such place.
        length: how many symbols before it are the same.
    """

    def __init__(self) -> None:
        self.source, self.length = -1, 0


class Guesses:
    """Guesses for lanes that advance together.

    Args:
        grid: the symbols decoded so far, int32 [lanes, steps], contiguous. The decoder fills it.
    """

    def __init__(self, grid: NDArray[np.int32]) -> None:
        self._steps: int = grid.shape[1]
        self._flat = grid.reshape(-1)  # a view: it changes with the grid
        self._lanes = [_Copy() for _ in range(len(grid))] if len(grid) <= MOST_LANES else []
        self._seen: dict[tuple[int, ...], int] = {}
        self._right, self._tried = np.full(_LENGTHS, 0.5, np.float64), np.full(_LENGTHS, 2.0, np.float64)
        self._alone, self._more = 0.0, 0.0  # seconds of a call with one step, and of each further step

    def ahead(self, step: int, lanes: int, most: int) -> NDArray[np.int32]:
        """Guesses of the symbols of steps from `step` on that are worth their time, at most `most`: int32 [lanes, n], n >= 0."""
        n, right = 0, 1.0
        if not self._lanes or not step:
            return np.empty((lanes, 0), np.int32)
        while n < min(most, _MOST):
            for copy in self._lanes[:lanes]:
                right *= self._share(copy, n)
            if right <= self._price():
                break
            n += 1
        guessed = np.empty((lanes, n), np.int32)
        for lane, copy in enumerate(self._lanes[:lanes]):
            now = lane * self._steps + step
            for i in range(n):  # what is copied may itself be guessed
                at = copy.source + i
                guessed[lane, i] = self._flat[at] if at < now or copy.source > now else guessed[lane, at - now]
        return guessed

    def take(self, step: int, lanes: int) -> None:
        """Learn from the symbols of `step`, which were decoded."""
        for lane, copy in enumerate(self._lanes[:lanes]):
            symbol = self._flat[lane * self._steps + step]
            if copy.source >= 0:
                length, right = min(copy.length, _LENGTHS - 1), self._flat[copy.source] == symbol
                self._tried[length] += 1
                self._right[length] += right
                copy.source, copy.length = (copy.source + 1, copy.length + 1) if right else (-1, 0)
            self._compare(lane, step, copy)

    def took(self, steps: int, seconds: float) -> None:
        """Note how long it took to feed so many steps."""
        if steps == 1:
            self._alone += (seconds - self._alone) * (_SLOWLY if self._alone else 1)
        elif self._alone:
            more = max(0.0, seconds - self._alone) / (steps - 1)
            self._more += (more - self._more) * (_SLOWLY if self._more else 1)

    def _compare(self, lane: int, step: int, copy: _Copy) -> None:
        """Look for the longest match of the last symbols, unless a longer one goes on, and remember them."""
        end = lane * self._steps + step + 1
        recent = tuple(self._flat[end - min(_LONGEST, step + 1) : end].tolist())
        for n in range(len(recent), _SHORTEST - 1, -1):
            key = recent[-n:]
            if copy.length < n and (found := self._seen.get(key, -1)) >= 0:
                copy.source, copy.length = found, n
            self._seen[key] = end
        if copy.source >= 0 and not self._is_known(copy.source, lane, step):
            copy.source, copy.length = -1, 0

    def _is_known(self, source: int, lane: int, step: int) -> bool:
        """Whether all symbols that could be copied from `source` are decoded, or are the lane's own next ones."""
        from_lane, at = divmod(source, self._steps)
        return from_lane == lane or at + _MOST <= step

    def _share(self, copy: _Copy, further: int) -> float:
        """How often such guesses were right."""
        if copy.source < 0:
            return 0.0
        length = min(copy.length + further, _LENGTHS - 1)
        return float(self._right[length] / self._tried[length])

    def _price(self) -> float:
        """Time of a further step as a share of a call's."""
        return self._more / self._alone if self._more else _FIRST_PRICE
