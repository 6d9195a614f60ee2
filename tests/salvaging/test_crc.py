"""CRC-32 as arithmetic, against zlib's."""

from __future__ import annotations

import random
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmzip.salvaging import crc

DATA = random.Random(1).randbytes(100_000)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@given(st.lists(st.tuples(st.integers(0, len(DATA)), st.integers(0, len(DATA))), min_size=1, max_size=20), st.binary(max_size=9))
def test_spans(pairs: list[tuple[int, int]], before: bytes) -> None:
    spans = [(min(pair), max(pair)) for pair in pairs]
    found = crc.of_spans(DATA, np.array([a for a, _ in spans]), np.array([b for _, b in spans]), zlib.crc32(before))
    assert found.tolist() == [zlib.crc32(before + DATA[a:b]) for a, b in spans]


@pytest.mark.parametrize("size", [0, 1, 6, 1000, 100_000])
def test_flipped_bit(size: int) -> None:
    """Any bit, of the message or of its CRC."""
    message = DATA[:size]
    whole = message + zlib.crc32(message).to_bytes(4, "little")
    bits = range(8 * len(whole)) if size < 10 else [0, 7, 8, 8 * size // 2, 8 * size - 1, 8 * size, 8 * size + 31]
    for bit in bits:
        damaged = flipped(whole, bit)
        difference = zlib.crc32(damaged[:-4]) ^ int.from_bytes(damaged[-4:], "little")
        assert crc.flipped_bit(difference, len(whole)) == bit


def test_two_flipped_bits_are_not_one() -> None:
    """Up to some 11 kB no three bits cancel in this CRC, so that two are never taken for a third."""
    for seed in range(50):
        one, two = random.Random(seed).sample(range(8 * 1004), 2)
        message = DATA[:1000]
        damaged = flipped(flipped(message + zlib.crc32(message).to_bytes(4, "little"), one), two)
        difference = zlib.crc32(damaged[:-4]) ^ int.from_bytes(damaged[-4:], "little")
        assert crc.flipped_bit(difference, 1004) is None
