"""Parity, and what repair makes of an archive that was damaged, or made to do harm."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from random import Random

from llmzip.archive import records as rec
from llmzip.archive import wire
from llmzip.archive.parity import frame as parity_frame
from llmzip.archive.parity import layout as parity_layout
from llmzip.archive.parity.repair import repair
from llmzip.errors import LLZError
from tests.support.fuzzing import containers, mutation

MOST_MEMORY = 1 << 24  # bytes, for archives of a few thousand


def repaired(data: bytes) -> str:
    """What comes out holds together, and is not repaired once more; memory stays in proportion."""
    tracemalloc.start()
    try:
        archive = repair(data)
    except LLZError as e:
        return type(e).__name__
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST_MEMORY, f"repair took {peak:,} bytes"
    assert repair(archive) == archive, "repaired again it differs"
    return "whole" if archive == data else "repaired"


def inputs(rng: Random) -> Iterator[bytes]:
    """Archives with parity, damaged; and with parity records that say something else, their checks right."""
    plain = [a for a in containers.corpus() if containers.records(a + a) == "accepted"]  # no zeros follow it: another frame is to
    good = [a + parity_frame.frame(a, parity_layout.choose(len(a), percent)) for a in plain for percent in (1, 10, 50)]
    good += [a + b for a in good[:4] for b in good[-2:]]
    while True:
        archive = rng.choice(good)
        if rng.random() < 0.5:
            for _ in range(rng.choice((1, 2, 10))):
                archive = mutation.blind(rng, archive, good)
            yield archive
        else:
            yield mutation.rechecked(rng, mutation.frames(archive), _change)


def _change(rng: Random, old: rec.AnyRecord) -> bytes:
    content = parity_frame.read(old.content) if isinstance(old, rec.ParityRecord) else None
    if content is None or rng.random() < 0.2:
        return rng.choice((mutation.other_body, mutation.other_field))(rng, old)
    layout, number, payload = content
    n = {name: getattr(layout, name) for name in ("size", "shard", "groups", "parity")}
    if rng.random() < 0.7:
        name = rng.choice(list(n))
        n[name] = rng.choice((*mutation.EDGES, n[name] + 1, n[name] - 1, n[name] * 7, 1 << 36))
    numbers = (
        wire.varint(n["size"] % 2**64) + wire.varint(n["shard"] % 2**64) + wire.varint(n["groups"] % 2**64) + bytes([n["parity"] % 256])
    )
    number = rng.choice((number, number, number + 1, *mutation.EDGES)) % 2**32
    payload = rng.choice((payload, payload, b"", bytes(n["shard"] % 70_000), rng.randbytes(len(payload))))
    return mutation.record(b"P", parity_layout.MARKER + numbers + number.to_bytes(4, "little") + payload)
