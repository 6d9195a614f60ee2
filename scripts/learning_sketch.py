"""A sketch in float32 of a model that learns while it codes: low-rank corrections of its matrices, under biases and neighbours as they are.

    python scripts/learning_sketch.py [--model MODEL] [--bytes N] [--lanes N] [OPTION ...] TEXT...

A matrix W becomes W + 2 B A (LoRA, Hu and others 2021). A has rows of random signs / sqrt(inputs), and stays; B starts at 0, and learns by
AdaGrad after each segment. Every symbol is coded before the step that uses it. Prints the cost in bytes, sum of -log2 p / 8, with and without, and
its change in each quarter of the text. docs/design.md has results of an earlier form. It is slow, and not exact: each number may differ elsewhere in its last digits.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from float_reference import FloatTransformer, float_model
from numpy.typing import NDArray

from llmzip.adapter.adapter import Adapter, Sizes
from llmzip.coding.alphabet import Alphabet
from llmzip.coding.lanes import LaneLayout
from llmzip.engine.hidden import Hidden
from llmzip.entropy.frequencies import TOTAL_BITS
from llmzip.models.float_model import FloatModel
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.parameters import LEVELS

_SCALE = 2.0  # of a correction
_DAMPING = 0.1  # part of the matrix's usual gradient that is added to that of each number
_GOLDEN = (5**0.5 - 1) / 2


class _Rounded(torch.autograd.Function):
    """A linear layer whose gradients are rounded, row by row, to integers of some bits on their way back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor, bits: int) -> torch.Tensor:
        ctx.w, ctx.bits = w, bits
        return x @ w.T

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (g,) = gradients
        unit = g.abs().amax(-1, keepdim=True).clamp_min(1e-30) / ((1 << (ctx.bits - 1)) - 1)
        return (torch.round(g / unit) * unit) @ ctx.w, None, None


