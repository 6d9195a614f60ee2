"""Prints sizes of texts under several models: archives at the default level, S of each model, and other compressors.

    python scripts/table_models.py [--weights ID=FILE ...] [--keep FILE] --model MODEL ... TEXT...

S is the sum of -log2 p / 8 of the float32 model (see `float_reference.py`), printed for the models that --float names. Its float weights are those of --weights, or what the model's ID
or path gives. --keep is a JSON file in which numbers are kept, so that a run that was stopped goes on. Needs xz, zstandard and pyppmd.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyppmd
import torch
import zstandard
from float_reference import FloatTransformer, float_model

import llmzip
from llmzip.coding.alphabet import Alphabet

OTHERS: dict[str, Callable[[bytes], int]] = {
    "xz -9e": lambda data: len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
    "zstd -19": lambda data: len(zstandard.ZstdCompressor(level=19).compress(data)),
    "PPMd": lambda data: len(pyppmd.compress(data, max_order=8, mem_size=64 << 20)),
}


class Kept:
    """Numbers by a key, in a file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found: dict[str, float] = json.loads(path.read_text()) if path and path.exists() else {}

    def get(self, key: str, make: Callable[[], float]) -> float:
        """The number under a key, made if it is not there."""
        if key not in self._found:
            self._found[key] = make()
            if self._path:
                self._path.write_text(json.dumps(self._found, indent=1))
        return self._found[key]


class Floats:
    """A float model, loaded when it is needed."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._made: tuple[Alphabet, FloatTransformer] | None = None

    def size(self, data: bytes) -> float:
        """S of a text."""
        if self._made is None:
            model = float_model(self._source)
            self._made = Alphabet(model.tokenizer), FloatTransformer(model)
        alphabet, transformer = self._made
        symbols = alphabet.encode(data)
        known = symbols < alphabet.vocab
        transformer.reset()
        bits = transformer.bits(torch.from_numpy(symbols[known]).long())
        return float(bits.sum()) / 8


def _archive(data: bytes, model: str) -> float:
    return len(llmzip.compress(data, model=model))


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", action="append", default=[], help="ID=FILE: float weights of a model")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--float", action="append", default=[], help="a model whose S is printed")
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("texts", nargs="+", type=Path)
    args = parser.parse_args()
    weights = dict(item.split("=", 1) for item in args.weights)
    kept, floats = Kept(args.keep), {name: Floats(weights.get(name, name)) for name in args.model}
    columns = [column for name in args.model for column in (name, *([f"S {name}", "archive / S"] if name in args.float else []))]
    print("| text | bytes | " + " | ".join([*columns, *OTHERS]) + " |")
    print("|---" * (2 + len(columns) + len(OTHERS)) + "|")
    for path in args.texts:
        data = path.read_bytes()
        key = hashlib.sha256(data).hexdigest()[:16]
        row = []
        for name in args.model:
            archive = kept.get(f"{name} {key}", partial(_archive, data, name))
            row.append(f"{archive:,.0f}")
            if name in args.float:
                size = kept.get(f"S {name} {key}", partial(floats[name].size, data))
                row += [f"{size:,.0f}", f"{archive / size:.3f}"]
        others = [f"{compressed(data):,}" for compressed in OTHERS.values()]
        print(f"| {path.stem} | {len(data):,} | " + " | ".join([*row, *others]) + " |", flush=True)


if __name__ == "__main__":
    main()
