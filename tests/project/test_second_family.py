"""Gemma 3 270M, the real one: another family, a vocabulary of 262,144, byte fallback. It is fetched and converted on first use."""

from __future__ import annotations

import pytest

from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModels, PretrainedModel
from llmzip.codec.verification import golden, golden_text
from llmzip.models import resolve
from llmzip.models.convert import IntegerModel
from llmzip.options import Options
from scripts import make_golden
from tests.support.codecs import TEXT

pytestmark = [pytest.mark.slow, pytest.mark.real]
NAME = "gemma3-270m"
LANGUAGES = "Größe, façade, ñandú; Привет, мир; 你好，世界。こんにちは世界 ▁ <start_of_turn>\n\n\n\tцена 5 €\r\n".encode() + b"\xff\0\xc3"


@pytest.fixture(scope="module")
def gemma() -> IntegerModel:
    return resolve.load(NAME)


def codec(model: IntegerModel, **options: object) -> Codec:
    given = Options(**options)  # type: ignore[arg-type]
    return Codec(given, blocks=BlockCodec(LoadedModels(given, PretrainedModel(NAME, model, given))))


def test_golden_archive_is_reproduced_and_decodes(gemma: IntegerModel) -> None:
    archive = golden(NAME)
    assert archive
    assert make_golden.packaged_of(NAME) == archive
    assert codec(gemma, threads=1).decompress(archive) == golden_text()


def test_compiled_code_and_torch_agree(gemma: IntegerModel) -> None:
    content = LANGUAGES + TEXT[:300]
    archives = {codec(gemma, lanes=2, **more).compress(content) for more in ({}, {"kernel": "torch"}, {"rows": 3})}
    assert len(archives) == 1
    assert codec(gemma).decompress(archives.pop()) == content
