"""Size, speed both ways and memory of every level, in whole processes.

    python scripts/table_levels.py TEXT [--bytes N] [--levels N ...]

Compresses and restores the first N bytes of a text at each level, checks what comes back, and prints a table.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench import round_trip

from llmzip.coding.alphabet import Alphabet
from llmzip.models import resolve
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.parameters import LEVELS


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--bytes", type=int, default=1 << 20)
    parser.add_argument("--levels", type=int, nargs="+", default=list(LEVELS))
    options = parser.parse_args()
    data = options.file.read_bytes()[: options.bytes]
    symbols = len(Alphabet(resolve.load(DEFAULT_MODEL).tokenizer).encode(data))
    print(f"{options.file.name}, {len(data):,} bytes, {symbols:,} symbols\n")
    print("| level | archive | bits/byte | compress, tokens/s | decompress, tokens/s | peak memory, MB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "text"
        file.write_bytes(data)
        for level in options.levels:
            r = round_trip(file, [f"-{level}"], Path(name))
            size = int(r["archive"])
            speeds = [f"{symbols / r[f'{way}_s']:,.0f}" for way in ("compress", "decompress")]
            print(
                "| " + " | ".join([f"-{level}", f"{size:,}", f"{8 * size / len(data):.4f}", *speeds, f"{r['peak_mb']:,}"]) + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
