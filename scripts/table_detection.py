"""Shows how soon a decoder with a changed model decodes a wrong symbol, and how soon after that it notices.

    python scripts/table_detection.py [--runs N] [--seed N] FILE

FILE is coded with the default model. Then it is decoded with models that differ from the default one in a single random weight, by the
smallest possible step, until the decoder notices. Prints, in Markdown, both numbers of symbols for each model, and a summary of all.
"""

from __future__ import annotations

import argparse
import io
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmzip.archive.parser import read_records
from llmzip.archive.records import CodedBlock, ModelRecord
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import PretrainedModel
from llmzip.coding.block_coder import BlockCoder, _Decoding
from llmzip.coding.lanes import LaneLayout
from llmzip.errors import NotReproducedError
from llmzip.models import resolve
from llmzip.models.convert import IntegerModel
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.options import Options


def altered(model: IntegerModel, rng: random.Random) -> tuple[str, IntegerModel]:
    """A name for the change, and the model with one weight changed by one step."""
    name = rng.choice([n for n, t in model.tensors.items() if t.dtype.kind == "i"])
    weights = model.tensors[name].copy()
    place = tuple(rng.randrange(n) for n in weights.shape)
    weights[place] += -1 if weights[place] > 0 else 1
    return f"{name}{list(place)}", replace(model, tensors=model.tensors | {name: weights})


def decode(coder: BlockCoder, block: CodedBlock, symbols: NDArray[np.int32]) -> tuple[int | None, int | None]:
    """Symbols decoded before the first wrong one, and symbols from there until the decoder noticed. None if that never happened."""
    layout = LaneLayout(len(symbols), block.lanes)
    end = _Decoding(layout, block.stream, coder._make_adapter(layout, coder._adapter))
    steps = 0

    def count(symbols: int, stream_bytes: int) -> None:
        nonlocal steps
        steps += 1

    noticed = False
    try:
        coder._run(layout, end, count)
    except NotReproducedError:
        noticed = True
    wrong = (end.grid != layout.to_grid(symbols)).T[:steps].reshape(-1)
    if not wrong.any():
        return None, None
    first = int(wrong.argmax())
    return first, steps * block.lanes - first if noticed else None


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng, options = random.Random(given.seed), Options()
    codec = Codec(options)
    loaded = codec.blocks.models.own()
    text = given.file.read_bytes()
    parts = [placed.record for placed in read_records(io.BytesIO(codec.compress(text)))]
    record, block = next(p for p in parts if isinstance(p, ModelRecord)), next(p for p in parts if isinstance(p, CodedBlock))
    symbols = loaded.alphabet.encode(text[: block.size])
    model = resolve.load(DEFAULT_MODEL)
    after = []
    print(
        f"{len(symbols):,} symbols in {block.lanes} lanes\n\n| weight | symbols before the first wrong one | wrong ones until noticed |\n|---|---|---|"
    )
    for _ in range(given.runs):
        name, other = altered(model, rng)
        right, wrong = decode(PretrainedModel(DEFAULT_MODEL, other, options).coder(record), block, symbols)
        print(f"| `{name}` | {'all' if right is None else f'{right:,}'} | {'-' if wrong is None else f'{wrong:,}'} |", flush=True)
        after += [math.inf if wrong is None else wrong] * (right is not None)
    after.sort()
    print(
        f"\n{len(after)} went wrong; noticed after {np.mean(after):,.0f} wrong symbols on average, median {np.median(after):,.0f}, most {after[-1]:,.0f}."
    )


if __name__ == "__main__":
    main()
