"""Shows what each part that learns is worth: sizes of coded blocks with the frozen model, with either part, and with both.

    python scripts/ablation.py [--level N] [--bytes N] TEXT...

Sizes are of the bitstream, in bytes. Changes are against the frozen model with the same lanes and window. `--bytes` takes the first N
bytes of each text.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from llmzip.codec.ledger import Ledger
from llmzip.codec.loaded_models import LoadedModel
from llmzip.coding.lanes import default_lanes
from llmzip.models import resolve
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.options import Options
from llmzip.parameters import DEFAULT_LEVEL


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--level", type=int, default=DEFAULT_LEVEL)
    parser.add_argument("--bytes", type=int, default=1 << 20)
    parser.add_argument("--neighbours-alone", action="store_true", help="add a run with votes but without biases")
    options = parser.parse_args()
    loaded = LoadedModel(DEFAULT_MODEL, resolve.load(DEFAULT_MODEL), Options())
    print("| text | bytes | symbols | lanes | frozen | biases | neighbours | both | change |\n|---|---|---|---|---|---|---|---|---|")
    for file in options.files:
        data = file.read_bytes()[: options.bytes]
        symbols = loaded.alphabet.encode(data)
        level = Options(level=options.level).how()
        lanes = default_lanes(len(symbols), level.lane_symbols)
        ledger, alone = Ledger(), Ledger()
        stream = loaded.coder(loaded.record(level)).encode(symbols, lanes, ledger=ledger)
        votes = "-"
        if options.neighbours_alone and level.adapter.neighbours:
            only = replace(level, adapter=replace(level.adapter, bias=None))
            loaded.coder(loaded.record(only)).encode(symbols, lanes, ledger=alone)
            votes = percent(alone.voted, alone.frozen)
        frozen = ledger.frozen / 8 + len(stream) - ledger.voted / 8  # the coder's overhead included
        cells = (file.name, f"{len(data):,}", f"{len(symbols):,}", str(lanes), f"{frozen:,.0f}")
        changes = (percent(ledger.biased, ledger.frozen), votes, f"{len(stream):,}", percent(len(stream), frozen))
        print("| " + " | ".join(cells + changes) + " |", flush=True)


def percent(now: float, before: float) -> str:
    """A change in percent."""
    return f"{100 * (now / before - 1):+.2f}%"


if __name__ == "__main__":
    main()
