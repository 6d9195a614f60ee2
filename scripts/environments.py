"""Virtual environments with the oldest and the newest libraries that are supported, and with versions between them.

The oldest are pyproject's lower bounds. NEWEST are the newest versions with which `matrix.py` has passed; pyproject's upper bounds lie
just above them (see `bound`). A test compares the two, so whoever widens a range must run the matrix first.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEWEST = {
    "torch": "2.15.0",
    "numpy": "2.5.5",
    "numba": "0.68.1",
    "tokenizers": "0.23.3",
    "click": "8.5.1",
    "tqdm": "4.70.1",
    "gguf": "0.19.0",
    "safetensors": "0.8.0",
    "huggingface_hub": "2.4.0",
    "platformdirs": "4.14.8",
    "filelock": "4.2.12",
    "reedsolo": "1.7.0",
}
CODING = ("torch", "numpy", "numba", "tokenizers", "gguf", "safetensors")  # libraries that can affect coded bits
FIXED_BETWEEN = ("torch", "numba", "tokenizers", "gguf", "safetensors")  # numpy follows numba, which bounds it
TESTING = ("pytest", "hypothesis", "fsspec")


def ranges() -> dict[str, tuple[str, str]]:
    """What pyproject requires: the oldest version of each library, and the first that is too new."""
    listed = re.search(r"\ndependencies = \[\n(.*?)\n\]", (ROOT / "pyproject.toml").read_text("utf-8"), re.S)
    assert listed
    return {name: (low, high) for name, low, high in re.findall(r'"(\w+)>=([\d.]+),<([\d.]+)"', listed[1])}


def bound(name: str) -> str:
    """The first version that is too new: the next minor version of a library that can affect coded bits, the next major one of others."""
    major, minor = NEWEST[name].split(".")[:2]
    return f"{major}.{int(minor) + 1}" if name in CODING else str(int(major) + 1)


@dataclass(frozen=True)
class Environment:
    """Libraries for an interpreter: requirements as pip takes them."""

    name: str
    python: str
    requirements: tuple[str, ...]
    step: bool = False  # its versions lie between the oldest and the newest

    def make(self, folder: Path, testing: bool) -> Path:
        """Installs the libraries, with `testing` also those that tests need. Returns the interpreter. Uses uv if it is there: it is faster.

        Raises:
            RuntimeError: the libraries cannot be installed together.
        """
        python, wanted = folder / "bin" / "python", [*self.requirements, *(TESTING if testing else ())]
        commands = [[self.python, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", "-q", *wanted]]
        if uv := shutil.which("uv"):
            commands = [
                [uv, "venv", "--seed", "-q", "-p", self.python, str(folder)],
                [uv, "pip", "install", "-q", "-p", str(python), *wanted],
            ]
        for command in commands:
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                raise RuntimeError(" ".join(result.stderr.split())[-300:])
        return python


def ends(python: str) -> list[Environment]:
    """Two environments: with the oldest of all libraries, and with the newest that there are for this Python."""
    oldest = tuple(f"{name}=={low}" for name, (low, _) in ranges().items())
    newest = tuple(f"{name}>={low},<={NEWEST[name]}" for name, (low, _) in ranges().items())
    return [Environment("oldest", python, oldest), Environment("newest", python, newest)]


def between(python: str) -> list[Environment]:
    """Steps between the oldest and the newest: each takes every library one minor version further, until that library is at its newest."""
    steps: dict[str, list[str]] = {}
    for name in FIXED_BETWEEN:
        (major, first), last = map(int, ranges()[name][0].split(".")[:2]), int(NEWEST[name].split(".")[1])
        steps[name] = [f"{name}=={major}.{minor}.*" for minor in range(first, last + 1)]
    others = [f"{name}>={low},<={NEWEST[name]}" for name, (low, _) in ranges().items() if name not in steps]
    return [
        Environment(f"step {i}", python, (*(versions[min(i, len(versions) - 1)] for versions in steps.values()), *others), step=True)
        for i in range(1, max(map(len, steps.values())) - 1)
    ]
