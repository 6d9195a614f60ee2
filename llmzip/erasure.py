"""Reed–Solomon parity of whole shards: the bytes at one place of all shards of a group are one codeword over GF(2^8).

The code is reedsolo's. It is linear, so it is asked for unit vectors alone, and the matrix they make is applied to whole shards.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reedsolo import RSCodec

MAX_WORD = 255  # symbols of a codeword, thus shards of a group, parity included
_POLYNOMIAL = 0x11D  # of the field


def parity(data: Sequence[bytes], count: int) -> list[bytes]:
    """The parity shards of data shards.

    Args:
        data: shards of equal length, the first one holding the highest coefficients of the codewords.
        count: how many parity shards there shall be; with the data at most MAX_WORD.
    """
    return _combine(_parity_rows(len(data), count), data)


def restore(data: Sequence[bytes | None], parities: Sequence[bytes | None]) -> list[bytes]:
    """All data shards, those missing computed from the others.

    Args:
        data: shards of equal length, None where one is missing.
        parities: what `parity` gave, None where one is missing; at least as many must be left as there are data shards missing.
    """
    missing = [i for i, shard in enumerate(data) if shard is None]
    used = [i for i, shard in enumerate(parities) if shard is not None][: len(missing)]
    assert len(used) == len(missing)
    if not missing:
        return [shard for shard in data if shard is not None]
    left = [shard for shard in parities if shard is not None][: len(missing)]
    known = [shard if shard is not None else bytes(len(left[0])) for shard in data]
    rows = _parity_rows(len(data), len(parities))
    from_missing = [_xor(*pair) for pair in zip(left, _combine([rows[i] for i in used], known), strict=True)]
    for i, shard in zip(missing, _combine(_missing_rows(len(data), len(parities), missing, used), from_missing), strict=True):
        known[i] = shard
    return known


def _codec(parities: int) -> RSCodec:
    from reedsolo import RSCodec

    return RSCodec(parities, nsize=MAX_WORD, fcr=0, prim=_POLYNOMIAL, generator=2, c_exp=8)


def _unit(length: int, at: int) -> bytearray:
    word = bytearray(length)
    word[at] = 1
    return word


@functools.lru_cache(maxsize=8)
def _parity_rows(data: int, parities: int) -> list[bytes]:
    """What each parity symbol takes of each data symbol."""
    codec = _codec(parities)
    return [bytes(row) for row in zip(*(codec.encode(_unit(data, i))[data:] for i in range(data)), strict=True)]


def _missing_rows(data: int, parities: int, missing: list[int], used: list[int]) -> list[bytes]:
    """What each missing data symbol takes of each parity symbol used, if all other data symbols are zero."""
    codec = _codec(parities)
    erased = missing + [data + i for i in range(parities) if i not in used]
    columns = []
    for i in used:
        word = codec.decode(_unit(data + parities, data + i), erase_pos=erased, only_erasures=True)[0]
        columns.append([word[j] for j in missing])
    return [bytes(row) for row in zip(*columns, strict=True)]


def _combine(rows: Sequence[bytes], shards: Sequence[bytes]) -> list[bytes]:
    """The product of a matrix over the field with shards."""
    combined = []
    for row in rows:
        total = 0
        for factor, shard in zip(row, shards, strict=True):
            if factor:
                total ^= int.from_bytes(shard.translate(_products(factor)), "little")
        combined.append(total.to_bytes(len(shards[0]), "little"))
    return combined


@functools.lru_cache(maxsize=256)
def _products(factor: int) -> bytes:
    """The product of a field's element with each of 0 to 255."""
    products = [0]
    for _ in range(8):
        products += [product ^ factor for product in products]
        factor = factor << 1 ^ (_POLYNOMIAL if factor & 0x80 else 0)
    return bytes(products)


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(len(a), "little")
