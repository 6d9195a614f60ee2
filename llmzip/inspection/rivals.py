"""What other compressors make of the same bytes."""

from __future__ import annotations

import gzip
import importlib
import lzma


def sizes(data: bytes) -> dict[str, int]:
    """Compressed bytes by the name of the command that gives them; zstd only where Python has it, from 3.14 or as `zstandard`."""
    out = {"gzip -9": len(gzip.compress(data, 9, mtime=0)), "xz -9": len(lzma.compress(data, preset=9))}
    zstd = _zstd(data)
    return out if zstd is None else out | {"zstd -19": zstd}


def _zstd(data: bytes) -> int | None:
    try:
        return len(importlib.import_module("compression.zstd").compress(data, 19))
    except ImportError:
        pass
    try:
        return len(importlib.import_module("zstandard").ZstdCompressor(level=19).compress(data))
    except ImportError:
        return None
