"""Sizes and speeds of the network that starts from nothing, `--model new`, beside compressors that start from nothing, too.

    python scripts/table_new.py TEXT...

Every archive of llmzip is decoded and compared. PPMd is that of pyppmd (order 8, 256 MB); zpaq is a command, run with -m5. What is not installed is
left out.
"""

from __future__ import annotations

import argparse
import lzma
import shutil
import subprocess
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from llmzip.codec.codec import Codec
from llmzip.options import NEW, Options


def ppmd(content: bytes) -> int | None:
    """Bytes by PPMd, as 7-Zip has it."""
    try:
        import pyppmd
    except ImportError:
        return None
    encoder = pyppmd.Ppmd7Encoder(8, 256 << 20)
    return len(encoder.encode(content) + encoder.flush())


def zpaq(content: bytes) -> int | None:
    """Bytes by zpaq -m5."""
    command = shutil.which("zpaq")
    if command is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file, archive = Path(folder, "text"), Path(folder, "a.zpaq")
        file.write_bytes(content)
        subprocess.run([command, "a", str(archive), str(file), "-m5"], check=True, capture_output=True)
        return archive.stat().st_size


def main() -> None:
    """Prints the table, a row when it is ready."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    codec = Codec(Options(model=NEW))
    codec.decompress(codec.compress(b"all is compiled, " * 9))
    print("| text | bytes | --model new | bits/byte | xz -9e | PPMd | zpaq -m5 | KB/s, both ways |\n|---|---|---|---|---|---|---|---|")
    for file in parser.parse_args().files:
        content, times = file.read_bytes(), [time.perf_counter()]
        archive = codec.compress(content)
        times.append(time.perf_counter())
        if codec.decompress(archive) != content:
            raise SystemExit(f"{file}: does not come back")
        times.append(time.perf_counter())
        there, back = (len(content) / 1000 / (after - before) for before, after in pairwise(times))
        xz = len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
        others = " | ".join("–" if size is None else f"{size:,}" for size in (xz, ppmd(content), zpaq(content)))
        bits = 8 * len(archive) / len(content)
        print(f"| {file.name} | {len(content):,} | {len(archive):,} | {bits:.3f} | {others} | {there:.0f}, {back:.0f} |", flush=True)


if __name__ == "__main__":
    main()
