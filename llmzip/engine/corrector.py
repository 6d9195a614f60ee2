"""Applies corrections in torch, by their definition, and notes the trace that learning needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llmzip.engine import reference
from llmzip.engine.corrections import Corrections, Floats


class NoCorrector:
    """Nothing is corrected, and nothing noted."""

    def note(self, name: str, layer: int, values: Tensor) -> None:
        """Note rows of the array of this name in the trace."""

    def note_head(self, x: Tensor) -> None:
        """Note the residual stream as the head reads it."""

    def note_attention(self, layer: int, q: Tensor, row: Tensor, top: Tensor, total: Tensor, acc: Tensor) -> None:
        """Note what attention gave: the rows that `o` reads and their scales, largest scores, sums of weights, and the product of `o`."""

    def correct_values(self, layer: int, q: Tensor, row: Tensor, acc: Tensor) -> None:
        """Correct the product of `qkv` with the rows q and their scales, in place."""

    def correct_gate_up(self, layer: int, q: Tensor, row: Tensor, acc: Tensor) -> None:
        """As `correct_values`, of `gate_up`."""

    def correct_down(self, layer: int, q: Tensor, row: Tensor, acc: Tensor) -> None:
        """As `correct_values`, of `down`."""


class Corrector(NoCorrector):
    """Those of one call of `advance`.

    Args:
        corrections: of the block.
        position: of the first step that is fed.
        turns: its rotations and those of the steps after it.
        lanes: that are fed.
        device: of the model.
    """

    def __init__(self, corrections: Corrections, position: int, turns: Floats, lanes: int, device: torch.device) -> None:
        self._c, self._device = corrections, device
        self._rows = corrections.rows(corrections.begin(position, turns), lanes, turns.shape[1])
        self._signs, self._ffn_signs = (self._here(s).to(torch.int32).T for s in (corrections.signs, corrections.ffn_signs))

    def _here(self, values: Any) -> Tensor:
        return torch.tensor(values, device=self._device)

    def note(self, name: str, layer: int, values: Tensor) -> None:
        """See `NoCorrector`."""
        getattr(self._c.trace, name)[layer, self._rows] = values.cpu().numpy()

    def note_head(self, x: Tensor) -> None:
        """See `NoCorrector`."""
        self._c.trace.head_x[self._rows] = x.cpu().numpy()

    def note_attention(self, layer: int, q: Tensor, row: Tensor, top: Tensor, total: Tensor, acc: Tensor) -> None:
        """See `NoCorrector`."""
        for name, values in (("o_q", q), ("o_row", row), ("top", top), ("total", total)):
            self.note(name, layer, values)
        self._note_product("o_acc", layer, acc)

    def correct_values(self, layer: int, q: Tensor, row: Tensor, acc: Tensor) -> None:
        """See `NoCorrector`."""
        b = self._c.values[layer]
        z = self._sums("attention", layer, q, row, self._signs)
        self.note("queries_keys", layer, acc[:, : -2 * b.shape[1]])
        reference.correct(acc[:, -b.shape[1] :], z, self._here(b))  # the low parts

    def correct_gate_up(self, layer: int, q: Tensor, row: Tensor, acc: Tensor) -> None:
        """See `NoCorrector`."""
        reference.correct(acc, self._sums("ffn", layer, q, row, self._signs), self._here(self._c.gate_up[layer]))
        self.note("gate_up_acc", layer, acc)

    def correct_down(self, layer: int, q: Tensor, row: Tensor, acc: Tensor) -> None:
        """See `NoCorrector`."""
        reference.correct(acc, self._sums("down", layer, q, row, self._ffn_signs), self._here(self._c.down[layer]))
        self._note_product("down_acc", layer, acc)

    def _sums(self, name: str, layer: int, q: Tensor, row: Tensor, signs: Tensor) -> Tensor:
        """Sums of the rows q with signs; their scales are noted, too."""
        z = (q.double() @ signs.double()).to(torch.int32)  # exact
        self.note(f"{name}_z", layer, z)
        self.note(f"{name}_row", layer, row)
        return z

    def _note_product(self, name: str, layer: int, acc: Tensor) -> None:
        if getattr(self._c.trace, name).shape[-1]:
            self.note(name, layer, acc)
