"""Archives of texts with one or more models, next to S of each model and to other compressors; prints Markdown.

    pip install zstandard pyppmd brotli
    python scripts/texts.py FOLDER
    python scripts/table_models.py --s-file S.json --model smollm2-135m-instruct --model NAME --weights PATH FOLDER/*.*

S is the cross-entropy under the float model (`float_reference.py`), one stream. It takes minutes and does not depend on llmzip's code, so
the file after --s-file keeps it, by the model's name and the text's SHA-256: delete that file when the weights change. Archives are made
at the default level by `llmzip.Codec`; `--round-trip` also restores them and compares. Sizes are in bytes.

`--weights` says where the weights of the model named before it are: a .gguf file or a folder. A model that is not registered is given to
llmzip by that path, too. Compressors that are not installed are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from float_reference import FloatTransformer, float_model

from llmzip import Codec, Options
from llmzip.benchmark import competitors
from llmzip.coding.alphabet import Alphabet
from llmzip.models.registry import DEFAULT_MODEL, REGISTRY

OTHERS = "xz -9e", "zstd -19", "7z PPMd", "brotli -11"


class FloatSizes:
    """S of one model, computed only where `file` (JSON) does not have it yet."""

    def __init__(self, file: Path | None, name: str, weights: str) -> None:
        self.file, self.name, self.weights = file, name, weights
        self.known: dict[str, dict[str, float]] = json.loads(file.read_text()) if file and file.exists() else {}

    def of(self, texts: dict[str, bytes]) -> list[float]:
        """S of each text, in bytes."""
        known = self.known.setdefault(self.name, {})
        digests = {label: hashlib.sha256(data).hexdigest() for label, data in texts.items()}
        if missing := [label for label in texts if digests[label] not in known]:
            model = float_model(self.weights)
            alphabet, transformer = Alphabet(model.tokenizer), FloatTransformer(model)
            for label in missing:
                symbols = alphabet.encode(texts[label])
                if (symbols >= alphabet.vocab).any():
                    raise SystemExit(f"{label}: holds bytes outside the vocabulary of {self.name}; S is defined for text only")
                transformer.reset()
                known[digests[label]] = round(float(transformer.bits(torch.from_numpy(symbols).long()).sum()) / 8, 1)
                print(f"{self.name}, {label}: {len(symbols)} tokens, S = {known[digests[label]]}", file=sys.stderr, flush=True)
                if self.file:
                    self.file.write_text(json.dumps(self.known, indent=1) + "\n")
        return [known[digest] for digest in digests.values()]


def archive_sizes(codec: Codec, texts: dict[str, bytes], round_trip: bool) -> list[int]:
    """The size of each text's archive."""
    sizes = []
    for label, data in texts.items():
        archive = codec.compress(data)
        if round_trip and codec.decompress(archive) != data:
            raise SystemExit(f"{label}: what came back differs")
        sizes.append(len(archive))
        print(f"{codec.options.model}, {label}: archive {len(archive)}", file=sys.stderr, flush=True)
    return sizes


def table(texts: dict[str, bytes], models: dict[str, tuple[list[float], list[int]]], others: dict[str, list[int]]) -> str:
    """The table; the last row adds the texts up. Changes are against the first model."""
    head, columns = ["text", "bytes"], [[*texts, "all"], summed([len(data) for data in texts.values()])]
    first: list[int] = []
    for name, (s, archives) in models.items():
        head.append(name)
        columns.append(summed(archives))
        if s:
            head += ["S", "archive / S"]
            columns += [summed(s), [f"{size / exact:.4f}" for size, exact in zip([*archives, sum(archives)], [*s, sum(s)], strict=True)]]
        if first:
            head.append("change")
            pairs = zip([*archives, sum(archives)], [*first, sum(first)], strict=True)
            columns.append([f"{100 * (now / before - 1):+.1f}%" for now, before in pairs])
        first = first or archives
    for name, sizes in others.items():
        head.append(name)
        columns.append(summed(sizes))
    rows = [head, ["---"] * len(head), *map(list, zip(*columns, strict=True))]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def summed(values: Sequence[float]) -> list[str]:
    """A column of sizes, and their sum."""
    return [f"{value:,.0f}" for value in [*values, sum(values)]]


class Weights(argparse.Action):
    """Notes where the weights of the last model are."""

    def __call__(self, parser: argparse.ArgumentParser, given: argparse.Namespace, value: object, option: str | None = None) -> None:
        """Takes one `--weights PATH`."""
        if not given.models:
            parser.error("--weights belongs after the --model that it is of")
        given.weights = {**(given.weights or {}), given.models[-1]: str(value)}


def main() -> None:
    """Prints the table; what is measured goes to standard error as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--model", dest="models", action="append", metavar="NAME", help=f"may be repeated (default: {DEFAULT_MODEL})")
    parser.add_argument("--weights", action=Weights, metavar="PATH", help="a .gguf file or a folder: weights of the model before it")
    parser.add_argument("--s-file", type=Path, metavar="FILE", help="JSON that keeps S")
    parser.add_argument("--no-s", action="append", default=[], metavar="NAME", help="a model whose S is left out; may be repeated")
    parser.add_argument("--round-trip", action="store_true", help="also restore every archive")
    options = parser.parse_args()
    texts = {file.name: file.read_bytes() for file in options.files}
    models: dict[str, tuple[list[float], list[int]]] = {}
    for name in options.models or [DEFAULT_MODEL]:
        weights = (options.weights or {}).get(name, name)
        s = [] if name in options.no_s else FloatSizes(options.s_file, name, weights).of(texts)
        models[name] = s, archive_sizes(Codec(Options(model=name if name in REGISTRY else weights)), texts, options.round_trip)
    found = {contender.name: contender for contender in competitors.find()[0]}
    others = {name: [len(found[name].compress(data)) for data in texts.values()] for name in OTHERS if name in found}
    if absent := [name for name in OTHERS if name not in found]:
        print(f"not installed: {', '.join(absent)}", file=sys.stderr)
    print(table(texts, models, others))


if __name__ == "__main__":
    main()
