"""What the process costs that drives others: its own processor time and memory for each block, and while it waits.

    python scripts/driver_cost.py [--blocks N] [--workers N] [--engine processes|local] [--wait SECONDS]

Compresses N blocks of 1 MiB and decompresses them again, through the same pools as always, but the workers compute nothing: an encoder gives a
bitstream of an eighth of the content, a decoder a text of the size that is asked for. All else is real: reading, cutting, handing over, order,
checks, writing. Then two workers sleep for SECONDS each, to see what waiting costs. Prints a table in Markdown: milliseconds of processor time
(user and system) of this process for each block, those for each second of waiting, and its largest memory so far, with what it
shares with a node's object store.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

sys.path.insert(0, str(Path(__file__).parent.parent))

from llmzip.archive.records import CodedBlock, ModelRecord, content_check
from llmzip.cluster.supply import Wanted
from llmzip.codec import processes, worker
from llmzip.codec.block_codec import BlockCodec, EncodedBlock
from llmzip.codec.codec import Codec
from llmzip.codec.side_by_side import Workers
from llmzip.options import Options
from llmzip.parameters import LEVELS

MIB = 1 << 20
LINE = b"a line of text, which is as good as any other one here\n"
PATTERN = LINE * (MIB // len(LINE) + 1)
_LEVEL = LEVELS[6]
MODEL = ModelRecord("none", b"\1" * 8, b"\2" * 8, _LEVEL.span, _LEVEL.adapter)


def encode(_blocks: BlockCodec, _progress: Any, content: bytes, *_: Any) -> Any:
    """A block that holds nothing."""
    return EncodedBlock(CodedBlock(len(content), len(content) // 4, 1, content_check(content), bytes(len(content) // 8)), MODEL), None


def decode(_blocks: BlockCodec, _progress: Any, record: CodedBlock, *_: Any) -> bytes:
    """The content of such a block."""
    return PATTERN[: record.size]


def sleep(seconds: float, blocks: BlockCodec, progress: Any, content: bytes, *more: Any) -> Any:
    """The same, after some time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.05)
        progress(0.5, 1)
    return encode(blocks, progress, content, *more)


class Source(io.RawIOBase):
    """Lines, without end until there were enough."""

    def __init__(self, size: int) -> None:
        self._left, self._at = size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, into: Any) -> int:
        """Fill it."""
        size = min(len(into), self._left, len(PATTERN) - len(LINE))
        start = self._at % len(LINE)
        into[:size] = PATTERN[start : start + size]
        self._at, self._left = self._at + size, self._left - size
        return size


class Cost:
    """Processor time of this process since the last time it was asked for."""

    def __init__(self) -> None:
        self._before = self._now()

    @staticmethod
    def _now() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    def milliseconds(self) -> float:
        """Of user and system."""
        before, self._before = self._before, self._now()
        return 1000 * (self._before - before)


@contextlib.contextmanager
def codec(engine: str, workers: int) -> Iterator[Codec]:
    """A codec on a pool."""
    options = Options(threads=1)
    if engine == "processes":
        yield Codec(options, blocks=processes.workers(options, workers))
        return
    from llmzip.cluster.joining import joined
    from llmzip.cluster.nodes import Share

    with joined("local", Share(), workers) as cluster, cluster.pool(options, workers, False, print) as pool:
        yield Codec(options, blocks=Workers(options, pool))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engine", choices=["processes", "local"], default="processes")
    parser.add_argument("--wait", type=float, default=20.0)
    given = parser.parse_args()
    worker.encode, worker.decode = encode, decode  # type: ignore[assignment]
    Wanted.named_by = classmethod(lambda cls, record: None)  # type: ignore[assignment,method-assign]  # no model is looked for
    with codec(given.engine, given.workers) as driving, tempfile.TemporaryFile() as archive:
        source: BinaryIO = Source(3 * MIB)  # type: ignore[assignment]
        driving.compress_stream(source, io.BytesIO())  # starts the workers
        cost, size = Cost(), given.blocks * MIB
        rows = []
        for what in ("compress", "decompress"):
            start = time.monotonic()
            if what == "compress":
                driving.compress_stream(io.BufferedReader(Source(size)), archive)
            else:
                archive.seek(0)
                with open("/dev/null", "wb") as nowhere:
                    driving.decompress_stream(archive, nowhere)
            rows.append((what, cost.milliseconds() / given.blocks, time.monotonic() - start, memory()))
        worker.encode = functools.partial(sleep, given.wait)  # type: ignore[assignment]
        cost.milliseconds()
        driving.compress_stream(io.BytesIO(PATTERN[:MIB]), io.BytesIO(), report=lambda done, archive: None)
        waiting = cost.milliseconds() / given.wait
    print(f"\n{given.blocks} blocks of 1 MiB, {given.workers} workers, {given.engine}; waiting: {waiting:.2f} ms for each second\n")
    print("| | processor time of the driver, ms for each block | seconds | largest memory, MB |\n|---|---|---|---|")
    for what, each, seconds, most in rows:
        print(f"| {what} | {each:.2f} | {seconds:.0f} | {most} |")


def memory() -> str:
    """Most that this process has taken so far, in MB, and how much of what it has now is shared memory."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f}; {int(status['RssShmem'].split()[0]) / 1000:.0f} shared"


if __name__ == "__main__":
    main()
