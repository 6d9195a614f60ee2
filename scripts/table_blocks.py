"""What smaller blocks cost: sizes of an archive by the size of its blocks.

    python scripts/table_blocks.py [--level N] [--model ID] [--threads N] TEXT SIZE...

TEXT is coded once for each SIZE, in KiB, in blocks of at most so much. Prints a table in Markdown, with one row for each as soon as it is known: number
of blocks, bytes of their records, how much more that is than with the first SIZE, and seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from llmzip.archive.records import encode_record
from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.cutting import read_blocks
from llmzip.codec.loaded_models import LoadedModels
from llmzip.options import Options


def sizes(blocks: BlockCodec, text: Path, options: Options) -> Iterator[int]:
    """Bytes of the record of each block."""
    model = None
    with text.open("rb") as source:
        for content in read_blocks(source, options.level_settings().block_bytes):
            block, own = blocks.encode(content, options, model)
            model = model or own
            yield len(encode_record(block))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("sizes", metavar="SIZE", type=int, nargs="+")
    parser.add_argument("--level", type=int, default=6)
    parser.add_argument("--model")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    first = 0
    blocks = BlockCodec(LoadedModels(Options(model=given.model, threads=given.threads)))
    print(f"{given.text.name}, {given.text.stat().st_size:,} bytes, level {given.level}\n")
    print("| blocks of at most | blocks | bytes | more | seconds |\n|---|---|---|---|---|")
    for size in given.sizes:
        start = time.monotonic()
        found = list(sizes(blocks, given.text, Options(level=given.level, block_bytes=size << 10)))
        first = first or sum(found)
        more = f"{100 * sum(found) / first - 100:+.2f}%"
        print(f"| {size} KiB | {len(found)} | {sum(found):,} | {more} | {time.monotonic() - start:.0f} |", flush=True)


if __name__ == "__main__":
    main()
