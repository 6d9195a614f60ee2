"""Sizes and speeds of llmzip on given files, next to the float model on the same machine.

    python scripts/bench.py [--lanes N] [--csv FILE] [--skip-float] TEXT...

Runs `llmzip compress` and `llmzip decompress` as whole processes, model loading included, checks that the content comes
back, and prints for each file: bytes, tokens, archive, bits per byte, archive / S, tokens per second both ways, peak
memory. S and the yardstick come from the plain float32 implementation in `float_reference.py`; the yardstick is the
tokens per second of its forward pass over the first 4,096 tokens.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from float_reference import FloatLlama, float_model

from llmzip.models.registry import DEFAULT_MODEL
from llmzip.symbols import Alphabet

COLUMNS = {
    "file": "file",
    "bytes": "bytes",
    "archive": "archive",
    "bits_per_byte": "bits/byte",
    "archive_over_S": "archive / S",
    "compress_tokens_per_s": "compress, tokens/s",
    "decompress_tokens_per_s": "decompress, tokens/s",
    "yardstick_tokens_per_s": "float32 forward, tokens/s",
}


def markdown(rows: list[dict[str, object]]) -> str:
    """The README's table."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    body = [[f"{row[k]:,}" if isinstance(row[k], int) else str(row[k]) for k in COLUMNS] for row in rows]
    return "\n".join([line(list(COLUMNS.values())), line(["---"] * len(COLUMNS)), *map(line, body)])


# Linux reports the peak of one program here; rusage of a child would include its parent's at the fork.
_RUN = """
import atexit, re, sys
from llmzip.cli import main
status = open("/proc/self/status")
atexit.register(lambda: print(re.search(r"VmHWM:\\s*(\\d+)", status.read())[1]))
main()
"""


def timed(*args: str) -> tuple[float, int]:
    """Seconds and peak memory (MB) of one run of llmzip."""
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", _RUN, *args], check=True, stdout=subprocess.PIPE)
    return time.perf_counter() - start, int(result.stdout.split()[-1]) // 1024


def main() -> None:
    """Runs and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--lanes", type=int)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--skip-float", action="store_true", help="take S and the yardstick from the CSV, if it has them")
    options = parser.parse_args()
    model = float_model(DEFAULT_MODEL)
    alphabet = Alphabet(model.tokenizer)
    lanes = ["--lanes", str(options.lanes)] if options.lanes else []
    before = {}
    if options.skip_float and options.csv and options.csv.exists():  # S and the yardstick do not depend on llmzip's code
        with open(options.csv, encoding="utf-8") as f:
            before = {row["file"]: row for row in csv.DictReader(f)}
    rows = []
    for file in options.files:
        data = file.read_bytes()
        tokens = alphabet.encode(data)
        row: dict[str, object] = {"file": file.name, "bytes": len(data), "tokens": len(tokens)}
        with tempfile.TemporaryDirectory() as folder:
            archive, back = Path(folder) / "a.llz", Path(folder) / "a"
            for action, arguments in (
                ("compress", [*lanes, "-o", str(archive), str(file)]),
                ("decompress", ["-o", str(back), str(archive)]),
            ):
                seconds, memory = timed(action, *arguments)
                row[f"{action}_tokens_per_s"] = round(len(tokens) / seconds)
                row[f"{action}_s"] = round(seconds, 1)
                row["peak_mb"] = max(memory, int(str(row.get("peak_mb", 0))))
            if back.read_bytes() != data:
                raise SystemExit(f"{file}: what came back differs")
            size = archive.stat().st_size
        row |= {"archive": size, "bits_per_byte": round(8 * size / len(data), 4)}
        if not options.skip_float:
            llama = FloatLlama(model)
            start = time.perf_counter()
            llama.bits(torch.from_numpy(tokens[:4096]).long())
            row["yardstick_tokens_per_s"] = round(min(4096, len(tokens)) / (time.perf_counter() - start))
            llama.reset()
            s = float(llama.bits(torch.from_numpy(tokens).long()).sum()) / 8
            row |= {"S": round(s, 1), "archive_over_S": round(size / s, 4)}
        elif known := before.get(file.name):
            row |= {"yardstick_tokens_per_s": int(known["yardstick_tokens_per_s"]), "S": float(known["S"])}
            row["archive_over_S"] = round(size / float(known["S"]), 4)
        rows.append(row)
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    if "S" in rows[0]:
        print(markdown(rows))


if __name__ == "__main__":
    main()
