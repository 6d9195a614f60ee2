"""What workers take for blocks, against one process that does the same: processor time, by the same clock, without the start.

    python scripts/worker_cost.py [--workers N] [--blocks N] [--kib N] [--model ID] TEXT

Codes the first blocks of TEXT by one process of one thread, then by N processes of one thread each, both ways. Each block's processor time (user and
system, all threads of its process) is taken where it is done; the first block of each process is left out, as it loads the model. Prints a table in
Markdown: seconds of processor time for all blocks, their ratio, and how long it took.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from llmzip.codec import processes, worker
from llmzip.codec.codec import Codec
from llmzip.options import Options

ORIGINAL = {"encode": worker.encode, "decode": worker.decode}
LOG = "LLMZIP_WORKER_COST"  # the variable that names the file to which processes write


def timed(name: str, blocks: Any, progress: Any, content: Any, *more: Any) -> Any:
    """Do what a worker does, and note what it took."""
    start = time.process_time()
    result = ORIGINAL[name](blocks, progress, content, *more)
    took = time.process_time() - start
    with open(os.environ[LOG], "a") as log:
        log.write(f"{name} {os.getpid()} {getattr(content, 'check', None) or hash_of(content)} {took}\n")
    return result


def encode(*arguments: Any) -> Any:
    """Encode."""
    return timed("encode", *arguments)


def decode(*arguments: Any) -> Any:
    """Decode."""
    return timed("decode", *arguments)


def hash_of(content: bytes) -> int:
    """What tells blocks apart; the same as the check in their records."""
    from llmzip.archive.records import content_check

    return content_check(content)


def costs(log: Path) -> dict[tuple[str, str], float]:
    """Seconds of processor time for each block, by what was done and which block it was; without the first of each process."""
    found, had = {}, set()
    for line in log.read_text().splitlines():
        name, process, block, took = line.split()
        if process in had:
            found[name, block] = float(took)
        had.add(process)
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--kib", type=int, default=4)
    parser.add_argument("--model")
    given = parser.parse_args()
    content = given.text.read_bytes()[: given.blocks * given.kib << 10]
    worker.encode, worker.decode = encode, decode  # type: ignore[assignment]
    found, spent = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, given.workers):
            log = Path(folder) / str(workers)
            os.environ[LOG] = str(log)
            options = Options(model=given.model, threads=workers, block_bytes=given.kib << 10)
            codec = Codec(options, blocks=processes.workers(options, workers))
            start = time.monotonic()
            assert codec.decompress(codec.compress(content)) == content
            spent[workers], found[workers] = time.monotonic() - start, costs(log)
    print(
        f"{len(content):,} bytes in blocks of {given.kib} KiB; {spent[1]:.1f} s with one, {spent[given.workers]:.1f} s with {given.workers}\n"
    )
    print(f"| | blocks | one process, s | {given.workers} processes, s | ratio |\n|---|---|---|---|---|")
    for name in ("encode", "decode"):
        both = [key for key in found[1] if key in found[given.workers] and key[0] == name]
        one, several = (sum(found[workers][key] for key in both) for workers in (1, given.workers))
        print(f"| {name} | {len(both)} | {one:.2f} | {several:.2f} | {several / one:.3f} |")


if __name__ == "__main__":
    main()
