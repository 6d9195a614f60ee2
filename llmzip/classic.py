"""Classical coding for blocks the model cannot help with: raw LZMA2, with parameters fixed by the format."""

from __future__ import annotations

import lzma

from llmzip.errors import DamagedArchiveError

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 24}]


def pack(content: bytes) -> bytes:
    """Raw LZMA2 of `content`."""
    return lzma.compress(content, format=lzma.FORMAT_RAW, filters=_FILTERS)


def unpack(stream: bytes, size: int) -> bytes:
    """The `size` bytes that `stream` holds, never more memory than that. Raises DamagedArchiveError."""
    try:
        decoder = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_FILTERS)
        content = decoder.decompress(stream, size + 1)
        if not decoder.eof:
            content += decoder.decompress(b"", 1)  # the end marker
    except (lzma.LZMAError, EOFError) as e:
        raise DamagedArchiveError(f"a block cannot be unpacked ({e}); get another copy") from e
    if len(content) != size or not decoder.eof or decoder.unused_data:
        raise DamagedArchiveError("a block does not have the size it states; get another copy")
    return content
