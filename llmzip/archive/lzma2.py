"""Classical coding for blocks the model cannot help with: raw LZMA2, with parameters fixed by the format."""

from __future__ import annotations

import lzma

from llmzip.errors import DamagedArchiveError

USUAL, BEST = 6, 9 | lzma.PRESET_EXTREME  # presets: how hard an encoder tries
DICTIONARY = 1 << 24  # bytes, of blocks; a decoder takes memory for it


def _filters(preset: int, dictionary: int) -> list[dict[str, int]]:
    return [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": dictionary}]


def pack(content: bytes | bytearray, preset: int = USUAL, dictionary: int = DICTIONARY) -> bytes:
    """Raw LZMA2 of `content`."""
    return lzma.compress(content, format=lzma.FORMAT_RAW, filters=_filters(preset, dictionary))


def unpack(stream: bytes, size: int, dictionary: int = DICTIONARY) -> bytes:
    """The `size` bytes that `stream` holds, never more memory than that and the dictionary. Raises DamagedArchiveError."""
    try:
        decoder = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_filters(USUAL, dictionary))
        content = decoder.decompress(stream, size + 1)
        if not decoder.eof:
            content += decoder.decompress(b"", 1)  # the end marker
    except (lzma.LZMAError, EOFError) as e:
        raise DamagedArchiveError(f"a block cannot be unpacked ({e}); get another copy") from e
    if len(content) != size or not decoder.eof or decoder.unused_data:
        raise DamagedArchiveError("a block does not have the size it states; get another copy")
    return content
