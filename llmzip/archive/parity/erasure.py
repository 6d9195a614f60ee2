"""Reed–Solomon parity of whole shards. The bytes at one position in all shards of a group form one codeword over GF(2^8).

The code is that of reedsolo, from which the generator polynomial is taken. The code is linear, so it is applied as a matrix to whole
shards, which is a hundred times as fast as coding word by word.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

MAX_WORD = 255  # most symbols of a codeword, and so most shards of a group, parity included
_POLYNOMIAL = 0x11D  # the field's reduction polynomial


def parity(data: Sequence[bytes], count: int) -> list[bytes]:
    """Return the parity shards of data shards.

    Args:
        data: shards of equal length; the first holds the highest coefficients of the codewords.
        count: number of parity shards; together with the data shards at most MAX_WORD.
    """
    return _combine(_parity_rows(len(data), count), data)


def compute_missing(data: Sequence[bytes | None], parities: Sequence[bytes | None]) -> list[bytes]:
    """Return all data shards; missing ones are computed from the others.

    Args:
        data: shards of equal length, None where one is missing.
        parities: the shards from `parity`, None where one is missing. At least as many must be present as data shards are missing.
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
    """Return the matrix of the code: the factor of each data symbol in each parity symbol, one row for each parity symbol."""
    from reedsolo import RSCodec

    generator = bytes(RSCodec(parities, nsize=MAX_WORD, fcr=0, prim=_POLYNOMIAL, generator=2, c_exp=8).gen[parities])[1:]
    # The parity of the last data symbol alone. That of each symbol before it is this times z, modulo the generator polynomial.
    columns = [generator]
    while len(columns) < data:
        columns.append(_xor(columns[-1][1:] + b"\0", generator.translate(_products(columns[-1][0]))))
    return [bytes(row) for row in zip(*reversed(columns), strict=True)]


def _inverse(matrix: list[bytes]) -> list[bytes]:
    """Return the inverse of a matrix, by elimination.

    The inverse must exist. It does for every square submatrix of the parity matrix.
    """
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
    """Return the product of a matrix over the field with shards."""
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
    """Return the products of an element of the field with each of 0 to 255."""
    products = [0]
    for _ in range(8):
        products += [product ^ factor for product in products]
        factor = factor << 1 ^ (_POLYNOMIAL if factor & 0x80 else 0)
    return bytes(products)


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(len(a), "little")
