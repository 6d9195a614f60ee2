"""Sizes that other compressors give for the same bytes."""

from __future__ import annotations

import gzip
import lzma

from llmzip.system.libraries import ZSTD, import_first


def sizes(data: bytes) -> dict[str, int]:
    """Compressed size in bytes by the name of the equivalent command. zstd only if Python has a library for it."""
    out = {"gzip -9": len(gzip.compress(data, 9, mtime=0)), "xz -9": len(lzma.compress(data, preset=9))}
    if zstd := import_first(*ZSTD):
        out["zstd -19"] = len(zstd.compress(data, 19))
    return out
