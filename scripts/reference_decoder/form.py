"""Section 3.8: content made of a text and side information."""

import lzma

from errors import DamagedError, NotReproducedError

MAX_SIDE = 2**18
RUN, WINDOWS = 0, 5
ENCODINGS = {1: "utf-16-le", 2: "utf-16-be", 3: "utf-32-le", 4: "utf-32-be"}
TABLE = {
    0x20AC: 0x80, 0x201A: 0x82, 0x0192: 0x83, 0x201E: 0x84, 0x2026: 0x85, 0x2020: 0x86, 0x2021: 0x87, 0x02C6: 0x88, 0x2030: 0x89,
    0x0160: 0x8A, 0x2039: 0x8B, 0x0152: 0x8C, 0x017D: 0x8E, 0x2018: 0x91, 0x2019: 0x92, 0x201C: 0x93, 0x201D: 0x94, 0x2022: 0x95,
    0x2013: 0x96, 0x2014: 0x97, 0x02DC: 0x98, 0x2122: 0x99, 0x0161: 0x9A, 0x203A: 0x9B, 0x0153: 0x9C, 0x017E: 0x9E, 0x0178: 0x9F,
}  # fmt: skip


def unpack(fields):
    """The items of a side that is packed."""
    length = fields.varint("bytes of items", 0, MAX_SIDE)
    decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": MAX_SIDE}])
    try:
        items = decoder.decompress(fields.rest(), length + 1)
        if not decoder.eof and len(items) <= length:
            items += decoder.decompress(b"", 1)
    except (lzma.LZMAError, EOFError):
        raise DamagedError("side information cannot be decoded") from None
    if not decoder.eof or decoder.unused_data or len(items) != length:
        raise DamagedError("side information has not the length it states")
    return items


def read_items(fields, size, text):
    """The items, each as (plain, kind, length, byte), held against the sizes of content and text."""
    items = []
    while fields.at < len(fields.data):
        plain = fields.varint("plain", 0, text)
        length, kind, byte = fields.varint("zeros", 0, size), RUN, 0
        if length == 0:
            kind = fields.byte("kind", 0, 5)
            length = fields.varint("length", 1, size if kind == RUN else text)
            byte = fields.byte("byte", 1, 255) if kind == RUN else 0
        text -= plain if kind == RUN else plain + length
        size -= plain + length if kind == RUN else plain
        if text < 0 or size < 0:
            raise DamagedError("side information is of more bytes than there are")
        items.append((plain, kind, length, byte))
    return items


def content_of(items, text, size):
    """The content, which must have `size` bytes."""
    parts, at, made = [], 0, 0
    for plain, kind, length, byte in [*items, (len(text), RUN, 0, 0)]:
        parts.append(text[at : at + plain])
        at += plain
        if kind == RUN:
            parts.append(bytes([byte]) * length)
        else:
            parts.append(encoded(text[at : at + length], kind))
            at += length
        made += len(parts[-2]) + len(parts[-1])
        if made > size:
            break
    if made != size:
        raise NotReproducedError("a block is intact, but content of another size comes out")
    return b"".join(parts)


def encoded(text, kind):
    """Text in the encoding of an item."""
    try:
        characters = text.decode("utf-8")
    except UnicodeDecodeError:
        raise NotReproducedError("a block is intact, but what should be UTF-8 is not") from None
    if kind != WINDOWS:
        return characters.encode(ENCODINGS[kind])
    numbers = [TABLE.get(ord(c), ord(c)) for c in characters]
    if any(n > 255 for n in numbers) or any(0x80 <= ord(c) <= 0x9F and ord(c) in TABLE.values() for c in characters):
        raise NotReproducedError("a block is intact, but a character comes out that windows-1252 does not have")
    return bytes(numbers)
