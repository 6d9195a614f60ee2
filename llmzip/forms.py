"""Content that is text in another form: text of fixed width, text in windows-1252, and long runs of one byte.

Such content is coded as a *text* that the model reads well, and *side information*: how the content is made of the text. A side is a
list of items, one after another. docs/format.md, 3.7, is the specification. Nothing here knows the model or torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmzip import classic
from llmzip.errors import DamagedArchiveError, NotReproducedError
from llmzip.fields import Cursor, varint

MAX_SIDE = 1 << 18  # bytes of items
RUN = 0  # kind of an item that is a run of any byte
_WINDOWS = 5
CODECS = {1: "utf-16-le", 2: "utf-16-be", 3: "utf-32-le", 4: "utf-32-be"}  # kinds of items that are text in another encoding
KINDS = range(_WINDOWS + 1)
_WIDTHS = {1: 2, 2: 2, 3: 4, 4: 4}

# What windows-1252 has at 0x80 to 0x9F; elsewhere it is Latin-1, and where it has nothing, too.
_C1 = "€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ"
_CHARACTERS = [chr(b) for b in range(0x80)] + list(_C1) + [chr(b) for b in range(0xA0, 0x100)]
_TO_WINDOWS = {ord(c): b for b, c in enumerate(_CHARACTERS)}

_PRINTED = np.isin(np.arange(256), [*range(0x20, 0x7F), 9, 10, 13])
_LEAST_RUN = np.where(_PRINTED, 256, 8)  # by byte: text's own runs have tokens of many characters
_LEAST_UNITS = 8  # characters of fixed width that are worth an item
_LEAST_HIGH = 8  # bytes above 0x7F that are
_MOST_FAULTS = 16  # units that are no characters
_BREAKS = [0x09, 0x0A, 0x0D, 0x20, 0x3000, 0x3001, 0x3002, 0xFF0C]  # what separates words, lines and clauses ...
_BREAK_SHARE = 100  # ... and is at least one in so many characters
_ODD_SHARE = 50  # at most one in so many is a control character, private or none
_UTF8 = re.compile("[\udc80-\udcff]")
_SEVERAL = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}")


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
        packed = varint(len(plain)) + classic.pack(plain)
        return (packed, True) if len(packed) < len(plain) else (plain, False)


def transcribe(content: bytes) -> Transcript | None:
    """The text and items that give `content`, which is checked here; None for plain text and what is no text in any form."""
    if b"\0" not in content and _is_utf8(content):
        return None
    parts = list(_parts(content))
    if all(kind is None for kind, _ in parts):
        return None
    text, items, plain = bytearray(), list[Item](), 0
    for kind, part in parts:
        if kind is None:
            text += part
            plain += len(part)
            continue
        if kind == RUN:
            items.append(Item(plain, RUN, len(part), part[0]))
        else:
            coded = _decoded(part, kind).encode()
            text += coded
            items.append(Item(plain, kind, len(coded)))
        plain = 0
    found = Transcript(bytes(text), items)
    if not text or sum(len(item.written()) for item in items) > MAX_SIDE or restore(items, found.text, len(content)) != content:
        return None
    return found


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
        side = classic.unpack(c.rest(), length)
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
                _room(out, len(characters) * _WIDTHS.get(item.kind, 1), size)
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
    if kind != _WINDOWS:
        return characters.encode(CODECS[kind])
    try:
        return bytes(_TO_WINDOWS[ord(c)] for c in characters)
    except KeyError as e:
        raise UnicodeError from e


def _decoded(part: bytes, kind: int) -> str:
    """Raises UnicodeDecodeError."""
    return "".join(_CHARACTERS[b] for b in part) if kind == _WINDOWS else part.decode(CODECS[kind])


def _is_utf8(data: bytes) -> bool:
    return not _UTF8.search(data.decode("utf-8", "surrogateescape"))


Part = tuple[int | None, bytes]  # kind, None for what stays as it is, and bytes of content


def _parts(content: bytes) -> Iterator[Part]:
    """Cuts content into what is text in an encoding, runs, and the rest."""
    if whole := _fixed_width(content):
        yield from whole
        return
    at = 0
    for start, stop in _runs(content):
        yield from _stretch(content[at:start])
        yield RUN, content[start:stop]
        at = stop
    yield from _stretch(content[at:])


def _runs(content: bytes) -> list[tuple[int, int]]:
    """Where the runs are that are long enough."""
    data = np.frombuffer(content, np.uint8)
    bounds = np.flatnonzero(np.diff(data)) + 1
    starts, stops = np.append(0, bounds), np.append(bounds, len(data))
    long = stops - starts >= _LEAST_RUN[data[starts]]
    return list(zip(starts[long].tolist(), stops[long].tolist(), strict=True))


def _stretch(part: bytes) -> Iterator[Part]:
    """What lies between two runs."""
    if len(part) < _LEAST_HIGH or (b"\0" not in part and _is_utf8(part)):
        if part:
            yield None, part
        return
    yield from _fixed_width(part) or [(_WINDOWS if _is_windows(part) else None, part)]


def _is_windows(part: bytes) -> bool:
    """Whether this looks like text in windows-1252: no control characters, no UTF-8, and not mostly letters with accents."""
    data = np.frombuffer(part, np.uint8)
    high = int((data >= 0x80).sum())
    plain = int(_PRINTED[data].sum())
    return _LEAST_HIGH <= high <= len(part) // 3 and high + plain == len(part) and not _SEVERAL.search(part)


def _fixed_width(part: bytes) -> list[Part] | None:
    """This as text of fixed width, with what is none around it and in it; None if it does not look like that."""
    for kind in (3, 4, 1, 2):
        width = _WIDTHS[kind]
        for skip in range(width):
            units = np.frombuffer(part[skip : skip + (len(part) - skip) // width * width], f"{'<>'[kind % 2 == 0]}u{width}")
            if len(units) >= _LEAST_UNITS and _looks_like_text(units):
                return [*_without_faults(part, skip, skip + len(units) * width, kind)]
    return None


def _looks_like_text(units: NDArray[np.unsignedinteger]) -> bool:
    breaks = int(np.isin(units, _BREAKS).sum())
    odd = ((units < 0x20) & ~np.isin(units, _BREAKS)) | ((units >= 0x7F) & (units < 0xA0)) | ((units >= 0xE000) & (units < 0xF900))
    odd |= (units == 0xFFFE) | (units == 0xFFFF) | (units > 0x10FFFF)
    return breaks * _BREAK_SHARE >= len(units) and int(odd.sum()) * _ODD_SHARE <= len(units)


def _without_faults(part: bytes, start: int, stop: int, kind: int) -> Iterator[Part]:
    """part[start:stop] in an encoding, where it can be, and the rest as it is."""
    plain = part[:start]
    for _ in range(_MOST_FAULTS):
        try:
            _decoded(part[start:stop], kind)
            end = stop
        except UnicodeDecodeError as e:
            end = start + e.start
        if end > start:
            if plain:
                yield None, plain
            yield kind, part[start:end]
            plain = b""
        fault = min(end + _WIDTHS[kind], stop)
        plain += part[end:fault]
        start = fault
        if start == stop:
            break
    plain += part[start:]
    if plain:
        yield None, plain
