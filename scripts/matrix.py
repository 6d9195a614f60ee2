"""Makes archives under every setting that a machine can be given. All archives must be the same, and all must decode.

    python scripts/matrix.py [--inputs NAME ...] [--only WORD ...] [--python PATH ...] [--between] [--tests FILE ...] [--markdown]

Two inputs are compressed and decompressed under each setting, in processes of their own: a text of 10,000 symbols on a tiny model made from
a seed (`tiny`), and one of 300 tokens on the default model (`default`). Others can be asked for: a family of `tests/support/families.py`, whose small
random model codes 700 symbols, or any model's name. All are coded in several lanes and with all parts that learn. Each setting decodes its
own archive. If all archives are equal, it has then decoded all of them. If some differ, every setting decodes each of the different ones.

--python also runs in virtual environments. It makes them with the interpreters given, with the oldest and the newest libraries that pyproject
allows (see `environments.py`), one at a time. Each takes gigabytes on platforms whose torch brings CUDA along. --between also makes
environments with the versions between those, with the last of the interpreters; there each input runs only in the way that takes less
compiling. Each environment fetches and converts the model anew. --tests runs test files in each of them. --only keeps settings whose group
or name contains one of the words.

Exits with 1 if anything differs, fails to decode or fails to run.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llvmlite.binding
import torch
from numpy._core._multiarray_umath import __cpu_dispatch__ as NUMPY_DISPATCH

from llmzip.models.registry import DEFAULT_MODEL
from llmzip.options import NEW

sys.path.insert(0, str(Path(__file__).parent.parent))
from scripts.environments import NEWEST, ROOT, Environment, between, ends
from tests.support import families, tiny
from tests.support.surroundings import SURROUNDINGS

INSTRUCTIONS = "instruction sets"
REFERENCE = "as it is"
ABSENT = "not on this machine"
RAW = b"\xff\0 raw bytes too \x04\x05\r\n"


@dataclass(frozen=True)
class Setting:
    """What a process is given: variables of its environment, and options of the worker. `needs` is a feature of the processor, or cuda."""

    group: str
    name: str
    variables: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    needs: str = ""


@dataclass(frozen=True)
class Input:
    """A text and the model it is coded with."""

    name: str
    model: str
    text: Path
    options: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """An interpreter, and the variables that all of its processes get."""

    python: str
    variables: dict[str, str]

    def run(self, command: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Runs Python in the repository, with one thread if `variables` does not say otherwise."""
        inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LLMZIP_CACHE") or k.startswith(("PIP_", "SSL_"))}
        env = inherited | {"PYTHONPATH": str(ROOT)} | threads(1) | self.variables | variables
        return subprocess.run([self.python, *command], env=env, cwd=ROOT, capture_output=True, text=True, check=False)


@dataclass
class Outcome:
    """The result of an input under a setting."""

    place: Place
    setting: Setting
    archive: bytes = b""
    answer: dict[str, Any] = field(default_factory=dict)
    trouble: str = ""


