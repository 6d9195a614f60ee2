"""Content that is text in another form: text of fixed width, text in windows-1252, and long runs of one byte.

Such content is coded as a *text* that the model predicts well, and *side information* that says how to make the content from the text.
Side information is a list of items. docs/format.md, 3.8, is the specification. Nothing here needs the model or torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmzip.archive import lzma2
from llmzip.archive.wire import Cursor, varint
from llmzip.errors import DamagedArchiveError, NotReproducedError

MAX_SIDE = 1 << 18  # most bytes of side information
KINDS = range(6)  # kinds of items
RUN, UTF_16LE, UTF_16BE, UTF_32LE, UTF_32BE, WINDOWS = KINDS
NAMES = ["runs", "UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE", "windows-1252"]  # by kind
WIDTHS = {UTF_16LE: 2, UTF_16BE: 2, UTF_32LE: 4, UTF_32BE: 4}  # bytes of a unit
CODECS = {UTF_16LE: "utf-16-le", UTF_16BE: "utf-16-be", UTF_32LE: "utf-32-le", UTF_32BE: "utf-32-be"}

# The characters of windows-1252 at 0x80 to 0x9F. Everywhere else, and where windows-1252 has no character, Latin-1 is used.
_C1 = "€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ"
CHARACTERS = [chr(b) for b in range(0x80)] + list(_C1) + [chr(b) for b in range(0xA0, 0x100)]
_TO_WINDOWS = {ord(c): b for b, c in enumerate(CHARACTERS)}


class Item:
    """A number of bytes copied from the text, followed by a run of one byte or by text in an encoding.

    Attributes:
        plain: bytes of text that are copied to the content unchanged.
        kind: RUN, or the encoding of the text that follows.
        length: bytes of the run, or bytes of the text that is encoded.
        byte: the byte of a run.
    """

    __slots__ = ("byte", "kind", "length", "plain")

    def __init__(self, plain: int, kind: int, length: int, byte: int = 0) -> None:
        self.plain, self.kind, self.length, self.byte = plain, kind, length, byte

    def written(self) -> bytes:
        """Return the item as bytes."""
        if self.kind == RUN and not self.byte:
            return varint(self.plain) + varint(self.length)
        return varint(self.plain) + bytes([0, self.kind]) + varint(self.length) + (bytes([self.byte]) if self.kind == RUN else b"")


@dataclass(frozen=True)
class Transcript:
    """Content as text and side information.

    Attributes:
        text: what the model codes, in UTF-8 where an item encodes it.
        items: the side information.
    """

    text: bytes
    items: list[Item]

    def side(self) -> tuple[bytes, bool]:
        """Return the items as bytes, and whether these are packed with LZMA2."""
        plain = b"".join(item.written() for item in self.items)
        packed = varint(len(plain)) + lzma2.pack(plain, dictionary=MAX_SIDE)
        return (packed, True) if len(packed) < len(plain) else (plain, False)


def read_side(side: bytes, packed: bool, size: int, text: int) -> list[Item]:
    """Return the items of a block.

    Args:
        side: side information as in the record.
        packed: whether it is packed with LZMA2.
        size: bytes of the block's content.
        text: bytes of the block's text.

    Raises:
        DamagedArchiveError: the side information is invalid, or does not fit the sizes.
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
    """Return the content made from a text and its items. Never take memory for more than `size` bytes of content.

    Args:
        items: the side information.
        text: the decoded text.
        size: bytes of content.

    Raises:
        NotReproducedError: the content has another size, or a part of the text cannot be encoded as its item says.
    """
    out, at = bytearray(), 0
    try:
        for item in items:
            _check_room(out, item.plain, size)
            out += text[at : at + item.plain]
            at += item.plain
            if item.kind == RUN:
                _check_room(out, item.length, size)
                out += bytes([item.byte]) * item.length
            else:
                characters = text[at : at + item.length].decode()
                _check_room(out, len(characters) * WIDTHS.get(item.kind, 1), size)
                out += _encoded(characters, item.kind)
                at += item.length
    except UnicodeError as e:
        raise NotReproducedError("noticed where text should be") from e
    _check_room(out, len(text) - at, size)
    out += text[at:]
    if len(out) != size:
        raise NotReproducedError("noticed at the end of a block")
    return bytes(out)


def _check_room(out: bytearray, more: int, size: int) -> None:
    """Raise NotReproducedError if `more` bytes added to `out` exceed `size`."""
    if len(out) + more > size:
        raise NotReproducedError("noticed before the end of a block")


def _encoded(characters: str, kind: int) -> bytes:
    """Return the characters in an encoding. Raises UnicodeError."""
    if kind != WINDOWS:
        return characters.encode(CODECS[kind])
    try:
        return bytes(_TO_WINDOWS[ord(c)] for c in characters)
    except KeyError as e:
        raise UnicodeError from e
