"""What parity costs, what it repairs and how long that takes: the tables of docs/performance.md. No model is needed.

    python scripts/table_parity.py --trials 1000

Archives are random bytes here: parity does not look into what it protects. Everything comes from --seed.
"""

from __future__ import annotations

import argparse
import time
from random import Random

from llmzip.archive.parity import frame as parity_frame
from llmzip.archive.parity import layout as parity_layout
from llmzip.archive.parity.repair import restore
from llmzip.errors import DamagedArchiveError

SIZES = (1_000, 5_000, 20_000, 130_000, 2_000_000)
PERCENTAGES = (1, 5, 10, 20, 30, 50)
TRIED = (1_000, 20_000, 130_000)  # sizes of the archives that are damaged many times


def protected(size: int, percent: int, rng: Random) -> bytes:
    """An archive with parity."""
    data = rng.randbytes(size)
    return data + parity_frame.frame(data, parity_layout.choose(size, percent))


def comes_back(archive: bytes, damaged: bytes) -> bool:
    """Whether the archive is repaired. Once repaired, it must equal the original."""
    try:
        repaired = restore(damaged)
    except DamagedArchiveError:
        return False
    assert repaired is None or repaired.archive == archive
    return repaired is not None


def with_piece(archive: bytes, size: int, rng: Random) -> bytes:
    """The archive with one piece of random bytes, at a random place."""
    at = rng.randrange(len(archive) - size + 1)
    return archive[:at] + rng.randbytes(size) + archive[at + size :]


def with_hits(archive: bytes, hits: int, rng: Random) -> bytes:
    """The archive with so many bytes changed, at random places."""
    damaged = bytearray(archive)
    for at in rng.sample(range(len(archive)), hits):
        damaged[at] ^= rng.randrange(1, 256)
    return bytes(damaged)


def cost() -> None:
    """Prints what parity adds, in percent of the archive."""
    print("| archive, bytes |" + "".join(f" {p}% |" for p in PERCENTAGES))
    print("|---|" + "---|" * len(PERCENTAGES))
    for size in SIZES:
        added = (100 * parity_layout.choose(size, p).frame_size / size for p in PERCENTAGES)
        print(f"| {size:,} |" + "".join(f" {a:.1f} |" if a < 100 else f" {a:.0f} |" for a in added))


def repaired(trials: int, seed: int, sizes: tuple[int, ...] = TRIED) -> None:
    """Prints the share of damaged archives that are repaired. Each row has its own seed, so that it can be made alone."""
    print(
        "| archive, bytes | parity | one piece of that share | parts of parity | as many bytes hit, at random | 3/4 as many | half as many |"
    )
    print("|---|---|---|---|---|---|---|")
    for size in sizes:
        for percent in (5, 10, 20):
            rng = Random(f"{seed} {size} {percent}")
            archive, layout = protected(size, percent, rng), parity_layout.choose(size, percent)
            piece, parts = len(archive) * percent // 100, layout.groups * layout.parity
            shares = [sum(comes_back(archive, with_piece(archive, piece, rng)) for _ in range(trials)) / trials]
            for hits in (parts, 3 * parts // 4, parts // 2):
                shares.append(sum(comes_back(archive, with_hits(archive, hits, rng)) for _ in range(trials)) / trials)
            one, *scattered = (f"{100 * s:.1f}%" for s in shares)
            print(f"| {size:,} | {percent}% | {one} | {parts} | " + " | ".join(scattered) + " |", flush=True)


def times(rng: Random) -> None:
    """Prints the seconds of one core."""
    print("| archive, bytes | parity | making it, s | repairing a piece of that share, s |")
    print("|---|---|---|---|")
    for size in (20_000, 2_000_000):
        for percent in (10, 50):
            start = time.process_time()
            archive = protected(size, percent, rng)
            made = time.process_time()
            damaged = with_piece(archive, len(archive) * percent // 100, rng)
            begun = time.process_time()
            assert comes_back(archive, damaged)
            print(f"| {size:,} | {percent}% | {made - start:.3f} | {time.process_time() - begun:.3f} |")


def main() -> None:
    """Prints all tables."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--trials", type=int, default=1000, help="damaged archives of each kind")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    cost()
    print()
    times(Random(a.seed))
    print()
    repaired(a.trials, a.seed)


if __name__ == "__main__":
    main()
