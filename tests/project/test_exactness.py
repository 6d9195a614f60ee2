"""The contract on the real model: one archive, whatever the machine is told to be.

Each case runs in a process of its own, because instruction sets are chosen when libraries load. It must write the same
bytes as the reference process, and decode them.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from llmzip.models.convert import IntegerModel
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.options import NEW
from tests.support.codecs import ROOT, TEXT, fixed_codec

pytestmark = pytest.mark.slow

AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma",
}
# name: (environment, options)
CASES: dict[str, tuple[dict[str, str], list[str]]] = {
    "one thread": ({}, ["--threads=1"]),
    "two threads": ({}, ["--threads=2"]),
    "four threads": ({"NUMBA_NUM_THREADS": "4"}, ["--threads=4"]),
    "torch, oneDNN held to AVX2": ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, ["--kernel=torch"]),
    "torch held to AVX2": ({"ATEN_CPU_CAPABILITY": "avx2"}, ["--kernel=torch"]),
    "torch without vectors": ({"ATEN_CPU_CAPABILITY": "default"}, ["--kernel=torch"]),
    "everything held to AVX2": (AVX2, []),
    "everything held to AVX2, in torch": (AVX2, ["--kernel=torch"]),
    "numba for any x86-64": ({"NUMBA_CPU_NAME": "generic"}, []) if os.uname().machine == "x86_64" else ({}, []),
    "torch": ({}, ["--kernel=torch"]),
    "torch, float32 products": ({}, ["--kernel=float32"]),
    "torch, float64 products": ({}, ["--kernel=float64"]),
    "one row at a time": ({}, ["--rows=1"]),
    "odd chunks": ({}, ["--rows=77"]),
}


def run(model: str, text: Path, env: dict[str, str], options: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.support.exactness_worker", model, str(text), *options]
    result = subprocess.run(command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return answer


@dataclass
class Case:
    """A model, a text, and the archive the reference process made of it."""

    model: str
    text: Path
    env: dict[str, str]
    file: Path
    archive: bytes = b""

    def check(self, env: dict[str, str], options: list[str]) -> None:
        answer = run(self.model, self.text, self.env | env, ["--lanes=3", f"--decode={self.file}", *options])
        assert base64.b64decode(answer["archive"]) == self.archive
        assert answer["decoded"]
        in_torch = any(option.startswith(("--kernel", "--device")) for option in options)
        assert answer["compiled"] != in_torch  # not equal for the reason that the slow path stood in


def prepare(model: str, text: bytes, env: dict[str, str], folder: Path) -> Case:
    case = Case(model, folder / "text", env, folder / "archive.llz")
    case.text.write_bytes(text + b"\xff\0 raw bytes too \x04\x05\r\n")
    answer = run(model, case.text, env, ["--lanes=3"])
    assert answer["decoded"]
    case.archive = base64.b64decode(answer["archive"])
    case.file.write_bytes(case.archive)
    return case


@pytest.fixture(scope="module")
def real(real_model: IntegerModel, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A few hundred tokens on the real model."""
    return prepare(DEFAULT_MODEL, TEXT[:1200], {}, tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="module")
def small(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Some five thousand symbols on the tiny model, so lanes run beyond their window."""
    folder = tmp_path_factory.mktemp("tiny")
    return prepare(str(tiny_folder), TEXT[:4800], {"LLMZIP_CACHE": str(folder / "cache")}, folder)


@pytest.mark.parametrize("name", CASES)
def test_same_archive(real: Case, name: str) -> None:
    real.check(*CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_same_archive_tiny(small: Case, name: str) -> None:
    small.check(*CASES[name])


@pytest.mark.parametrize("name", ["two threads", "everything held to AVX2", "numba for any x86-64"])
def test_same_archive_new(tmp_path: Path, name: str) -> None:
    """The network that starts from nothing."""
    text = tmp_path / "text"
    text.write_bytes(TEXT[:3000] * 2 + b"\xff\0 raw bytes too \x04\x05\r\n")
    env, options = CASES[name]
    archive, again = run(NEW, text, {}, [])["archive"], run(NEW, text, env, options)
    assert again["archive"] == archive
    assert again["decoded"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_same_archive_on_cuda(real: Case) -> None:
    real.check({}, ["--device=cuda"])


def test_close_to_the_float_model(real_model: IntegerModel) -> None:
    """Exactness costs little: the coded size is near the cross-entropy of the float32 reference implementation."""
    from llmzip.coding.alphabet import Alphabet
    from scripts.float_reference import FloatTransformer, float_model

    symbols = torch.from_numpy(Alphabet(real_model.tokenizer).encode(TEXT[:4000])).long()
    ideal = float(FloatTransformer(float_model(DEFAULT_MODEL)).bits(symbols).sum()) / 8
    coded = len(fixed_codec(real_model, DEFAULT_MODEL, lanes=1).compress(TEXT[:4000]))
    assert coded <= 1.01 * ideal + 96 + len(DEFAULT_MODEL)