class Learner(FloatTransformer):
    """A float transformer with corrections, and what they learn with."""

    def __init__(self, model: FloatModel, options: argparse.Namespace) -> None:
        super().__init__(model, options.window)
        self.options, self._steps = options, 0
        self.learned: list[torch.Tensor] = []  # all matrices B
        self._seen: list[torch.Tensor] = []
        self._rates: list[torch.Tensor] = []
        generator = torch.Generator().manual_seed(0)
        for layer in self.layers:
            for name in options.matrices if options.rate else ():
                outputs, inputs = layer[name].shape
                signs = torch.randint(0, 2, (options.rank, inputs), generator=generator) * 2.0 - 1
                layer[f"{name}_a"], layer[f"{name}_b"] = signs / math.sqrt(inputs), torch.zeros(outputs, options.rank, requires_grad=True)
                self.learned.append(layer[f"{name}_b"])
                self._seen.append(torch.zeros(outputs, options.rank))
                self._rates.append(layer[name].abs().amax(1, keepdim=True) / 127 * (options.rate * math.sqrt(inputs) / _SCALE))

    def times(self, h: torch.Tensor, w: dict[str, torch.Tensor], name: str) -> torch.Tensor:
        """As in the base class, corrected."""
        y = _Rounded.apply(h, w[name], self.options.gradient_bits) if h.requires_grad and self.options.gradient_bits else h @ w[name].T
        if f"{name}_bias" in w:
            y = y + w[f"{name}_bias"]
        if f"{name}_b" not in w:
            return y
        read = h.detach() if self.options.stop_at_signs else h
        return y + _SCALE * ((read @ w[f"{name}_a"].T) @ w[f"{name}_b"].T)

    def scores(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """As in the base class, with gradients of the latest keys only."""
        latest = self.options.score_gradients
        if latest is None or k.shape[1] <= self.sinks:
            return super().scores(q, k)
        if latest == 0:
            return super().scores(q.detach(), k.detach())
        far, near = super().scores(q.detach(), k[:, :-latest]), super().scores(q, k[:, -latest:])
        return torch.cat([far, near], -1)

    @torch.no_grad()
    def step(self, gradients: list[torch.Tensor]) -> None:
        """Learn from the gradients of a segment."""
        self._steps += 1
        slower = math.sqrt(1 + self._steps / self.options.pace)
        for b, g, seen, rate in zip(self.learned, gradients, self._seen, self._rates, strict=True):
            seen += g * g
            mean = seen / self._steps + 1e-20
            b -= rate * g / ((mean.sqrt() + _DAMPING * mean.mean().sqrt()) * slower)


def _state(states: torch.Tensor) -> Hidden:
    """What the adapter takes of float states."""
    scale = states.abs().amax(-1, keepdim=True).clamp_min(1e-9) / 127
    q = torch.round(states / scale)
    return Hidden(q.to(torch.int8).numpy(), scale[:, 0].numpy(), (1 / q.square().mean(-1).sqrt()).numpy())


def _sampled(p: torch.Tensor, samples: int, first: int) -> torch.Tensor:
    """Probabilities [n, vocab] as counts of samples at equal steps of the cumulative distribution, which begin elsewhere in each row."""
    start = ((first + torch.arange(len(p), dtype=torch.float64)) * _GOLDEN) % 1
    cumulative = p.double().cumsum(-1)
    counts = torch.floor(cumulative / cumulative[:, -1:] * samples + start[:, None])
    return (torch.diff(counts, dim=-1, prepend=torch.zeros(len(p), 1, dtype=torch.float64)) / samples).float()


def costs(transformer: Learner, symbols: NDArray[np.int32], alphabet: int) -> NDArray[np.float64]:
    """Bits of each symbol, step by step: float64 [symbols], without the last ones if they do not fill all lanes."""
    o, c = transformer.options, transformer.config
    layout = LaneLayout(len(symbols) // o.lanes * o.lanes, o.lanes)
    grid = torch.from_numpy(layout.to_grid(symbols[: layout.symbols])).long()
    opening = torch.tensor(c.opening or (c.bos,))
    inputs = torch.cat([opening[-1:].expand(o.lanes, 1), torch.where(grid < c.vocab, grid, c.bos)[:, :-1]], 1)
    adapter = Adapter(LEVELS[9].adapter, Sizes(c.vocab, alphabet, c.width, o.lanes, layout.symbols))
    transformer.reset()
    if len(opening) > 1:
        with torch.no_grad():
            transformer.states(opening[:-1])
    lanes = [(transformer.position, transformer.cache, transformer.kept)] * o.lanes
    out: list[NDArray[np.float64]] = []
    steps = max(1, o.segment // o.lanes)
    for first in range(0, layout.steps, steps):
        at = slice(first, min(first + steps, layout.steps))
        states: list[torch.Tensor] = []
        for lane in range(o.lanes):
            transformer.position, transformer.cache, transformer.kept = lanes[lane][0], list(lanes[lane][1]), lanes[lane][2]
            with torch.set_grad_enabled(bool(transformer.learned)):
                states.append(transformer.states(inputs[lane, at]))
            lanes[lane] = transformer.position, transformer.cache, transformer.kept
        joined = torch.stack(states, 1).reshape(-1, c.width)  # in step order
        bits, back = _code(transformer, adapter, joined.detach(), grid[:, at].T.reshape(-1), first * o.lanes)
        out.append(bits)
        if transformer.learned:
            found = torch.autograd.grad(joined, transformer.learned, back, allow_unused=True)
            transformer.step([torch.zeros_like(b) if g is None else g for g, b in zip(found, transformer.learned, strict=True)])
    return np.concatenate(out)


@torch.no_grad()
def _code(
    transformer: Learner, adapter: Adapter, states: torch.Tensor, symbols: torch.Tensor, first: int
) -> tuple[NDArray[np.float64], torch.Tensor]:
    """Code the symbols that follow `states` [n, width], int64 [n].

    Returns their bits, float64 [n], and the gradient of their mean cost, float32 [n, width]. `first` is the number of symbols coded before.
    """
    o, vocab, hidden = transformer.options, transformer.config.vocab, _state(states)
    rows = adapter.steps * o.lanes
    bits, back = [], []
    for i in range(0, len(states), rows):
        at = slice(i, min(i + rows, len(states)))
        logits, bias = transformer.predict(states[at]), torch.from_numpy(adapter.bias.values.copy())
        _, freq = adapter.intervals((logits / math.log(2)).numpy(), hidden.at(at), symbols[at].numpy().astype(np.int32))
        bits.append(TOTAL_BITS - np.log2(freq))
        adapter.update()
        p = torch.softmax(logits + bias * math.log(2), -1)
        if o.samples:
            p = _sampled(p, o.samples, first + i)
        known = (symbols[at] < vocab).nonzero()[:, 0]
        p[known, symbols[at][known]] -= 1
        back.append(p @ transformer.head * (transformer.factors.logits / len(states)))
    return np.concatenate(bits), torch.cat(back)


def main() -> None:
    """Prints a line for each text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--bytes", type=int, default=24_000)
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--matrices", nargs="+", default=["v", "gate", "up", "down"], help="of q, k, v, o, gate, up, down")
    parser.add_argument("--segment", type=int, default=64, help="symbols between two steps, about")
    parser.add_argument("--rate", type=float, default=0.02, help="of the first steps, in units of a weight's last place as int8")
    parser.add_argument("--pace", type=float, default=15.0, help="steps after which the rate has fallen to 0.7")
    parser.add_argument("--samples", type=int, default=32, help="of each row's probabilities, for the gradient of the head; 0: all of them")
    parser.add_argument("--gradient-bits", type=int, default=8, help="of gradients on their way back; 0: floats")
    parser.add_argument("--score-gradients", type=int, help="latest keys whose scores have gradients; all by default")
    parser.add_argument("--stop-at-signs", action="store_true", help="no gradients through A")
    options = parser.parse_args()
    model = float_model(options.model)
    alphabet = Alphabet(model.tokenizer)
    for file in options.files:
        symbols = alphabet.encode(file.read_bytes()[: options.bytes])
        learned = costs(Learner(model, options), symbols, alphabet.size)
        frozen = costs(Learner(model, argparse.Namespace(**vars(options) | {"rate": 0.0})), symbols, alphabet.size)
        quarters = [f"{_percent(a.sum(), b.sum())}" for a, b in zip(np.array_split(learned, 4), np.array_split(frozen, 4), strict=True)]
        before, after = frozen.sum() / 8, learned.sum() / 8
        print(
            f"{file.name}: {before:,.0f} bytes without, {after:,.0f} with, {_percent(after, before)}; by quarter {', '.join(quarters)}",
            flush=True,
        )


def _percent(after: float, before: float) -> str:
    return f"{100 * (after / before - 1):+.1f}%"


if __name__ == "__main__":
    main()
