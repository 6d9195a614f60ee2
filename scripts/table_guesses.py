"""Shows what guessing the next symbols saves: decoding with and without it, one lane, in one run.

python scripts/table_guesses.py [--bytes N] [--model NAME] FILE...
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from llmzip.codec.loaded_models import PretrainedModel
from llmzip.models import resolve
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.options import Options


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--bytes", type=int, default=30_000)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    options = parser.parse_args()
    loaded = PretrainedModel(options.model, resolve.load(options.model), Options())
    coder = loaded.coder(loaded.record())
    print("| text | bytes | symbols | without, tokens/s | with | ratio |\n|---|---|---|---|---|---|")
    for file in options.files:
        data = file.read_bytes()[: options.bytes]
        symbols = loaded.alphabet.encode(data)
        stream = coder.encode(symbols, 1)
        speeds = []
        for guess in (False, True):
            coder.guess = guess
            start = time.perf_counter()
            if not np.array_equal(coder.decode(stream, len(symbols), 1), symbols):
                raise SystemExit(f"{file.name}: decoding gave other symbols")
            speeds.append(len(symbols) / (time.perf_counter() - start))
        cells = [file.name, f"{len(data):,}", f"{len(symbols):,}", f"{speeds[0]:.0f}", f"{speeds[1]:.0f}", f"{speeds[1] / speeds[0]:.2f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
