"""Shows what `llmzip.salvage` recovers of archives that were damaged at random, by kind of damage.

    python scripts/table_salvage.py [--runs N] [--block BYTES] [FILE]

The archive has two frames: FILE, examples/harbour.txt by default, and then random bytes and numbers. It is made in blocks of BYTES, at
level 1. Decoding with the model would take long. So a coded block whose record differs from the original counts as lost, and the others
give the content that is known from making the archive.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path

import llmzip
from llmzip.archive.records import Block, CodedBlock, ModelRecord
from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModels
from llmzip.errors import LLZError, NotReproducedError
from llmzip.options import Options
from llmzip.salvaging.items import Found, Start
from llmzip.salvaging.scan import scan

Damaged = tuple[bytes, int, int]  # the archive, and which of its bytes were touched


class Remembering(BlockCodec):
    """Decodes only the coded blocks whose content it knows, without the model."""

    def __init__(self, options: Options) -> None:
        super().__init__(LoadedModels(options))
        self.known: dict[Block, bytes] = {}

    def decode(self, record: Block, model: ModelRecord | None, *_: object) -> bytes:
        """Like other block codecs."""
        if not isinstance(record, CodedBlock):
            return super().decode(record, model)
        if record not in self.known or model is None:
            raise NotReproducedError("not tried")
        return self.known[record]


def overwritten(data: bytes, start: int, size: int, rng: random.Random, new: bytes | None = None) -> Damaged:
    """The data with other bytes from `start` on."""
    stop = min(len(data), start + size)
    new = (rng.randbytes(stop - start) if new is None else new)[: stop - start]
    return data[:start] + new + data[stop:], start, stop


def kinds(data: bytes) -> dict[str, Callable[[random.Random], Damaged]]:
    """Ways to damage the archive, by name."""
    n, items = len(data), scan(data)
    records = [item for item in items if isinstance(item, Found)]
    starts = [item for item in items if isinstance(item, Start)]

    def byte(rng: random.Random) -> Damaged:
        at = rng.randrange(n)
        return overwritten(data, at, 1, rng, bytes([data[at] ^ rng.randrange(1, 256)]))

    def border(rng: random.Random) -> Damaged:
        at = rng.choice(records).stop - rng.randrange(1, 20)
        return overwritten(data, at, rng.randrange(20, 40), rng)

    def deleted(rng: random.Random) -> Damaged:
        at, size = rng.randrange(n), rng.randrange(1, 65)
        return data[:at] + data[at + size :], at, at + size

    def inserted(rng: random.Random) -> Damaged:
        at = rng.randrange(n)
        return data[:at] + rng.randbytes(rng.randrange(1, 65)) + data[at:], at, at

    def cut(rng: random.Random) -> Damaged:
        at = rng.randrange(n)
        return data[:at], at, n

    def length(rng: random.Random) -> Damaged:
        at = rng.choice(records).start + 1
        return overwritten(data, at, 1, rng, bytes([data[at] ^ rng.randrange(1, 256)]))

    def record(rng: random.Random) -> Damaged:
        found = rng.choice(records)
        return overwritten(data, found.start, found.stop - found.start, rng)

    return {
        "another byte": byte,
        "up to 64 random bytes": lambda rng: overwritten(data, rng.randrange(n), rng.randrange(2, 65), rng),
        "512 zeros": lambda rng: overwritten(data, rng.randrange(n), 512, rng, bytes(512)),
        "20 to 39 random bytes over a record's end": border,
        "another byte in a record's length": length,
        "a record overwritten": record,
        "a frame's start overwritten": lambda rng: overwritten(data, rng.choice(starts).start, 5, rng),
        "up to 64 bytes deleted": deleted,
        "up to 64 bytes inserted": inserted,
        "cut off": cut,
    }


def is_touched(found: Found, start: int, stop: int) -> bool:
    """Whether the damage touches a record."""
    return found.start < stop and start < found.stop if stop > start else found.start < start < found.stop


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=Path(__file__).parent.parent / "examples" / "harbour.txt", metavar="FILE")
    parser.add_argument("--runs", type=int, default=1000, metavar="N", help="of each kind of damage")
    parser.add_argument("--block", type=int, default=1500, metavar="BYTES")
    options = parser.parse_args()
    rng = random.Random(1)
    chosen = Options(level=1, block_bytes=options.block)
    known = Remembering(chosen)
    codec = Codec(chosen, blocks=known)
    numbers = "".join(f"{i},{i * i}\n" for i in range(2000)).encode()
    contents = [options.file.read_bytes(), rng.randbytes(2 * options.block) + numbers]
    content, archive = b"".join(contents), b"".join(map(codec.compress, contents))
    records = [item for item in scan(archive) if isinstance(item, Found)]
    blocks: list[tuple[Found, int, bytes]] = []
    at = 0
    for found in records:
        if isinstance(found.record, Block):
            blocks.append((found, at, content[at : at + found.record.size]))
            known.known[found.record] = blocks[-1][2]
            at += found.record.size
    coded = sum(isinstance(found.record, CodedBlock) for found, *_ in blocks)
    print(f"{len(archive):,} bytes of archive, {len(blocks)} blocks, {coded} of them coded\n")
    repaired = 0
    for bit in range(8 * len(archive)):
        flipped = archive[: bit // 8] + bytes([archive[bit // 8] ^ 1 << bit % 8]) + archive[bit // 8 + 1 :]
        result = llmzip.salvage(flipped, codec=codec)
        repaired += result.complete and result.content == content
    print(f"one bit flipped: {repaired:,} of {8 * len(archive):,} archives repaired\n")
    print("| damage | untouched blocks recovered | of these, place certain / likely / unknown | touched blocks recovered | wrong |")
    print("|---|---|---|---|---|")
    for name, damage in kinds(archive).items():
        untouched = back = certain = likely = touched = touched_back = wrong = 0
        for seed in range(options.runs):
            data, start, stop = damage(random.Random(f"{name} {seed}"))
            try:
                pieces = llmzip.salvage(data, codec=codec).pieces
            except LLZError:
                pieces = []
            there = {piece.content: piece for piece in pieces}
            wrong += sum(not any(piece.content == c and piece.start in (at, None) for _, at, c in blocks) for piece in pieces)
            for found, _, text in blocks:
                if is_touched(found, start, stop):
                    touched += 1
                    touched_back += text in there
                    continue
                untouched += 1
                if text in there:
                    back += 1
                    certain += there[text].exact
                    likely += not there[text].exact and there[text].start is not None
        places = f"{certain:,} / {likely:,} / {back - certain - likely:,}"
        print(f"| {name} | {back:,} of {untouched:,} | {places} | {touched_back:,} of {touched:,} | {wrong} |", flush=True)


if __name__ == "__main__":
    main()
