"""The contract on the real model: one archive, whatever the machine is told to be.

Each case runs in a process of its own, because instruction sets are chosen when libraries load. It must write the same
bytes as the reference process, and decode its own archive as well as the reference's.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TEXT

from llmzip.models.convert import IntegerModel
from llmzip.models.registry import DEFAULT_MODEL

WORKER = Path(__file__).parent / "exactness_worker.py"

# name: (environment, options)
CASES: dict[str, tuple[dict[str, str], list[str]]] = {
    "one thread": ({}, ["--threads=1"]),
    "two threads": ({}, ["--threads=2"]),
    "oneDNN held to AVX2": ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, []),
    "torch held to AVX2": ({"ATEN_CPU_CAPABILITY": "avx2"}, []),
    "torch without vectors": ({"ATEN_CPU_CAPABILITY": "default"}, []),
    "everything held to AVX2": (
        {
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
            "NUMBA_CPU_NAME": "haswell",
            "NUMBA_CPU_FEATURES": "+avx2,+fma",
        },
        [],
    ),
    "numba for any x86-64": ({"NUMBA_CPU_NAME": "generic"}, []) if os.uname().machine == "x86_64" else ({}, []),
    "float32 products": ({}, ["--kernel=float32"]),
    "float64 products": ({}, ["--kernel=float64"]),
    "operations in torch": ({}, ["--ops=torch"]),
    "one row at a time": ({}, ["--rows=1"]),
    "odd chunks": ({}, ["--rows=77"]),
}


def run(model: str, text: Path, env: dict[str, str], options: list[str]) -> dict[str, Any]:
    command = [sys.executable, str(WORKER), model, str(text), *options]
    result = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return answer


@pytest.fixture(scope="module")
def reference(real_model: IntegerModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, bytes]:
    """(text of a few hundred tokens, its archive as a file, the archive)."""
    folder = tmp_path_factory.mktemp("exactness")
    text, archive = folder / "text", folder / "archive.llz"
    text.write_bytes(TEXT[:1200] + b"\xff\0 raw bytes too \x04\x05\r\n")
    answer = run(DEFAULT_MODEL, text, {}, ["--lanes=3"])
    assert answer["decoded"]
    archive.write_bytes(base64.b64decode(answer["archive"]))
    return text, archive, archive.read_bytes()


@pytest.mark.parametrize("name", CASES)
def test_same_archive(reference: tuple[Path, Path, bytes], name: str) -> None:
    text, file, archive = reference
    env, options = CASES[name]
    answer = run(DEFAULT_MODEL, text, env, ["--lanes=3", f"--decode={file}", *options])
    assert base64.b64decode(answer["archive"]) == archive
    assert answer["decoded"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_same_archive_on_cuda(reference: tuple[Path, Path, bytes]) -> None:
    text, file, archive = reference
    answer = run(DEFAULT_MODEL, text, {}, ["--lanes=3", f"--decode={file}", "--device=cuda"])
    assert base64.b64decode(answer["archive"]) == archive
    assert answer["decoded"]


def test_close_to_the_float_model(real_model: IntegerModel, reference: tuple[Path, Path, bytes]) -> None:
    """Exactness costs little: the coded size is near the cross-entropy of the float32 reference implementation."""
    sys.path.insert(0, str(WORKER.parent.parent / "scripts"))
    from float_reference import FloatLlama, float_model

    from llmzip.symbols import Alphabet

    symbols = torch.from_numpy(Alphabet(real_model.tokenizer).encode(TEXT[:4000])).long()
    ideal = float(FloatLlama(float_model(DEFAULT_MODEL)).bits(symbols).sum()) / 8
    from conftest import FixedCodec

    coded = len(FixedCodec(real_model, DEFAULT_MODEL, lanes=1).compress(TEXT[:4000]))
    assert coded <= 1.01 * ideal + 96 + len(DEFAULT_MODEL)
