"""The container's parser, which needs no model."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from random import Random
from unittest import mock

import archive as reference  # of scripts/reference_decoder, whose folder is on the path
import errors as reference_errors

from llmzip.archive import records as rec
from llmzip.archive.parser import Placed, parse_record, pull, read_records
from llmzip.archive.summary import summarise
from llmzip.codec.any_model import LoadedModel
from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModels
from llmzip.errors import DamagedArchiveError, LLZError, ModelUnavailableError, NotAnArchiveError, UnsupportedArchiveError
from llmzip.fileobj.incremental import PushReader
from llmzip.options import Options
from tests.support.codecs import ROOT
from tests.support.fuzzing import mutation

KINDS = {
    NotAnArchiveError: "not an archive",
    DamagedArchiveError: "damaged",
    UnsupportedArchiveError: "unsupported",
    ModelUnavailableError: "model",
}
REFUSED = (NotAnArchiveError, DamagedArchiveError, UnsupportedArchiveError)
GOLDEN = ROOT / "tests" / "golden"


def corpus() -> list[bytes]:
    """The golden archives that are good, or bad only in what they hold."""
    return [path.read_bytes() for path in sorted(GOLDEN.glob("*.llz")) if path.stat().st_size < 2000]


def inputs(rng: Random) -> Iterator[bytes]:
    """Without end: half of them damaged blindly, half with right checks."""
    good = corpus()
    parsed = [mutation.frames(a) for a in good if records(a) == "accepted"]
    while True:
        kind = rng.randrange(4)
        if kind < 2:
            yield mutation.blind(rng, rng.choice(good), good)
        else:
            yield mutation.rechecked(rng, rng.choice(parsed), mutation.other_body if kind == 2 else mutation.other_field)


def _written(placed: Placed, data: bytes, first: bool) -> bytes:
    """The bytes of a record, written again; with the start of its frame before the first."""
    if data[placed.span.start : placed.span.start + 1] == rec.TAG_SOLE and isinstance(placed.record, rec.CodedBlock):
        return rec.MAGIC + rec.encode_record(pull(parse_record(), io.BytesIO(data[placed.span.start : placed.span.stop])))
    if not placed.span:  # stands in a sole block
        return b""
    return (rec.frame_start() if first else b"") + rec.encode_record(placed.record)


def records(data: bytes) -> str:
    """What is accepted is written the same again; pieces of any size make no difference; the list says what the parser says.

    And with no model to be had, content and class of error are those that the reference decoder finds.
    """
    outcome, found, again = "accepted", list[list[rec.Record]](), b""
    try:
        for placed in read_records(io.BytesIO(data)):  # one by one: those before an error count as well
            if placed.frame == len(found):
                found.append([])
            again += _written(placed, data, first=not found[-1])
            found[-1].append(placed.record)
    except REFUSED as e:
        outcome = type(e).__name__
    same = data.startswith(again[: len(data)])
    if outcome == "accepted":
        same = data.startswith(again) and not data[len(again) :].strip(b"\0")  # zeros may follow
    assert same, "written again it differs"
    _pushed(data, found[0] if found else [], outcome if len(found) < 2 else "accepted")
    try:
        summarise(io.BytesIO(data))
        assert outcome == "accepted", "list knows no error"
    except REFUSED as e:
        assert type(e).__name__ == outcome or "together" in str(e), "list knows another error"  # of sizes, which it looks at as well
    _agrees(data)
    return outcome


class _NoModels(LoadedModels):
    def ready(self, record: rec.ModelRecord | None = None) -> LoadedModel:
        raise ModelUnavailableError("there are none here")


class _Forward(io.BytesIO):
    """What cannot be read again, so that nothing is repaired."""

    def seekable(self) -> bool:
        return False


def _agrees(data: bytes) -> None:
    found, content = "", b""
    try:
        sink = io.BytesIO()
        Codec(blocks=BlockCodec(_NoModels(Options()))).decompress_stream(_Forward(data), sink)
        content = sink.getvalue()
    except tuple(KINDS) as e:
        found = KINDS[type(e)]

    def find_model(_: reference.ModelRecord) -> None:
        raise reference_errors.ModelError

    try:
        with mock.patch.object(reference.scratch, "is_one", return_value=False):  # it would take seconds
            decoded = reference.decode_archive(data, find_model)
        assert decoded == content, "the reference decoder finds other content"
        assert not found, "the reference decoder finds no error"
    except reference_errors.DecodingError as e:
        assert e.kind == found, f"the reference decoder finds that it is {e.kind}"


def _pushed(data: bytes, first: list[rec.Record], outcome: str) -> None:
    reader, found, step = PushReader(), list[rec.Record](), 1 + zlib.crc32(data) % (len(data) + 1)
    try:
        for at in range(0, len(data), step):
            reader.push(data[at : at + step])
            while record := reader.record():
                found.append(record.record)
    except LLZError as e:
        assert type(e).__name__ == outcome, "in pieces it is another error"
    else:
        cut = not reader.ended and outcome in ("DamagedArchiveError", "NotAnArchiveError")  # more might have come
        assert reader.ended or cut, "in pieces it does not end"
    assert found == first, "in pieces there are other records"
