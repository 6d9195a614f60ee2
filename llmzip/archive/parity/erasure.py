"""Reed–Solomon parity of whole shards: the bytes at one place of all shards of a group are one codeword over GF(2^8).

The code is reedsolo's, its generator polynomial is asked for. As the code is linear, a matrix made of it is applied to whole shards, which
is a hundred times as fast as coding word by word.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

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
    used = [(i, shard) for i, shard in enumerate(parities) if shard is not None][: len(missing)]
    assert len(used) == len(missing)
    zero = bytes(next(len(shard) for shard in (*data, *parities) if shard is not None))
    whole = [zero if shard is None else shard for shard in data]
    rows = [_parity_rows(len(data), len(parities))[i] for i, _ in used]
    of_missing = [_xor(shard, of_others) for (_, shard), of_others in zip(used, _combine(rows, whole), strict=True)]
    from_parity = _inverse([bytes(row[i] for i in missing) for row in rows])
    for i, shard in zip(missing, _combine(from_parity, of_missing), strict=True):
        whole[i] = shard
    return whole


@functools.lru_cache(maxsize=8)
def _parity_rows(data: int, parities: int) -> list[bytes]:
    """What each parity symbol takes of each data symbol."""
    from reedsolo import RSCodec

    generator = bytes(RSCodec(parities, nsize=MAX_WORD, fcr=0, prim=_POLYNOMIAL, generator=2, c_exp=8).gen[parities])[1:]
    columns = [generator]  # the parity of the last data symbol alone, then of those before it: times z, modulo the generator polynomial
    while len(columns) < data:
        columns.append(_xor(columns[-1][1:] + b"\0", generator.translate(_products(columns[-1][0]))))
    return [bytes(row) for row in zip(*reversed(columns), strict=True)]


def _inverse(matrix: list[bytes]) -> list[bytes]:
    """By elimination; the matrix must have an inverse, as all squares of rows and columns of the parity's have."""
    size = len(matrix)
    rows = [row + bytes(i) + b"\1" + bytes(size - 1 - i) for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = next(r for r in range(i, size) if rows[r][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = rows[i].translate(_products(_products(rows[i][i]).index(1)))
        for r, row in enumerate(rows):
            if row[i] and r != i:
                rows[r] = _xor(row, rows[i].translate(_products(row[i])))
    return [row[size:] for row in rows]


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