def threads(n: int) -> dict[str, str]:
    """The variables that let libraries have n threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(n))


def numba_for(cpu: str, features: str) -> dict[str, str]:
    """The variables that make numba compile for a processor, with these features of it and those that they include."""
    return {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}


GENERIC, NEHALEM, HASWELL = numba_for("generic", ""), numba_for("nehalem", "+sse4.2,+popcnt"), numba_for("haswell", "+avx2,+fma")
SKYLAKE = numba_for("skylake-avx512", "+avx2,+fma,+avx512f,+avx512bw,+avx512dq,+avx512vl")
CASCADE_LAKE = numba_for("cascadelake", "+avx2,+fma,+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni")
SAPPHIRE_RAPIDS = numba_for("sapphirerapids", f"{CASCADE_LAKE['NUMBA_CPU_FEATURES']},+amx-tile,+amx-int8")
PLAIN_NUMPY = {"NPY_DISABLE_CPU_FEATURES": " ".join(NUMPY_DISPATCH)}


def caps() -> Iterator[Setting]:
    """Each library limited to each set of instructions, where it computes; then all libraries together."""
    in_torch = ("--kernel=torch",)
    levels = {
        "oneDNN": ("ONEDNN_MAX_CPU_ISA", {"SSE41": "", "AVX2": "avx2", "AVX512_CORE": "avx512f", "AVX512_CORE_VNNI": "avx512vnni",
                                          "AVX512_CORE_AMX": "amx-int8"}),
        "MKL's results": ("MKL_CBWR", {"COMPATIBLE": "", "SSE4_2": "", "AVX2": "avx2", "AVX512": "avx512f"}),
        "MKL": ("MKL_ENABLE_INSTRUCTIONS", {"SSE4_2": "", "AVX2": "avx2", "AVX512": "avx512f", "AVX512_E1": "avx512vnni"}),
        "torch": ("ATEN_CPU_CAPABILITY", {"default": "", "avx2": "avx2", "avx512": "avx512f"}),
    }  # fmt: skip
    for library, (variable, values) in levels.items():
        for value, needs in values.items():
            yield Setting(INSTRUCTIONS, f"{library}: {value}", {variable: value}, in_torch, needs)
    compiled = {"any x86-64": (GENERIC, ""), "SSE4.2": (NEHALEM, "sse4.2"), "AVX2": (HASWELL, "avx2"), "AVX-512": (SKYLAKE, "avx512f")}
    for name, (variables, needs) in (compiled | {"AVX-512 VNNI": (CASCADE_LAKE, "avx512vnni")}).items():
        yield Setting(INSTRUCTIONS, f"numba: {name}", variables, needs=needs)
    yield Setting(INSTRUCTIONS, "numba: AMX", SAPPHIRE_RAPIDS, needs="amx-int8")
    yield Setting(INSTRUCTIONS, "compiled layers: no AMX", {"LLMZIP_AMX": "0"}, needs="amx-int8")
    yield Setting(INSTRUCTIONS, "numpy: its baseline", PLAIN_NUMPY)

    def held(onednn: str, mkl: str, aten: str) -> dict[str, str]:
        return {"ONEDNN_MAX_CPU_ISA": onednn, "MKL_ENABLE_INSTRUCTIONS": mkl, "ATEN_CPU_CAPABILITY": aten}

    together = {
        "SSE4": (held("SSE41", "SSE4_2", "default") | NEHALEM | PLAIN_NUMPY, ""),
        "AVX2": (held("AVX2", "AVX2", "avx2") | HASWELL, "avx2"),
        "AVX-512": (held("AVX512_CORE", "AVX512", "avx512") | SKYLAKE, "avx512f"),
    }
    for name, (variables, needs) in together.items():
        yield Setting(INSTRUCTIONS, f"all: {name}", variables, needs=needs)
        yield Setting(INSTRUCTIONS, f"all: {name}, in torch", variables, in_torch, needs)


def settings() -> list[Setting]:
    """All settings except the libraries' versions. The others are compared with the first."""
    slowest = ("--threads=4", "--kernel=float64", "--rows=1")
    return [
        Setting("reference", REFERENCE),
        *(caps() if platform.machine() in ("x86_64", "AMD64") else ()),
        *(Setting("threads", str(n), threads(n), (f"--threads={n}",)) for n in (2, 4)),
        Setting("operations", "torch", {}, ("--kernel=torch",)),
        *(Setting("operations", f"torch, {kernel} products", {}, (f"--kernel={kernel}",)) for kernel in ("int8", "float32", "float64")),
        *(Setting("rows at once", str(n), {}, (f"--rows={n}",)) for n in (1, 7, 77, 4096)),
        Setting("memory", "overwritten when freed", {"MALLOC_PERTURB_": "165"}),
        Setting("together", "4 threads, 7 rows, AVX2", threads(4) | HASWELL, ("--threads=4", "--rows=7"), "avx2"),
        Setting("together", "4 threads, torch, float64, 1 row, SSE4", threads(4) | {"ATEN_CPU_CAPABILITY": "default"} | NEHALEM, slowest),
        *(Setting("surroundings", name, {}, (f"--surroundings={name}",)) for name in SURROUNDINGS),
        *(Setting("surroundings", f"{name}, in torch", {}, (f"--surroundings={name}", "--kernel=torch")) for name in SURROUNDINGS),
        Setting("device", "CUDA", {}, ("--device=cuda",), "cuda"),
    ]


def available(needs: str) -> bool:
    """Whether this machine has the feature."""
    return not needs or (torch.cuda.is_available() if needs == "cuda" else llvmlite.binding.get_host_cpu_features().get(needs, False))


def code(place: Place, setting: Setting, given: Input, decode: Path | None = None) -> Outcome:
    """Compresses and decompresses an input in a process of its own, and decodes another archive of it if asked to."""
    more = [f"--decode={decode}"] if decode else []
    first = [] if any(o.startswith("--threads") for o in setting.options) else ["--threads=1"]
    command = ["-m", "tests.support.exactness_worker", given.model, str(given.text), *given.options, *first, *setting.options, *more]
    result = place.run(command, setting.variables)
    if result.returncode:
        return Outcome(place, setting, trouble="failed: " + (result.stderr.strip().splitlines() or ["no message"])[-1][:200])
    answer = json.loads(result.stdout.splitlines()[-1])
    if "refused" in answer:
        return Outcome(place, setting, answer=answer)
    return Outcome(place, setting, base64.b64decode(answer["archive"]), answer, "" if answer["decoded"] else "does not decode")


