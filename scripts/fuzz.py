"""Runs the fuzz targets of tests/support/fuzzing for as long as one likes, and prints the results as a table.

    python scripts/fuzz.py --mutants 1000000 --decodes 20000 --bits
    python scripts/fuzz.py --guided gguf -max_total_time=600

All inputs follow from --seed. If an input ends in a way that is not allowed, it is written to fuzz-broken/, and the exit code is 1. One
thread is used. With --guided, one target runs under atheris (pip install atheris) instead, which looks for inputs that reach new code.
Arguments after the target's name go to libFuzzer. --bits and --real need the default model in the cache.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parent.parent
for _name in ("LLMZIP_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
sys.path[:0] = [str(ROOT), str(ROOT / "scripts" / "reference_decoder")]

from llmzip.models import resolve
from llmzip.models.registry import DEFAULT_MODEL
from tests.support.fuzzing import campaign, coding, containers, modelfiles, mutation, repairing

BROKEN = Path("fuzz-broken")
Run = tuple[str, Callable[[Any], str], Iterable[Any]]  # name, target, inputs


def parsed_arguments() -> argparse.Namespace:
    """The arguments, which say what to run."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--mutants", type=int, default=0, metavar="N", help="containers, for the parser alone")
    p.add_argument("--decodes", type=int, default=0, metavar="N", help="archives with right checks, decoded with a tiny model")
    p.add_argument("--repairs", type=int, default=0, metavar="N", help="archives with parity, to be repaired")
    p.add_argument("--salvages", type=int, default=0, metavar="N", help="archives to be salvaged, with a tiny model")
    p.add_argument("--coder", type=int, default=0, metavar="N", help="bitstreams for the range decoder, and texts for the alphabet")
    p.add_argument("--messages", type=int, default=0, metavar="N", help="messages")
    p.add_argument("--models", type=int, default=0, metavar="N", help="model files of each kind")
    p.add_argument("--bits", action="store_true", help="every flip of one bit in a small archive, of the tiny and of the default model")
    p.add_argument("--real", type=int, default=0, metavar="N", help="flips in the bitstream, decoded with the default model")
    p.add_argument("--guided", choices=["records", "gguf", "export", "tokenizer"], help="one target, under atheris")
    known, rest = p.parse_known_args()
    if rest and not known.guided:
        p.error(f"unknown: {' '.join(rest)}")
    known.rest = rest
    return known


