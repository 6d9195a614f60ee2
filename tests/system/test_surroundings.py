"""What other libraries in a process change reaches no coded bit, and llmzip leaves it as it found it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from llmzip.codec.codec import Codec
from llmzip.engine import float_mode
from llmzip.errors import InexactMachineError
from llmzip.message.message_codec import MessageCodec
from llmzip.models.convert import IntegerModel, convert
from llmzip.models.sources import load_float_model
from llmzip.options import Options
from llmzip.system import exact_threads
from tests.support.codecs import ROOT, TEXT, fixed_codec
from tests.support.surroundings import SURROUNDINGS, changed, flushing, rounding, state

pytestmark = pytest.mark.slow

CONTENT = TEXT[:900]
WAYS: dict[str, dict[str, Any]] = {"compiled": {}, "in torch": {"kernel": "float32"}}


@pytest.fixture(scope="module")
def archive(codec: Codec) -> bytes:
    return codec.compress(CONTENT)


@pytest.fixture(scope="module", params=WAYS)
def loaded(tiny_model: IntegerModel, request: pytest.FixtureRequest) -> Codec:
    """A codec that was ready before its surroundings changed."""
    codec = fixed_codec(tiny_model, **WAYS[request.param])
    codec.compress(CONTENT)
    return codec


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_same_bits(name: str, loaded: Codec, codec: Codec, archive: bytes) -> None:
    with SURROUNDINGS[name]():
        before = state()
        assert loaded.compress(CONTENT) == archive
        assert loaded.decompress(archive) == CONTENT
        assert state() == before


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_same_bits_with_a_model_loaded_there(
    name: str, tiny_folder: Path, codec: Codec, archive: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path))  # so that the model is converted there, too
    with SURROUNDINGS[name]():
        before = state()
        made = Codec(Options(model=str(tiny_folder), threads=1)).compress(CONTENT)
        assert state() == before
    assert codec.decompress(made) == CONTENT  # the same weights, as digests are compared
    assert made.endswith(archive[-200:])


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_same_messages(name: str, codec: Codec) -> None:
    messages = MessageCodec(models=codec.blocks.models)
    texts = [b"Running ten minutes late", b"we sail at noon"]
    made = messages.encode(texts)
    with SURROUNDINGS[name]():
        assert messages.encode(texts) == made
        assert messages.decode(made) == texts


def test_number_of_threads_stays(tiny_folder: Path) -> None:
    """For the caller, and for threads to come."""

    def elsewhere() -> int:
        numbers: list[int] = []
        thread = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return numbers[0]

    codec = Codec(Options(model=str(tiny_folder), threads=1))
    with changed(torch.get_num_threads, torch.set_num_threads, 2):
        codec.compress(CONTENT)
        assert (torch.get_num_threads(), elsewhere()) == (2, 2)
        torch.set_num_threads(3)
        codec.compress(CONTENT)
        assert (torch.get_num_threads(), elsewhere()) == (3, 3)


@pytest.mark.parametrize("mode", [flushing, lambda: rounding(0x800), lambda: rounding(0x400), lambda: rounding(0xC00)])
def test_modes_of_the_processor_are_found_out(mode: object) -> None:
    """Should one reach the threads that compute."""
    float_mode.check(2)
    with mode(), pytest.raises(InexactMachineError, match="another library"):  # type: ignore[operator]
        float_mode.check(2)
    float_mode.check(2)


_EARLY = """
import sys
from tests.support import surroundings
with surroundings.SURROUNDINGS[{name!r}]():
    import llmzip
    sys.stdout.buffer.write(llmzip.compress({content!r}, model={model!r}, threads=1))
"""


@pytest.mark.parametrize("name", ["torch's default type: bfloat16", "rounding upward", "subnormals are zero", "decimals of three digits"])
def test_surroundings_that_were_there_first(name: str, tiny_folder: Path, codec: Codec) -> None:
    """llmzip is imported into them."""
    program = _EARLY.format(name=name, content=CONTENT, model=str(tiny_folder))
    made = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, timeout=300).stdout
    assert codec.decompress(made) == CONTENT


def test_converted_models(tiny_folder: Path, tiny_model: IntegerModel) -> None:
    for name in ("rounding upward", "subnormals are zero", "numpy raises for everything"):
        with SURROUNDINGS[name]():
            assert exact_threads.run(lambda _: convert(load_float_model(tiny_folder))).digest() == tiny_model.digest()
