"""Bytes made from good ones: by blind damage, or with fields changed and every check right again."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from random import Random
from typing import Any

from llmzip.archive import records as rec
from llmzip.archive import wire
from llmzip.parameters import AdapterParameters, BiasParameters, NeighbourParameters
from tests.support.archives import frames_of

EDGES = [0, 1, 2, 3, 4, 15, 16, 17, 127, 128, 200, 201, 255, 4095, 4096, 4097, 8159, 8160, 8161]
EDGES += [n + d for n in (1 << 16, 1 << 20, 1 << 24, (1 << 24) + (1 << 16), 1 << 31, 1 << 32, 1 << 63, 1 << 64) for d in (-1, 0, 1)]

Frames = list[list[rec.AnyRecord]]


def blind(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Damage that knows nothing of what it damages, in one to four places."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, n = rng.randrange(len(out) + 1), rng.choice((1, 1, 2, 4, 8, 64))
        kind = rng.randrange(9)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[at % len(out)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            out[at : at + n] = rng.randbytes(n)
        elif kind == 3:
            out[at:at] = rng.randbytes(n)
        elif kind == 4:
            del out[at : at + n]
        elif kind == 5:
            out[at:at] = out[at : at + n] * rng.choice((1, 2, 50))
        elif kind == 6:
            del out[at:]
        elif kind == 7:
            size = rng.choice((1, 2, 4, 8))
            out[at : at + size] = (rng.choice(EDGES) % (1 << 8 * size)).to_bytes(size, rng.choice(("little", "big")))
        elif others:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            out[at : at + n] = other[start : start + rng.choice((n, len(other)))]
    return bytes(out)


def frames(archive: bytes) -> Frames:
    """The records of a good archive; a sole block is one."""
    return [_stored(frame) for frame in frames_of(archive)]


def _stored(frame: list[rec.Record]) -> list[rec.AnyRecord]:
    model, block, end = frame if len(frame) == 3 else (None, None, None)
    if isinstance(model, rec.ModelRecord) and isinstance(block, rec.CodedBlock) and isinstance(end, rec.EndRecord) and not end.check:
        sole = rec.sole_block(model, block)
        assert sole
        return [sole]
    return [*frame]


def record(tag: bytes, body: bytes) -> bytes:
    """Any record, with the right check."""
    framed = tag + wire.varint(len(body)) + body
    return framed + struct.pack("<I", zlib.crc32(framed))


def joined(parts: list[list[bytes]]) -> bytes:
    """An archive of frames of records, of which anything may be wrong."""
    alone = [bool(frame) and frame[0].startswith(rec.TAG_SOLE) for frame in parts]
    return b"".join((rec.MAGIC if sole else rec.frame_start()) + b"".join(frame) for sole, frame in zip(alone, parts, strict=True))


def padded(value: int, more: int) -> bytes:
    """A varint, `more` bytes longer than it should be."""
    out = bytearray(wire.varint(value))
    if more:
        out[-1] |= 0x80
        out += b"\x80" * (more - 1) + b"\0"
    return bytes(out)


def rechecked(rng: Random, good: Frames, change: Callable[[Random, rec.AnyRecord], bytes]) -> bytes:
    """An archive in which `change` made one record, all checks of records right; sometimes others are lost, doubled or moved."""
    parts = [[rec.encode_record(r) for r in frame] for frame in good]
    n = rng.randrange(len(parts))
    k = rng.randrange(len(parts[n]))
    parts[n][k] = change(rng, good[n][k])
    if rng.random() < 0.1:
        frame = rng.choice(parts)
        kind = rng.randrange(3)
        if kind == 0:
            del frame[rng.randrange(len(frame))]
        elif kind == 1:
            frame.insert(rng.randrange(len(frame) + 1), rng.choice(rng.choice(parts) or [b""]))
        else:
            rng.shuffle(frame)
    return joined(parts)


def other_body(rng: Random, old: rec.AnyRecord) -> bytes:
    """The record with blind damage to its body, or another tag."""
    whole = rec.encode_record(old)
    tag = whole[:1] if rng.random() < 0.95 else bytes([rng.randrange(256)])
    return record(tag, blind(rng, old.body()))


def other_field(rng: Random, old: rec.AnyRecord) -> bytes:
    """The record with one field at, or just beyond, the edge of its range."""
    if isinstance(old, rec.ModelRecord) and rng.random() < 0.4:
        new: rec.AnyRecord = replace(old, adapter=learning(rng, EDGES))
    else:
        name = rng.choice([f.name for f in fields(old)])
        new = replace(old, **{name: _other(rng, getattr(old, name))})
    try:
        body = new.body()
    except (ValueError, OverflowError, UnicodeEncodeError, struct.error):  # no archive can say that
        body = old.body() + b"\0"
    if isinstance(new, (rec.CodedBlock, rec.XzBlock, rec.EndRecord)) and rng.random() < 0.1:
        first = len(wire.varint(new.size))
        body = padded(new.size, rng.choice((1, 2, 8, 9, 10))) + body[first:]
    return record(rec.encode_record(old)[:1], body)


def learning(rng: Random, numbers: Sequence[int]) -> AdapterParameters:
    """Parameters of the adapter, of whatever numbers."""
    bias = BiasParameters(rng.choice(numbers), rng.choice(numbers)) if rng.random() < 0.7 else None
    neighbours = NeighbourParameters(rng.choice(numbers), rng.choice(numbers)) if rng.random() < 0.7 else None
    return AdapterParameters(rng.choice(numbers), bias, neighbours)


def _other(rng: Random, old: Any) -> Any:
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return rng.choice((old + 1, max(0, old - 1), old ^ 1 << rng.randrange(32), rng.choice(EDGES)))
    if isinstance(old, bytes):
        return blind(rng, old)
    if isinstance(old, str):
        return blind(rng, old.encode()).decode("latin-1")
    return old


def flips(data: bytes) -> Iterator[bytes]:
    """With each bit flipped in turn."""
    for bit in range(8 * len(data)):
        out = bytearray(data)
        out[bit // 8] ^= 1 << bit % 8
        yield bytes(out)


def rechecked_flips(archive: bytes, only_streams: bool = False) -> Iterator[bytes]:
    """With each bit of each record's body flipped in turn, and the record's check right again."""
    good = frames(archive)
    parts = [[rec.encode_record(r) for r in frame] for frame in good]
    for n, frame in enumerate(good):
        for k, old in enumerate(frame):
            body = old.body()
            start = 0
            if only_streams:
                start = len(body) - len(old.stream) if isinstance(old, rec.CodedBlock) else len(body)
            for flipped in flips(body[start:]):
                new = [list(f) for f in parts]
                new[n][k] = record(parts[n][k][:1], body[:start] + flipped)
                yield joined(new)