def runs(a: argparse.Namespace, work: Path) -> Iterator[Run]:
    """All runs that the arguments ask for. Models are made only when they are needed."""
    some = itertools.islice
    if a.mutants:
        yield "containers", containers.records, some(containers.inputs(Random(a.seed)), a.mutants)
    if a.repairs:
        yield "archives to repair", repairing.repaired, some(repairing.inputs(Random(a.seed)), a.repairs)
    if a.models:
        files = modelfiles.Files(work)
        yield "GGUF files", files.gguf, some(files.ggufs(Random(a.seed)), a.models)
        yield "folders with safetensors", files.folder, some(files.folders(Random(a.seed)), a.models)
        yield "exported models", files.export, some(files.exports(Random(a.seed)), a.models)
    if not (a.salvages or a.coder or a.messages or a.decodes or a.bits or a.real):
        return
    model = coding.tiny_model()
    codec = coding.codec_of(model)
    loaded = codec.blocks.models.own()
    coding.Archives(codec)(coding.seeds(loaded)[0])  # compiles now, so that no input's time includes that
    if a.coder:
        yield "range decoder", coding.range_decoder, some(coding.random_streams(Random(a.seed)), a.coder)
        yield "symbols", coding.Symbols(model), some(coding.texts(Random(a.seed)), a.coder)
    if a.messages:
        messages = coding.Messages(model)
        yield "messages, 32 at once", messages, some(messages.inputs(Random(a.seed)), -(-a.messages // 32))
    if a.decodes:
        yield "archives, tiny model", coding.Archives(codec), some(coding.archives(Random(a.seed), loaded), a.decodes)
    if a.salvages:
        yield "archives to salvage, tiny model", coding.Salvages(codec), some(coding.damaged(Random(a.seed), loaded), a.salvages)
    if a.bits:
        small = coding.seeds(loaded)[1]
        yield f"each bit of {len(small)} bytes, tiny model", coding.Archives(codec, 1), mutation.flips(small)
        yield "the same, checks of records right", coding.Archives(codec, 1), mutation.rechecked_flips(small)
    if a.bits or a.real:
        real = coding.codec_of(resolve.load(DEFAULT_MODEL, offline=True), DEFAULT_MODEL)
        message = (containers.GOLDEN / "good-real-message.llz").read_bytes()
        yield f"each bit of {len(message)} bytes, default model", coding.Archives(real, 10**9), mutation.flips(message)
        flips = list(mutation.rechecked_flips(message, only_streams=True))
        chosen = Random(a.seed).sample(flips, min(a.real, len(flips)))
        yield f"{len(chosen)} of the {len(flips)} bits of its stream, check right", coding.Archives(real, 10**9), chosen


def keep(tally: campaign.Tally) -> None:
    """Saves the inputs that ended in a way that is not allowed, and prints their errors."""
    for data, error in tally.broken:
        for n, part in enumerate(data if isinstance(data, (tuple, list)) else [data]):
            path = BROKEN / f"{hashlib.sha256(part).hexdigest()[:16]}-{n}"
            BROKEN.mkdir(exist_ok=True)
            path.write_bytes(part)
            print(f"{tally.name}: {path}", file=sys.stderr)
        traceback.print_exception(error)


def guided(name: str, rest: list[str], work: Path) -> None:
    """Runs a target under atheris; does not return."""
    import atheris

    traced = ["llmzip.archive.parser", "llmzip.archive.wire", "llmzip.fileobj.incremental", "llmzip.models", "llmzip.archive.summary"]
    for module in [m for m in sys.modules if m.startswith(("llmzip", "fuzzing"))]:
        del sys.modules[module]
    compiled = ["llmzip.entropy.compiled_frequencies", "llmzip.entropy.compiled_range_coder", "llmzip.engine", "llmzip.adapter"]
    with atheris.instrument_imports(include=traced, exclude=compiled):
        from tests.support.fuzzing import containers, modelfiles
    files = modelfiles.Files(work, every=0)
    seeds = work.parent / "seeds"
    seeds.mkdir()
    first = {
        "records": (containers.records, containers.corpus),
        "gguf": (files.gguf, lambda: list(itertools.islice(files.ggufs(Random(1)), 50))),
        "export": (files.export, lambda: list(itertools.islice(files.exports(Random(1)), 50))),
        "tokenizer": (lambda data: files.folder((files.files[0], data, files.files[2])), lambda: [files.files[1]]),
    }
    target, make = first[name]
    for n, data in enumerate(make()):
        (seeds / str(n)).write_bytes(data)
    atheris.Setup([sys.argv[0], *rest, str(seeds)], lambda data: target(data) and None)
    atheris.Fuzz()


def main() -> None:
    """Runs, prints and exits."""
    a = parsed_arguments()
    with tempfile.TemporaryDirectory() as work:
        if not a.bits and not a.real:
            os.environ["LLMZIP_CACHE"] = work + "/nothing"  # an empty cache: the models that archives name must not be found
        os.chdir(ROOT)
        base = Path(work) / "base"
        base.mkdir()
        if a.guided:
            guided(a.guided, a.rest, base)
        tallies = []
        for name, target, inputs in runs(a, base):
            tallies.append(campaign.run(name, target, inputs))
            print(campaign.table(tallies[-1:]).splitlines()[-1], file=sys.stderr)
            keep(tallies[-1])
        print(campaign.table(tallies))
    sys.exit(any(t.broken for t in tallies))


if __name__ == "__main__":
    main()
