"""Classical coding for blocks the model cannot help with: raw LZMA2, with parameters fixed by the format."""

from __future__ import annotations

import lzma

from llmzip.errors import DamagedArchiveError

USUAL, BEST = 6, 9 | lzma.PRESET_EXTREME  # presets: the encoder's effort; a decoder accepts any
DICTIONARY = 1 << 24  # bytes of the dictionary for blocks; a decoder takes as much memory


def _filters(preset: int, dictionary: int) -> list[dict[str, int]]:
    return [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": dictionary}]


def pack(content: bytes | bytearray, preset: int = USUAL, dictionary: int = DICTIONARY) -> bytes:
    """Return `content` as raw LZMA2."""
    return lzma.compress(content, format=lzma.FORMAT_RAW, filters=_filters(preset, dictionary))


def unpack(stream: bytes, size: int, dictionary: int = DICTIONARY) -> bytes:
    """Return the content of a raw LZMA2 stream. Memory is bounded by `size` and the dictionary.

    Args:
        stream: raw LZMA2 with its end marker.
        size: bytes of content.
        dictionary: bytes of the dictionary.

    Raises:
        DamagedArchiveError: the stream is invalid, or its content has another size.
    """
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
