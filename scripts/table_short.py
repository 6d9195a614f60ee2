"""Sizes of short archives: pieces of texts by llmzip and by other compressors, each as a whole file.

    python scripts/table_short.py [--bytes N ...] TEXT...

Takes the first whole characters of each text after its middle, codes them at the default level, decodes them, and prints the bytes of the
archives together by size of the pieces, and in how many texts llmzip's is the smallest. Compressors that are not installed are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llmzip.benchmark import competitors
from llmzip.codec.codec import Codec

SIZES = [50, 100, 500, 1500, 5000]
OTHERS = ("gzip", "brotli", "zstd", "xz")


def piece(text: bytes, size: int) -> bytes:
    """At most `size` bytes of whole characters, from a line near a text's middle."""
    start = text.find(b"\n", len(text) // 2) + 1
    return text[start : start + size].decode("utf-8", "ignore").encode()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--bytes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    others = [c for c in competitors.find()[0] if c.name.startswith(OTHERS)]
    codec = Codec()
    print(f"| pieces, bytes | texts | all bytes | llmzip -6 | {' | '.join(c.name for c in others)} | llmzip is the smallest |")
    print("|---" * (len(others) + 5) + "|")
    for size in options.bytes:
        pieces = [piece(file.read_bytes(), size) for file in options.files]
        rows = []
        for content in pieces:
            archive = codec.compress(content)
            if codec.decompress(archive) != content:
                raise SystemExit(f"{size}: does not come back")
            rows.append([len(archive), *(len(c.compress(content)) for c in others)])
        best = sum(row[0] < min(row[1:]) for row in rows)
        sums = [f"{sum(column):,}" for column in zip(*rows, strict=True)]
        print(f"| {size:,} | {len(rows)} | {sum(map(len, pieces)):,} | {' | '.join(sums)} | {best} of {len(rows)} |", flush=True)


if __name__ == "__main__":
    main()
