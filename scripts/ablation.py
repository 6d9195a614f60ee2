"""Shows what each part that learns is worth: sizes of coded blocks with every part alone, and together.

    python scripts/ablation.py [--level N] [--bytes N] [--model NAME] [--parts LETTERS,...] [--quarters] [--decode] TEXT...

Parts are b for biases, n for neighbours, c for corrections of the model's matrices; `-` is the frozen model. Sizes are of the bitstream, in bytes;
changes are against the first of the runs, with the same lanes and window. Then come, with `--quarters`, the changes by quarter of the text, by what
each symbol cost, and the seconds to encode (some more with `--quarters`) and, with `--decode`, to decode. `--bytes` takes the first N bytes of each text.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmzip.codec.any_model import LoadedModel
from llmzip.codec.loaded_models import PretrainedModel
from llmzip.entropy import compiled_frequencies
from llmzip.entropy.frequencies import TOTAL_BITS, Logits, Votes, no_gradients, scratch
from llmzip.models import resolve
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.options import Options
from llmzip.parameters import AdapterParameters, Level


class _Costs:
    """An `adapter.observer.Observer` that keeps the bits of each symbol."""

    def __init__(self) -> None:
        self.bits: list[NDArray[np.float64]] = []

    def see(self, logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int, coded: NDArray[np.int32]) -> None:
        """Keep rows that are about to be coded."""
        room = scratch(1, logits.shape[1], symbols)
        _, freq = compiled_frequencies.intervals(logits, bias, votes, symbols, coded, no_gradients(len(coded)), room)
        self.bits.append(TOTAL_BITS - np.log2(freq))

    def quarters(self) -> list[float]:
        """Bits of each quarter of the symbols, in the order in which they are coded."""
        return [float(part.sum()) for part in np.array_split(np.concatenate(self.bits), 4)]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--level", type=int, default=9)
    parser.add_argument("--bytes", type=int, default=1 << 20)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--parts", default="-,b,n,c,bn,bnc")
    parser.add_argument("--quarters", action="store_true")
    parser.add_argument("--decode", action="store_true")
    options = parser.parse_args()
    loaded = PretrainedModel(options.model, resolve.load(options.model), Options())
    print(
        "| text | bytes | symbols | lanes | parts | stream | change | by quarter | encode | decode |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for file in options.files:
        data = file.read_bytes()[: options.bytes]
        symbols = loaded.alphabet.encode(data)
        level = Options(level=options.level).level_settings()
        lanes = level.lanes(len(symbols))
        for cells in _rows(loaded, level, symbols, lanes, options):
            print("| " + " | ".join((file.name, f"{len(data):,}", f"{len(symbols):,}", str(lanes), *cells)) + " |", flush=True)


def _rows(loaded: LoadedModel, level: Level, symbols: NDArray[np.int32], lanes: int, options: argparse.Namespace) -> Iterator[list[str]]:
    first, first_quarters, by_quarter = 0, list[float](), options.quarters
    for parts in options.parts.split(","):
        record = loaded.record(replace(level, adapter=_only(level.adapter, parts)))
        coder, costs = loaded.coder(record), _Costs()
        start = time.perf_counter()
        stream = coder.encode(symbols, lanes, ledger=costs if by_quarter else None)
        encoded = time.perf_counter()
        took, quarters = "-", costs.quarters() if by_quarter else []
        if options.decode:
            start_decoding = time.perf_counter()
            if not np.array_equal(coder.decode(stream, len(symbols), lanes), symbols):
                raise SystemExit("a stream does not decode")
            took = f"{time.perf_counter() - start_decoding:.1f}"
        first, first_quarters = first or len(stream), first_quarters or quarters
        change = ", ".join(percent(*pair) for pair in zip(quarters, first_quarters, strict=True))
        yield [parts, f"{len(stream):,}", percent(len(stream), first), change, f"{encoded - start:.1f}", took]


def _only(adapter: AdapterParameters, parts: str) -> AdapterParameters:
    keep = {name: getattr(adapter, name) if name[0] in parts else None for name in ("bias", "neighbours", "corrections")}
    return replace(adapter, **keep)


def percent(now: float, before: float) -> str:
    """A change in percent."""
    return f"{100 * (now / before - 1):+.2f}%"


if __name__ == "__main__":
    main()
