"""`llmzip.ray`: columns of a dataset, with real Ray Data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import llmzip.ray
from llmzip.codec.codec import Codec
from tests.support.codecs import ROOT, TEXT


def texts() -> list[str]:
    return [TEXT[i : i + 300].decode() for i in range(0, 1800, 300)]


def test_columns(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: Codec) -> None:
    """Text and bytes; missing values stay missing; other columns stay as they are."""
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path))
    model = str(tiny_folder)
    packed = llmzip.ray.Compressor("text", "archive", model=model, threads=1)(
        {"text": ["", None, texts()[0], b"\xff\0"], "id": [1, 2, 3, 4]}
    )
    assert packed["id"] == [1, 2, 3, 4]
    assert packed["archive"][1] is None
    assert packed["archive"][2] == codec.compress(texts()[0].encode())
    back = llmzip.ray.Decompressor("archive", "bytes", text=False, model=model, threads=1)(packed)
    assert list(back["bytes"]) == [b"", None, texts()[0].encode(), b"\xff\0"]
    with pytest.raises(llmzip.ParameterError):
        llmzip.ray.Compressor("text", "archive", level=10)


@pytest.mark.slow
def test_the_example(tiny_folder: Path, tmp_path: Path) -> None:
    """A dataset there and back, in workers of Ray's."""
    pytest.importorskip("ray.data", reason="ray[data] is not installed")
    env = os.environ | {"LLMZIP_MODEL": str(tiny_folder), "LLMZIP_CACHE": str(tmp_path)}
    result = subprocess.run([sys.executable, "examples/ray_data.py"], env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "restored: ['The harbour froze in the night.', 'Nobody sailed that week.', 'On Sunday the wind turned.']" in result.stdout
