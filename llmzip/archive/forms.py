"""Content that is text in another form: text of fixed width, text in windows-1252, and long runs of one byte.

Such content is coded as a *text* that the model reads well, and *side information*: how the content is made of the text. A side is a
list of items, one after another. docs/format.md, 3.8, is the specification. Nothing here knows the model or torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmzip.archive import lzma2
from llmzip.archive.wire import Cursor, varint
from llmzip.errors import DamagedArchiveError, NotReproducedError

MAX_SIDE = 1 << 18  # bytes of items
KINDS = range(6)  # of items
RUN, UTF_16LE, UTF_16BE, UTF_32LE, UTF_32BE, WINDOWS = KINDS
NAMES = ["runs", "UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE", "windows-1252"]  # by kind
WIDTHS = {UTF_16LE: 2, UTF_16BE: 2, UTF_32LE: 4, UTF_32BE: 4}  # bytes of a unit
CODECS = {UTF_16LE: "utf-16-le", UTF_16BE: "utf-16-be", UTF_32LE: "utf-32-le", UTF_32BE: "utf-32-be"}

# What windows-1252 has at 0x80 to 0x9F; elsewhere it is Latin-1, and where it has nothing, too.
_C1 = "€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ"
CHARACTERS = [chr(b) for b in range(0x80)] + list(_C1) + [chr(b) for b in range(0xA0, 0x100)]
_TO_WINDOWS = {ord(c): b for b, c in enumerate(CHARACTERS)}


class Item:
    """Some bytes of the text as they are, and then something else: text in an encoding, or a run.

    Attributes:
        plain: bytes of text that are content as they are.
        kind: RUN, or the encoding of what follows.
        length: of a run, or bytes of text in the encoding.
        byte: of a run.
    """

    __slots__ = ("byte", "kind", "length", "plain")

    def __init__(self, plain: int, kind: int, length: int, byte: int = 0) -> None:
        self.plain, self.kind, self.length, self.byte = plain, kind, length, byte

    def written(self) -> bytes:
        """The item's bytes."""
        if self.kind == RUN and not self.byte:
            return varint(self.plain) + varint(self.length)
        return varint(self.plain) + bytes([0, self.kind]) + varint(self.length) + (bytes([self.byte]) if self.kind == RUN else b"")


@dataclass(frozen=True)
class Transcript:
    """Content as text and side information."""

    text: bytes
    items: list[Item]

    def side(self) -> tuple[bytes, bool]:
        """The items' bytes, and whether they are packed."""
        plain = b"".join(item.written() for item in self.items)
        packed = varint(len(plain)) + lzma2.pack(plain, dictionary=MAX_SIDE)
        return (packed, True) if len(packed) < len(plain) else (plain, False)


def read_side(side: bytes, packed: bool, size: int, text: int) -> list[Item]:
    """The items of a block.

    Args:
        side: as in the record.
        packed: whether they are packed.
        size: bytes of content.
        text: bytes of text.

    Raises:
        DamagedArchiveError: they are no items, or do not fit the sizes.
    """
    if packed:
        c = Cursor(side)
        length = c.varint(MAX_SIDE)
        side = lzma2.unpack(c.rest(), length, MAX_SIDE)
    c, items = Cursor(side), list[Item]()
    while c.left:
        plain, length, kind, byte = c.varint(text), c.varint(size), RUN, 0
        if not length:
            kind = c.take(1)[0]
            length = c.varint(size if kind == RUN else text)
            byte = c.take(1)[0] if kind == RUN else 0
            if not length or kind not in KINDS or (kind == RUN and not byte):
                raise DamagedArchiveError("a block's form is none; get another copy")
        text -= plain if kind == RUN else plain + length
        size -= plain + length if kind == RUN else plain
        if text < 0 or size < 0:
            raise DamagedArchiveError("a block's form does not fit its sizes; get another copy")
        items.append(Item(plain, kind, length, byte))
    return items


def restore(items: list[Item], text: bytes, size: int) -> bytes:
    """The `size` bytes of content; never takes memory for more.

    Raises:
        NotReproducedError: it has another size, or what should be text in another encoding cannot be.
    """
    out, at = bytearray(), 0
    try:
        for item in items:
            _room(out, item.plain, size)
            out += text[at : at + item.plain]
            at += item.plain
            if item.kind == RUN:
                _room(out, item.length, size)
                out += bytes([item.byte]) * item.length
            else:
                characters = text[at : at + item.length].decode()
                _room(out, len(characters) * WIDTHS.get(item.kind, 1), size)
                out += _encoded(characters, item.kind)
                at += item.length
    except UnicodeError as e:
        raise NotReproducedError("noticed where text should be") from e
    _room(out, len(text) - at, size)
    out += text[at:]
    if len(out) != size:
        raise NotReproducedError("noticed at the end of a block")
    return bytes(out)


def _room(out: bytearray, more: int, size: int) -> None:
    if len(out) + more > size:
        raise NotReproducedError("noticed before the end of a block")


def _encoded(characters: str, kind: int) -> bytes:
    """Raises UnicodeError."""
    if kind != WINDOWS:
        return characters.encode(CODECS[kind])
    try:
        return bytes(_TO_WINDOWS[ord(c)] for c in characters)
    except KeyError as e:
        raise UnicodeError from e
