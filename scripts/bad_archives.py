"""The golden archives that must be refused, each for one reason. `make_golden.py` writes them to tests/golden."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from random import Random
from typing import NamedTuple

from llmzip import parameters
from llmzip.archive import lzma2, parser, records, wire
from llmzip.archive.forms import MAX_SIDE, RUN, UTF_16LE, Item
from llmzip.archive.numbers import MODELS
from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.policy import Policy
from llmzip.errors import (
    DamagedArchiveError,
    LLZError,
    ModelMismatchError,
    ModelUnavailableError,
    NotAnArchiveError,
    NotReproducedError,
    UnsupportedArchiveError,
)
from llmzip.options import NEW, Options
from llmzip.parameters import FROZEN, LEVELS, AttentionSpan, CorrectionParameters


class Refused(NamedTuple):
    """An archive, what is wrong with it, and the error that says so."""

    what: str
    error: type[LLZError]
    archive: bytes


START = records.frame_start()
END = records.encode_record(records.WholeCheck().record())  # of a frame without content
BOMB = Random(0).randbytes(100)


def record(tag: bytes, body: bytes) -> bytes:
    """Any record, with the right CRC."""
    framed = tag + wire.varint(len(body)) + body
    return framed + struct.pack("<I", zlib.crc32(framed))


def refused(tiny: bytes, protected: bytes) -> dict[str, Refused]:
    """The refused archives by name, made from `good-tiny` and `good-parity`."""
    made = (
        _sole_blocks()
        | _frames(tiny)
        | _envelopes(tiny)
        | _model_records(tiny)
        | _coded_blocks()
        | _form_blocks()
        | _other_records()
        | _content(tiny)
        | _new()
    )
    return made | _parity(protected) | _unsupported(tiny)


def _damaged(what: str, archive: bytes) -> Refused:
    return Refused(what, DamagedArchiveError, archive)


def _records(archive: bytes) -> tuple[records.ModelRecord, records.CodedBlock, records.EndRecord]:
    """The three records of `good-tiny`."""
    model, block, end = (placed.record for placed in parser.read_records(io.BytesIO(archive)))
    assert isinstance(model, records.ModelRecord)
    assert isinstance(block, records.CodedBlock)
    assert isinstance(end, records.EndRecord)
    return model, block, end


def _frames(tiny: bytes) -> dict[str, Refused]:
    end = records.encode_record(_records(tiny)[2])
    return {
        "bad-magic": Refused("fourth byte of the magic", NotAnArchiveError, b"\x89LLX" + tiny[4:]),
        "bad-magic-cut": Refused("part of the magic, and nothing else", NotAnArchiveError, START[:3]),
        "bad-no-version": _damaged("ends after the magic", START[:4]),
        "bad-no-record": _damaged("ends after the version", START),
        "bad-cut": _damaged("ends in a record", tiny[: len(tiny) // 2]),
        "bad-no-end": _damaged("ends before the end record", tiny[: -len(end)]),
        "bad-trailing": _damaged("bytes after the last frame", tiny + b"rubbish"),
        "bad-trailing-zeros": _damaged("zeros after the last frame, and a byte after them", tiny + bytes(9) + b"x"),
        "bad-frame-after-zeros": _damaged("another frame after zeros", tiny + bytes(4) + START + END),
        "bad-trailing-magic": _damaged("part of another magic after the last frame", tiny + START[:3]),
    }


def _envelopes(tiny: bytes) -> dict[str, Refused]:
    middle = len(tiny) // 2
    long, endless = b"S\x80\x00", b"S" + b"\x81" * 5 + b"\x00"
    return {
        "bad-flipped-bit": _damaged("one bit of the bitstream", tiny[:middle] + bytes([tiny[middle] ^ 16]) + tiny[middle + 1 :]),
        "bad-crc": _damaged("the CRC of a record", START + record(b"S", b"text")[:-1] + b"\0" + END),
        "bad-crc-unknown": _damaged("the CRC of a record of unknown kind", START + record(b"Z", b"")[:-1] + b"\0" + END),
        "bad-length": _damaged("a record that claims a terabyte", START + b"S" + wire.varint(1 << 40)),
        "bad-length-limit": _damaged("a record one byte above the limit", START + b"S" + wire.varint(records.MAX_RECORD + 1)),
        "bad-length-long": _damaged("a record's length not in its shortest form", START + long + struct.pack("<I", zlib.crc32(long)) + END),
        "bad-length-endless": _damaged("a record's length of six bytes", START + endless + struct.pack("<I", zlib.crc32(endless)) + END),
    }


def _model_records(tiny: bytes) -> dict[str, Refused]:
    """Each of these model records has both parts that learn."""
    model = _records(tiny)[0]
    a = model.adapter
    assert a.bias
    assert a.neighbours

    def with_body(what: str, body: bytes) -> Refused:
        return _damaged(what, START + record(b"M", body) + END)

    def with_fields(what: str, **fields: object) -> Refused:
        return with_body(what, replace(model, **fields).body())  # type: ignore[arg-type]

    def learning(what: str, part: str, **fields: int) -> Refused:
        return with_fields(what, adapter=replace(a, **{part: replace(getattr(a, part), **fields)}))

    def correcting(what: str, **fields: int) -> Refused:
        return with_fields(what, adapter=replace(a, corrections=replace(CorrectionParameters(8, 64, 30, 7), **fields)))

    return {
        "bad-model-short": with_body("a model record with a byte too few", model.body()[:-1]),
        "bad-model-long": with_body("a model record with a byte too many", model.body() + b"\0"),
        "bad-window-0": with_fields("a window of 0", span=replace(model.span, window=0)),
        "bad-window-8161": with_fields("a window of 8161", span=replace(model.span, window=records.MAX_WINDOW + 1)),
        "bad-sinks": with_fields("17 sinks", span=replace(model.span, sinks=records.MAX_SINKS + 1)),
        "bad-round-0": with_fields("rounds of 0 symbols", adapter=replace(a, round_symbols=0)),
        "bad-round-4097": with_fields("rounds of 4097 symbols", adapter=replace(a, round_symbols=4097)),
        "bad-rate": learning("a rate of 0", "bias", rate=0),
        "bad-prior": learning("a prior of 0", "bias", prior=0),
        "bad-capacity-3": learning("2^3 neighbours", "neighbours", capacity_bits=3),
        "bad-capacity-21": learning("2^21 neighbours", "neighbours", capacity_bits=21),
        "bad-sharpness": learning("a sharpness of 0", "neighbours", sharpness=0),
        "bad-rank-0": correcting("corrections of rank 0", rank=0),
        "bad-rank-17": correcting("corrections of rank 17", rank=17),
        "bad-matrices-0": correcting("corrections of no matrix", matrices=0),
        "bad-matrices-8": correcting("corrections of unknown matrices", matrices=8),
        "bad-pace": correcting("a pace of 0", rate=0),
        "bad-segment-0": correcting("segments of 0 symbols", segment=0),
        "bad-segment-513": correcting("segments of 513 symbols", segment=513),
        "bad-id-0": with_fields("an ID of no bytes", model_id=""),
        "bad-id-201": with_fields("an ID of 201 bytes", model_id="x" * (records.MAX_ID + 1)),
        "bad-id-newline": with_fields("an ID with byte 0x0A", model_id="two\nlines"),
        "bad-id-delete": with_fields("an ID with byte 0x7F", model_id="x\x7f"),
    }


def _sole_blocks() -> dict[str, Refused]:
    block = records.CodedBlock(300, 90, 1, 0, bytes(60))
    model = records.ModelRecord(*MODELS[1], LEVELS[6].span, LEVELS[6].adapter)
    sole = records.sole_block(model, block)
    assert sole is not None
    body = sole.body()

    def frame(body: bytes) -> bytes:
        return records.MAGIC + record(records.TAG_SOLE, body)

    def unsupported(what: str, at: int, byte: int) -> Refused:
        return Refused(what, UnsupportedArchiveError, frame(body[:at] + bytes([byte]) + body[at + 1 :]))

    whole = frame(body)
    return {
        "bad-sole-crc": _damaged("CRC of a sole block", whole[:-1] + bytes([whole[-1] ^ 1])),
        "bad-sole-cut": _damaged("ends in a sole block", whole[:-5]),
        "bad-sole-tag": _damaged("ends after the tag of a sole block", whole[:5]),
        "bad-sole-short": _damaged("a sole block that ends in its numbers", frame(body[:11])),
        "bad-sole-symbols": _damaged("a sole block of no symbols", frame(body[:12] + b"\0" + body[13:])),
        "bad-sole-size": _damaged("a sole block with more symbols than bytes", frame(body[:10] + b"\x59" + body[12:])),
        "bad-sole-inside": _damaged("a sole block after a version", START + whole[4:] + END),
        "unsupported-sole-model": unsupported("a sole block with a model of the future", 0, 255),
        "unsupported-sole-level": unsupported("a sole block with a level of the future", 1, 10 + 16),
        "unsupported-sole-part": unsupported("a sole block with corrections at level 6", 1, body[1] + 64),
        "unsupported-sole-flag": unsupported("a sole block with a flag of the future", 1, body[1] + 128),
        "unsupported-sole-digest": unsupported("a sole block with another digest", 2, body[2] ^ 1),
        "unsupported-sole-tokenizer": unsupported("a sole block with another tokenizer", 9, body[9] ^ 1),
    }


def _coded_blocks() -> dict[str, Refused]:
    """They follow the record of a model that nobody has, because the error is found without the model."""
    model = records.encode_record(
        records.ModelRecord("nobody's", b"0" * records.DIGEST_BYTES, b"0" * records.TOKENIZER_BYTES, AttentionSpan(1280, 4), FROZEN)
    )

    def with_body(what: str, body: bytes) -> Refused:
        return _damaged(what, START + model + record(b"C", body) + END)

    def with_numbers(what: str, size: int, symbols: int, lanes: int) -> Refused:
        return with_body(what, records.CodedBlock(size, symbols, lanes, 0, b"").body())

    good = records.CodedBlock(9, 5, 1, 0, b"").body()
    return {
        "bad-no-model": _damaged("a coded block before any model record", START + record(b"C", good) + END),
        "bad-model-of-frame": _damaged("its model record is in the frame before", START + model + END + START + record(b"C", good) + END),
        "bad-size-0": with_numbers("a size of 0", 0, 0, 0),
        "bad-size-limit": with_numbers("a size above the limit", parameters.MAX_BLOCK + 1, 5, 1),
        "bad-symbols-0": with_numbers("no symbols", 9, 0, 0),
        "bad-symbols": with_numbers("more symbols than bytes", 9, 10, 1),
        "bad-lanes-0": with_numbers("no lanes", 9, 5, 0),
        "bad-lanes": with_numbers("more lanes than symbols", 9, 5, 6),
        "bad-lanes-4097": with_numbers("4097 lanes", 9000, 9000, parameters.MAX_LANES + 1),
        "bad-coded-short": with_body("a coded block that ends in its check", good[:-1]),
        "bad-varint-long": with_body("a size not in its shortest form", b"\x89\x00" + good[1:]),
        "bad-varint-endless": with_body("a size of eleven bytes", b"\x89" + b"\x80" * 9 + b"\x00" + good[1:]),
    }


def _form_blocks() -> dict[str, Refused]:
    """They follow the record of a model that nobody has, because the error is found without the model."""
    model = records.encode_record(
        records.ModelRecord("nobody's", b"0" * records.DIGEST_BYTES, b"0" * records.TOKENIZER_BYTES, AttentionSpan(1280, 4), FROZEN)
    )
    good = records.FormBlock(100, 5, 1, 0, b"", 9, False, Item(4, RUN, 91).written())

    def form(what: str, **fields: object) -> Refused:
        return _damaged(what, START + model + record(b"F", replace(good, **fields).body()) + END)  # type: ignore[arg-type]

    packed = wire.varint(len(good.side)) + lzma2.pack(good.side, dictionary=MAX_SIDE)
    return {
        "bad-form-no-model": _damaged("a form block before any model record", START + record(b"F", good.body()) + END),
        "bad-form-size-0": form("content of no bytes", size=0, side=b""),
        "bad-form-size-limit": form("content above the limit", size=parameters.MAX_BLOCK + 1),
        "bad-form-text-0": form("text of no bytes", text=0, symbols=0, lanes=0),
        "bad-form-symbols": form("more symbols than bytes of text", symbols=10),
        "bad-form-lanes": form("more lanes than symbols", lanes=6),
        "bad-form-side-cut": form("an item that ends in a field", side=good.side[:-1]),
        "bad-form-side-limit": Refused(
            "side information above the limit", DamagedArchiveError, START + model + record(b"F", b"\1\0" + wire.varint(MAX_SIDE + 1)) + END
        ),
        "bad-form-kind": form("an item of unknown kind", side=b"\4\0\6\5"),
        "bad-form-run-0": form("a run of no bytes", side=b"\4\0\0\0a"),
        "bad-form-run-of-zeros": form("a run of zeros that is written as one of another byte", side=b"\4\0\0\7\0"),
        "bad-form-encoded-0": form("no text in an encoding", side=b"\4\0\1\0"),
        "bad-form-text": form("items of more text than there is", side=Item(5, UTF_16LE, 5).written()),
        "bad-form-runs": form("runs of more bytes than the content has", side=Item(0, RUN, 60).written() * 2),
        "bad-form-packed-size": form(
            "packed items one byte longer than they say", packed=True, side=wire.varint(len(good.side) - 1) + packed[1:]
        ),
        "bad-form-packed-stream": form("packed items that cannot be unpacked", packed=True, side=packed[:-1]),
        "bad-form-packed-bomb": form(
            "a million bytes of items where five are stated", packed=True, side=b"\5" + lzma2.pack(bytes(10**6), dictionary=MAX_SIDE)
        ),
    }


def _other_records() -> dict[str, Refused]:
    content = b"again and again, " * 9
    good = records.XzBlock(len(content), records.content_check(content), lzma2.pack(content))
    end = records.WholeCheck()
    end.update(content)
    right = end.record()

    def xz(what: str, **fields: object) -> Refused:
        return _damaged(what, START + record(b"X", replace(good, **fields).body()) + records.encode_record(right))  # type: ignore[arg-type]

    def ended(what: str, body: bytes) -> Refused:
        return _damaged(what, START + record(b"S", content) + record(b"E", body))

    zeros = lzma2.pack(bytes(1 << 24))
    return {
        "bad-xz-stream": xz("an xz block that cannot be decoded", stream=b"\x7f" + good.stream),
        "bad-xz-no-end": xz("an xz stream without its last byte", stream=good.stream[:-1]),
        "bad-xz-trailing": xz("an xz stream with a byte after its end", stream=good.stream + b"\0"),
        "bad-xz-size": xz("an xz block one byte longer than it says", size=good.size - 1),
        "bad-xz-check": xz("the CRC of an xz block's content", check=good.check ^ 1),
        "bad-xz-short": _damaged(
            "an xz block that ends in its check", START + record(b"X", good.body()[:4]) + records.encode_record(right)
        ),
        "bad-xz-bomb": xz("16 MiB where 153 bytes are stated", stream=zeros),
        "bad-end-size": ended("a frame one byte longer than its end record says", replace(right, size=right.size - 1).body()),
        "bad-end-check": ended("the SHA-256 of a frame", right.body()[:-1] + bytes([right.check[-1] ^ 1])),
        "bad-end-short": ended("an end record with a byte too few", right.body()[:-1]),
        "bad-end-long": ended("an end record with a byte too many", right.body() + b"\0"),
        "bad-end-limit": ended("a frame that claims 2^63 + 1 bytes", wire.varint((1 << 63) + 1) + right.check),
    }


def _content(tiny: bytes) -> dict[str, Refused]:
    """Coded blocks whose records are intact."""
    model, block, end = _records(tiny)

    def whole(m: records.ModelRecord, b: records.CodedBlock) -> bytes:
        parts: list[records.Record] = [m, b, end]
        return START + b"".join(map(records.encode_record, parts))

    def lost(what: str, **fields: object) -> Refused:
        return Refused(what, NotReproducedError, whole(model, replace(block, **fields)))  # type: ignore[arg-type]

    form = records.FormBlock(
        block.size + 4, *(block.symbols, block.lanes, block.check, block.stream, block.size), False, Item(9, RUN, 5).written()
    )
    flipped = bytes([block.stream[0] ^ 1]) + block.stream[1:]
    other = replace(model, digest=bytes(records.DIGEST_BYTES)), replace(model, tokenizer=bytes(records.TOKENIZER_BYTES))
    most = {"size": parameters.MAX_BLOCK, "symbols": parameters.MAX_BLOCK}
    return {
        "bad-not-reproduced-check": lost("the CRC of a coded block's content", check=block.check ^ 1),
        "bad-not-reproduced-size": lost("a coded block one byte shorter than it says", size=block.size + 1),
        "bad-not-reproduced-stream": lost("one bit of the bitstream, the CRC of the record being right", stream=flipped),
        "bad-not-reproduced-target": lost("a first target that no symbol has", stream=b"\xff" * 4),
        "bad-not-reproduced-bomb": lost("2^24 symbols in 100 bytes: a target that no symbol has comes early", **most, stream=BOMB),
        "bad-not-reproduced-form": Refused("a form block of a byte more than it says", NotReproducedError, whole(model, form)),
        "bad-other-model": Refused("a coded block of a model that is not to be had", ModelUnavailableError, whole(other[0], block)),
        "bad-other-tokenizer": Refused("a coded block of the model with another tokenizer", ModelMismatchError, whole(other[1], block)),
    }


def _new() -> dict[str, Refused]:
    """Blocks of the network that starts from nothing, whose records are intact."""
    content = b"again and again"
    encoded = BlockCodec(LoadedModels(Options(model=NEW)), Policy.MODEL).encode(content, Options(model=NEW))
    model, block = encoded.model, encoded.block
    assert model and isinstance(block, records.CodedBlock)

    def bad(what: str, error: type[LLZError], m: records.ModelRecord = model, b: records.CodedBlock = block) -> Refused:
        whole = records.WholeCheck()
        whole.update(content)
        parts: list[records.Record] = [m, b, whole.record()]
        return Refused(what, error, START + b"".join(map(records.encode_record, parts)))

    flipped = bytes([block.stream[0] ^ 1]) + block.stream[1:]
    window, other = replace(model, span=replace(model.span, window=2)), replace(model, tokenizer=bytes(records.TOKENIZER_BYTES))
    return {
        "bad-new-stream": bad("the network, one bit of the bitstream", NotReproducedError, b=replace(block, stream=flipped)),
        "bad-new-lanes": bad("the network, two lanes", NotReproducedError, b=replace(block, lanes=2)),
        "bad-new-symbols": bad("the network, a byte less than the size", NotReproducedError, b=replace(block, symbols=len(content) - 1)),
        "bad-new-tokenizer": bad("the network with another tokenizer", ModelMismatchError, other),
        "unsupported-new-window": bad("the network with a window", UnsupportedArchiveError, window),
    }


def _parity(protected: bytes) -> dict[str, Refused]:
    """Repair turns each of these into `good-parity`."""
    return {
        "bad-parity-block": _damaged("zeros in a block that parity protects", protected[:40] + bytes(30) + protected[70:]),
        "bad-parity-frame": _damaged("zeros at the end of a parity frame", protected[:-60] + bytes(60)),
        "bad-parity-head": Refused("the first bytes of what parity protects are missing", NotAnArchiveError, protected[31:]),
    }


def _unsupported(tiny: bytes) -> dict[str, Refused]:
    model = records.ModelRecord(
        "local:tiny", b"0" * records.DIGEST_BYTES, b"0" * records.TOKENIZER_BYTES, AttentionSpan(1280, 4), FROZEN
    ).body()

    def unsupported(what: str, archive: bytes) -> Refused:
        return Refused(what, UnsupportedArchiveError, archive)

    return {
        "unsupported-version": unsupported("a format version of the future", records.MAGIC + b"\x02" + tiny[5:]),
        "unsupported-version-0": unsupported("format version 0, and nothing else", records.MAGIC + b"\x00"),
        "unsupported-frame": unsupported("a format version of the future, in the second frame", START + END + records.MAGIC + b"\x02"),
        "unsupported-arithmetic": unsupported("an arithmetic version of the past", START + record(b"M", b"\x01" + model[1:]) + END),
        "unsupported-arithmetic-5": unsupported(
            "an arithmetic version of the future, and nothing else", START + record(b"M", b"\x05") + END
        ),
        "unsupported-learning": unsupported("flags of the future", START + record(b"M", model[:4] + b"\x80" + model[5:]) + END),
        "unsupported-form": unsupported("a form of the future", START + record(b"F", b"\1\2") + END),
        "unsupported-record": unsupported("a record of unknown kind", START + record(b"Z", b"from the future") + END),
    }
