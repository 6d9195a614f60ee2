"""The golden archives: good ones decode and are reproduced, the others are refused with the right error."""

from __future__ import annotations

import io

import pytest

from llmzip.archive.parity.repair import repair
from llmzip.archive.parser import read_records
from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModels, PretrainedModel
from llmzip.models.convert import IntegerModel
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.options import Options
from scripts import bad_archives, make_golden
from tests.support.codecs import ROOT

pytestmark = pytest.mark.slow

FILES = sorted((ROOT / "tests" / "golden").glob("*.llz"))


@pytest.fixture(scope="module")
def golden_codec(tiny_model: IntegerModel, real_model: IntegerModel) -> Codec:
    models = [("local:tiny", tiny_model), ("local:tiny", make_golden.with_opening(tiny_model)), (DEFAULT_MODEL, real_model)]
    loaded = [PretrainedModel(name, model, Options()) for name, model in models]
    return Codec(blocks=BlockCodec(LoadedModels(Options(), *loaded)))


@pytest.fixture(scope="module")
def refused() -> dict[str, bad_archives.Refused]:
    return bad_archives.refused(*((make_golden.FOLDER / f"{name}.llz").read_bytes() for name in ("good-tiny", "good-parity")))


def test_all_kinds_are_there(refused: dict[str, bad_archives.Refused]) -> None:
    assert {f.stem for f in FILES} == set(make_golden.contents()) | set(refused)
    assert (make_golden.FOLDER / "README.md").read_text("utf-8") == make_golden.readme(refused)


@pytest.mark.parametrize("name", make_golden.contents())
def test_good(golden_codec: Codec, name: str) -> None:
    archive = (make_golden.FOLDER / f"{name}.llz").read_bytes()
    assert golden_codec.decompress(archive) == make_golden.contents()[name]


def test_good_ones_are_reproduced(real_model: IntegerModel) -> None:
    for name, archive in make_golden.good().items():
        assert (make_golden.FOLDER / f"{name}.llz").read_bytes() == archive, name


def test_refused(golden_codec: Codec, refused: dict[str, bad_archives.Refused]) -> None:
    protected = (make_golden.FOLDER / "good-parity.llz").read_bytes()
    for name, (_, error, archive) in refused.items():
        assert (make_golden.FOLDER / f"{name}.llz").read_bytes() == archive, name
        repairable = name.startswith("bad-parity")
        with pytest.raises(error) as caught:
            list(read_records(io.BytesIO(archive))) if repairable else golden_codec.decompress(archive)
        assert type(caught.value) is error, name
        if repairable:
            assert repair(archive) == protected
            with pytest.warns(UserWarning, match="its parity"):
                assert golden_codec.decompress(archive) == make_golden.contents()["good-parity"]
