"""Going on with an unfinished archive: the same bytes, wherever it was cut."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from typing import Any

import pytest

from llmzip.archive import records as rec
from llmzip.codec.codec import Codec
from llmzip.codec.resuming import OtherPartError
from llmzip.options import Options
from tests.support.archives import records_of
from tests.support.codecs import TEXT

NOISE = random.Random(8).randbytes(2500)
BLOCK = 1000
INPUTS = {
    "text": TEXT[:5300],
    "text between": NOISE[:2000] + TEXT[:2500] + NOISE[:2500] + TEXT[2500:5000] + bytes(1500),
    "no model at all": NOISE,
    "short": TEXT[:100],
    "nothing": b"",
}


def resumed(codec: Codec, options: Options, part: bytes, content: bytes) -> bytes:
    file = io.BytesIO(part)
    Codec(options, blocks=codec.blocks).resume_stream(io.BytesIO(content), file)
    return file.getvalue()


def cuts(archive: bytes) -> list[int]:
    """Twenty places: at both ends, at ends of records, and elsewhere."""
    ends, at = [], 5
    for record in records_of(archive):
        at += len(rec.encode_record(record))
        ends.append(at)
    chosen = {0, 3, len(archive), *ends[:8]}
    places = random.Random(len(archive))
    while len(chosen) < min(20, len(archive)):
        chosen.add(places.randrange(len(archive)))
    return sorted(place for place in chosen if place <= len(archive))


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("parity", [None, 10])
def test_the_same_bytes(name: str, parity: int | None, codec: Codec) -> None:
    options, content = replace(codec.options, block_bytes=BLOCK, parity=parity), INPUTS[name]
    archive = Codec(options, blocks=codec.blocks).compress(content)
    for cut in cuts(archive) if parity is None else cuts(archive)[::5]:
        assert resumed(codec, options, archive[:cut], content) == archive


def test_blocks_that_are_held_back(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written of them together with the coded block behind them does not count without that one."""
    from llmzip.codec import held_back

    class Holding(held_back.HeldBack):
        def __init__(self, _: int | None = None) -> None:
            super().__init__(None)

    monkeypatch.setattr("llmzip.codec.frame_writer.HeldBack", Holding)
    options, content = replace(codec.options, block_bytes=BLOCK), INPUTS["text between"]
    archive = Codec(options, blocks=codec.blocks).compress(content)
    for cut in cuts(archive):
        assert resumed(codec, options, archive[:cut], content) == archive


def test_coded_blocks_are_not_coded_again(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    options, content = replace(codec.options, block_bytes=BLOCK), INPUTS["text"]
    archive = Codec(options, blocks=codec.blocks).compress(content)
    last = max(i for i, r in enumerate(records_of(archive)) if isinstance(r, rec.CodedBlock))
    cut = 5 + sum(len(rec.encode_record(r)) for r in records_of(archive)[: last + 1])
    seen: list[bytes] = []
    encode = codec.blocks.encode

    def watched(block: bytes, *arguments: Any, **more: Any) -> Any:
        seen.append(block)
        return encode(block, *arguments, **more)

    monkeypatch.setattr(codec.blocks, "encode", watched)
    assert resumed(codec, options, archive[:cut], content) == archive
    assert seen == []
    assert resumed(codec, options, archive[: cut - 1], content) == archive
    assert len(seen) == 1


def test_what_does_not_fit(codec: Codec) -> None:
    options, content = replace(codec.options, block_bytes=BLOCK), INPUTS["text"]
    part = Codec(options, blocks=codec.blocks).compress(content)[:-1]
    for other in (
        replace(options, block_bytes=BLOCK - 300),
        replace(options, level=1),
        replace(options, level=9),
        replace(options, lanes=3),
    ):
        with pytest.raises(OtherPartError, match="settings"):
            resumed(codec, other, part, content)
    for altered in (content[:-BLOCK], content[:1500] + b"?" + content[1501:], b""):
        with pytest.raises(OtherPartError):
            resumed(codec, options, part, altered)