def libraries(answer: dict[str, Any]) -> dict[str, str]:
    """The versions of Python and of the libraries in pyproject, from the answer of a process."""
    found = answer.get("versions", {})
    return {name: found.get(name, "-") for name in ("Python", *NEWEST)}


class Matrix:
    """The rows of the table as they come, and what went wrong."""

    def __init__(self, inputs: list[Input]) -> None:
        self.inputs = inputs
        self.outcomes: dict[str, list[Outcome]] = {i.name: [] for i in inputs}
        self.rows: list[list[str]] = []
        self.troubles: list[str] = []
        self.decodings = 0

    def row(self, *cells: str) -> None:
        """Prints a row."""
        self.rows.append(list(cells))
        widths = (18, 40, *[12] * len(self.inputs), 40)
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip(), flush=True)

    def note(self, group: str, name: str, what: str) -> None:
        """A row that says one thing instead of outcomes."""
        self.row(group, name, *["-"] * len(self.inputs), what)

    def trouble(self, group: str, name: str, what: str) -> None:
        """Remembers what went wrong, for the end and the exit code."""
        self.troubles.append(f"{group}, {name}: {what}")

    def add(self, place: Place, setting: Setting, only: str = "") -> dict[str, Any]:
        """Runs a setting on all inputs, or only on one. Returns the answer of the last process."""
        cells, answer = list[str](), dict[str, Any]()
        for given in self.inputs:
            if only not in ("", given.name):
                cells.append("-")
                continue
            outcome = code(place, setting, given)
            answer = outcome.answer or answer
            if "refused" in outcome.answer:
                cells.append("refused")
                continue
            known = self.outcomes[given.name]
            known.append(outcome)
            self.decodings += not outcome.trouble
            cell = "same" if outcome.archive == known[0].archive else "DIFFERS"
            if outcome.trouble or cell != "same":
                self.trouble(setting.group, setting.name, f"{given.name} model: {outcome.trouble or 'another archive'}")
            cells.append(outcome.trouble.split(":")[0].upper() or cell)
        ran = "inexact here" if "refused" in answer else ""
        if "engine" in answer:
            ran = ", ".join([answer["engine"], *filter(None, [answer["aten"]])])
        self.row(setting.group, setting.name, *cells, ran)
        return answer

    def cross(self, folder: Path) -> None:
        """Has every setting decode every archive that it did not make itself."""
        for given in self.inputs:
            made = [o for o in self.outcomes[given.name] if o.archive]
            for i, archive in enumerate(dict.fromkeys(o.archive for o in made)):
                file = folder / f"{given.name}-{i}.llz"
                file.write_bytes(archive)
                for o in made:
                    if o.archive != archive and Path(o.place.python).exists():
                        trouble = code(o.place, o.setting, given, file).trouble
                        self.decodings += not trouble
                        if trouble:
                            self.trouble(o.setting.group, o.setting.name, f"{given.name} model, archive {i}: {trouble}")

    def compiled_only(self, place: Place, group: str) -> None:
        """Compiles products for VNNI and for AMX. That needs no processor with them."""
        for name, instruction, variables in (("AVX-512 VNNI", "vpdpbusd", CASCADE_LAKE), ("AMX", "tdpbsud", SAPPHIRE_RAPIDS)):
            result = place.run(["-m", "tests.support.compile_worker", *(["amx"] if name == "AMX" else [])], variables)
            good = instruction in result.stdout.split()
            if not good:
                self.trouble(group, f"for {name}", (result.stderr.strip().splitlines() or ["no such instruction"])[-1][:200])
            self.note(group, f"for {name}", "compiles; not run" if good else "DOES NOT COMPILE")

    def environment(self, e: Environment, folder: Path, tests: list[str]) -> dict[str, str]:
        """Makes an environment, runs in it the settings that depend on versions, and removes it. Returns the versions."""
        try:
            python = e.make(folder, bool(tests))
        except RuntimeError as error:
            self.trouble("versions", e.name, str(error))
            self.note("versions", e.name, "CANNOT BE INSTALLED")
            return {}
        variables = {"LLMZIP_CACHE": str(folder / "cache"), "NUMBA_CACHE_DIR": str(folder / "numba")}
        place = Place(str(python), variables)
        found = json.loads(place.run(["-c", "import sys, json; print(json.dumps(sys.version_info[:3]))"], {}).stdout)
        name = f"Python {'.'.join(map(str, found))}, {e.name}"
        compiled, in_torch = ("default", "tiny") if e.step else ("", "")
        versions = libraries(self.add(place, Setting("versions", name), compiled))
        self.add(place, Setting("versions", f"{name}, in torch", {}, ("--kernel=torch",)), in_torch)
        if platform.machine() in ("x86_64", "AMD64"):
            self.compiled_only(place, "versions")
        if tests:
            result = place.run(["-m", "pytest", "-q", "-x", *tests], {})
            last = (result.stdout.strip().splitlines() or result.stderr.splitlines())[-1]
            if result.returncode:
                self.trouble("versions", name, f"tests: {last}")
            self.note("versions", f"{name}, tests", last.strip("= "))
        shutil.rmtree(folder)
        return versions

    def summary(self) -> str:
        """The totals, in one line."""
        made = [len(o) for o in self.outcomes.values()]
        kinds = [len({o.archive for o in known}) for known in self.outcomes.values()]
        text = f"{sum(made)} archives under {max(made)} settings, {sum(kinds)} different ones of {len(kinds)} inputs, {self.decodings} decodings"
        same = "; archives of an input are identical, so each decoding of one stands for all" if kinds == [1] * len(kinds) else ""
        return f"{text}{same}; differences and failures: {len(self.troubles)}"


