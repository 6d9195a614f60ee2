"""Shows what block size and lanes do to size, speed and memory.

    python scripts/table_lanes.py TEXT [--bytes N] [--blocks N ...] [--symbols N ...]

Encodes and decodes the first N bytes of a text for each size of block and each number of symbols a lane, in this process.
Memory is that of the keys and values, which grows with the lanes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from llmzip.codec.loaded_models import PretrainedModel
from llmzip.models import resolve
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.options import Options
from llmzip.parameters import DEFAULT_LEVEL, LEVELS

SPAN = LEVELS[DEFAULT_LEVEL].span


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--bytes", type=int, default=150_000)
    parser.add_argument("--blocks", type=int, nargs="+", default=[37_500, 150_000])
    parser.add_argument("--symbols", type=int, nargs="+", default=[8192, 4096, 2048, 1024])
    options = parser.parse_args()
    data = options.file.read_bytes()[: options.bytes]
    loaded = PretrainedModel(DEFAULT_MODEL, resolve.load(DEFAULT_MODEL), Options())
    coder = loaded.coder(loaded.record())
    print("| block, bytes | symbols a lane | lanes | coded bytes | encode, tokens/s | decode, tokens/s | keys and values, MB |")
    print("|---|---|---|---|---|---|---|")
    for size in options.blocks:
        blocks = [loaded.alphabet.encode(data[at : at + size]) for at in range(0, len(data), size)]
        total = sum(map(len, blocks))
        for share in options.symbols:
            lanes = [max(1, len(symbols) // share) for symbols in blocks]
            start = time.perf_counter()
            streams = [coder.encode(symbols, n) for symbols, n in zip(blocks, lanes, strict=True)]
            encoded = time.perf_counter()
            for stream, symbols, n in zip(streams, blocks, lanes, strict=True):
                if not (coder.decode(stream, len(symbols), n) == symbols).all():
                    raise SystemExit("decoding gave other symbols")
            decoded = time.perf_counter()
            memory = loaded.transformer.memory(max(lanes), SPAN, -(-len(blocks[0]) // lanes[0]), 1)[0]
            cells = (size, share, max(lanes), sum(map(len, streams)), total / (encoded - start), total / (decoded - encoded), memory / 1e6)
            print("| " + " | ".join(f"{x:,.0f}" for x in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
