"""Sizes and speeds of llmzip on given files, next to the float model on the same machine in the same run.

    python scripts/bench.py [--lanes N] [--csv FILE] [--s-below BYTES] TEXT...

For each file: runs `llmzip compress` and `llmzip decompress` as whole processes, model loading included, checks that the
content comes back, and runs the yardstick (`yardstick.py`) before, between and after. Prints, and writes as CSV: bytes,
tokens, archive, bits per byte, archive / S, tokens and bytes per second both ways and their ratio to the yardstick's
median, peak memory, and the start-up: seconds of a whole process for a message of 100 bytes, both ways.

S is the cross-entropy under the float model (`float_reference.py`). Computing it takes minutes, so that is done only for
files below --s-below. If the CSV has S for a file of the same name and size, it is taken from there, because S does not
depend on llmzip's code.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from float_reference import FloatTransformer, float_model

from llmzip.coding.alphabet import Alphabet
from llmzip.models.registry import DEFAULT_MODEL

COLUMNS = {
    "file": "file",
    "bytes": "bytes",
    "archive": "archive",
    "bits_per_byte": "bits/byte",
    "archive_over_S": "archive / S",
    "compress_tokens_per_s": "compress, tokens/s",
    "decompress_tokens_per_s": "decompress, tokens/s",
    "yardstick_tokens_per_s": "float32 forward, tokens/s",
    "peak_mb": "peak memory, MB",
}
MESSAGE = b"Snow on the pass tonight, so we stay in the valley. Will call again at noon tomorrow. All is well.\n\n"

# Linux reports the peak of one program here; a child's rusage would include the memory of its parent at the fork.
_RUN = """
import os, re, sys
from llmzip.__main__ import run
status, leave = open("/proc/self/status"), os._exit
os._exit = lambda code: (print(re.search(r"VmHWM:\\s*(\\d+)", status.read())[1], flush=True), leave(code))
run()
"""


def markdown(rows: list[dict[str, object]]) -> str:
    """The README's table."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    body = [[f"{row[k]:,}" if isinstance(row[k], int) else str(row[k]) for k in COLUMNS] for row in rows]
    return "\n".join([line(list(COLUMNS.values())), line(["---"] * len(COLUMNS)), *map(line, body)])


def timed(*args: str) -> tuple[float, int]:
    """Seconds and peak memory (MB) of one run of llmzip."""
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", _RUN, *args], check=True, stdout=subprocess.PIPE)
    return time.perf_counter() - start, int(result.stdout.split()[-1]) // 1024


def round_trip(file: Path, lanes: list[str], folder: Path, between: list[float] | None = None) -> dict[str, float]:
    """Compresses and restores in whole processes. The yardstick runs in between if `between` is given; its speeds are added there."""
    archive, back = folder / "a.llz", folder / "a"
    seconds, peak = timed("compress", "-f", *lanes, "-o", str(archive), str(file))
    if between is not None:
        between += yardstick(file)
    back_seconds, back_peak = timed("decompress", "-f", "-o", str(back), str(archive))
    if back.read_bytes() != file.read_bytes():
        raise SystemExit(f"{file}: what came back differs")
    size = archive.stat().st_size
    return {"archive": size, "compress_s": seconds, "decompress_s": back_seconds, "peak_mb": max(peak, back_peak)}


def yardstick(file: Path) -> list[float]:
    """Tokens per second of the float forward pass, in a process of its own."""
    script = Path(__file__).with_name("yardstick.py")
    result = subprocess.run([sys.executable, str(script), str(file)], check=True, stdout=subprocess.PIPE)
    return [float(x) for x in result.stdout.split()]


def main() -> None:
    """Runs and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--lanes", type=int)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--s-below", type=int, default=200_000, metavar="BYTES", help="compute S for files smaller than this")
    options = parser.parse_args()
    model = float_model(DEFAULT_MODEL)
    alphabet = Alphabet(model.tokenizer)
    lanes = ["--lanes", str(options.lanes)] if options.lanes else []
    known = {}
    if options.csv and options.csv.exists():
        with open(options.csv, encoding="utf-8") as f:
            known = {(row["file"], row["bytes"]): float(row["S"]) for row in csv.DictReader(f) if row["S"] != "-"}
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        message = folder / "message"
        message.write_bytes(MESSAGE)
        starts = [round_trip(message, [], folder) for _ in range(3)]
        start_up = {f"start_{a}_s": round(statistics.median(s[f"{a}_s"] for s in starts), 2) for a in ("compress", "decompress")}
        print(f"a message of {len(MESSAGE)} bytes:", start_up, flush=True)
        for file in options.files:
            data = file.read_bytes()
            tokens = alphabet.encode(data)
            speeds = yardstick(file)
            figures = round_trip(file, lanes, folder, speeds)
            speeds += yardstick(file)
            base = statistics.median(speeds)
            size = int(figures["archive"])
            row: dict[str, object] = {"file": file.name, "bytes": len(data), "tokens": len(tokens), "archive": size}
            row |= {"bits_per_byte": round(8 * size / len(data), 4), "S": "-", "archive_over_S": "-"}
            s = known.get((file.name, str(len(data))))
            if s is None and len(data) < options.s_below:
                s = float(FloatTransformer(model).bits(torch.from_numpy(tokens).long()).sum()) / 8
            if s is not None:
                row |= {"S": round(s, 1), "archive_over_S": round(size / s, 4)}
            for action in ("compress", "decompress"):
                seconds = figures[f"{action}_s"]
                row[f"{action}_s"] = round(seconds, 1)
                row[f"{action}_tokens_per_s"] = round(len(tokens) / seconds)
                row[f"{action}_bytes_per_s"] = round(len(data) / seconds)
                row[f"{action}_over_yardstick"] = round(len(tokens) / seconds / base, 2)
            row |= {"yardstick_tokens_per_s": round(base), "peak_mb": int(figures["peak_mb"]), **start_up}
            rows.append(row)
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    print(markdown(rows))


if __name__ == "__main__":
    main()