def markdown(inputs: list[Input], rows: list[list[str]], versions: list[tuple[str, dict[str, str]]], summary: str) -> str:
    """The tables as the documents have them."""
    head = ["what", "setting", *(f"{given.name} model" for given in inputs), "what ran"]
    lines = [head, ["---"] * len(head), *rows]
    if versions:
        names = list(versions[0][1])
        lines += [[], ["environment", *names], ["---"] * (1 + len(names)), *([name, *found.values()] for name, found in versions)]
    return "\n".join("| " + " | ".join(cells) + " |" if cells else "" for cells in lines) + f"\n\n{summary}."


def input_of(name: str, folder: Path) -> Input:
    """The input of a name, with its files in a folder."""
    text = (ROOT / "examples" / "harbour.txt").read_bytes()
    file, lanes = folder / f"{name.replace('/', '_')}.txt", 4
    if name == NEW:
        file.write_bytes(text[:4000] * 2 + RAW)
        return Input(name, NEW, file, ())
    if name == "tiny":
        model, content, lanes = str(tiny.write_folder(folder / name)), text, 5
    elif name in families.FAMILIES:
        model, content = str(families.write(folder / name, families.checkpoint(name))), text[:600]
    else:
        model, content = DEFAULT_MODEL if name == "default" else name, text[:1200]
    file.write_bytes(content + RAW)
    return Input(name, model, file, (f"--lanes={lanes}", "--parts=all"))


def main() -> int:
    """Runs everything that the arguments ask for, and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", nargs="+", default=["tiny", "default"], metavar="NAME")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD")
    parser.add_argument("--python", nargs="+", default=[], metavar="PATH")
    parser.add_argument("--between", action="store_true")
    parser.add_argument("--tests", nargs="+", default=[], metavar="FILE")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    environments = [e for python in options.python for e in ends(python)]
    if options.between:
        environments += between(options.python[-1] if options.python else sys.executable)
    versions: list[tuple[str, dict[str, str]]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        matrix = Matrix([input_of(given, folder) for given in options.inputs])
        own = Place(sys.executable, {"NUMBA_CACHE_DIR": str(folder / "numba")})
        for setting in settings():
            wanted = any(word in f"{setting.group} {setting.name}" for word in options.only)
            if wanted and not available(setting.needs):
                matrix.note(setting.group, setting.name, ABSENT)
            elif wanted or setting.name == REFERENCE:
                answer = matrix.add(own, setting)
                if setting.name == REFERENCE:
                    versions.append((REFERENCE, libraries(answer)))
        if platform.machine() in ("x86_64", "AMD64"):
            matrix.compiled_only(own, INSTRUCTIONS)
        for e in environments:
            if found := matrix.environment(e, folder / "environment", options.tests):
                versions.append((f"{found['Python']}, {e.name}", found))
        matrix.cross(folder)
        if options.python:
            for library, newest in NEWEST.items():
                if newest not in {found.get(library) for _, found in versions}:
                    matrix.trouble("versions", library, f"{newest} was in no environment")
    if options.markdown:
        print("\n" + markdown(matrix.inputs, matrix.rows, versions, matrix.summary()))
    else:
        print("\n" + matrix.summary())
    for trouble in matrix.troubles:
        print(trouble, file=sys.stderr)
    return int(bool(matrix.troubles))


if __name__ == "__main__":
    sys.exit(main())
