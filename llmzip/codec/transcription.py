"""Finds the form of content: text of fixed width, text in windows-1252, and long runs. The result shapes the archive's bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from llmzip.archive.forms import (
    CHARACTERS,
    CODECS,
    MAX_SIDE,
    RUN,
    UTF_16BE,
    UTF_16LE,
    UTF_32BE,
    UTF_32LE,
    WIDTHS,
    WINDOWS,
    Item,
    Transcript,
    restore,
)

_UNITS = {UTF_32LE: "<u4", UTF_32BE: ">u4", UTF_16LE: "<u2", UTF_16BE: ">u2"}  # in the order in which they are tried
_PRINTED = np.isin(np.arange(256), [*range(0x20, 0x7F), 9, 10, 13])
_LEAST_RUN = 8  # of bytes that are not printed; text's own runs have tokens of many characters
_LEAST_UNITS = 8  # characters of fixed width that are worth an item
_LEAST_HIGH = 8  # bytes above 0x7F that are
_MOST_FAULTS = 16  # units that are no characters
_BREAKS = [0x09, 0x0A, 0x0D, 0x20, 0x3000, 0x3001, 0x3002, 0xFEFF, 0xFF0C]  # what separates words, lines and clauses ...
_BREAK_SHARE = 100  # ... and is at least one in so many characters
_ODD_SHARE = 50  # at most one in so many is a control character, private or none
_UTF8 = re.compile("[\udc80-\udcff]")
_SEVERAL = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}")

Part = tuple[int | None, bytes]  # kind, None for what stays as it is, and bytes of content


def transcribe(content: bytes) -> Transcript | None:
    """The text and items that give `content`, which is checked here; None for plain text and for content that is no text in any form."""
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


def _is_utf8(data: bytes) -> bool:
    return not _UTF8.search(data.decode("utf-8", "surrogateescape"))


def _parts(content: bytes) -> Iterator[Part]:
    """Cut content into text in some encoding, runs, and the rest."""
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
    """Start and stop of all runs that are long enough."""
    data = np.frombuffer(content, np.uint8)
    bounds = np.flatnonzero(np.diff(data)) + 1
    starts, stops = np.append(0, bounds), np.append(bounds, len(data))
    long = (stops - starts >= _LEAST_RUN) & ~_PRINTED[data[starts]]
    return list(zip(starts[long].tolist(), stops[long].tolist(), strict=True))


def _stretch(part: bytes) -> Iterator[Part]:
    """The parts of content that lies between two runs."""
    if len(part) < _LEAST_HIGH or (b"\0" not in part and _is_utf8(part)):
        if part:
            yield None, part
        return
    yield from _fixed_width(part) or [(WINDOWS if _is_windows(part) else None, part)]


def _is_windows(part: bytes) -> bool:
    """Whether this looks like text in windows-1252: no control characters, no UTF-8, and not too many accented letters."""
    data = np.frombuffer(part, np.uint8)
    high = int((data >= 0x80).sum())
    plain = int(_PRINTED[data].sum())
    return _LEAST_HIGH <= high <= len(part) // 3 and high + plain == len(part) and not _SEVERAL.search(part)


def _fixed_width(part: bytes) -> list[Part] | None:
    """Parts of this that are text of fixed width, and the rest; None if it does not look like such text."""
    best, found = 0, None
    for kind, unit in _UNITS.items():
        width = WIDTHS[kind]
        for skip in range(width):
            units = np.frombuffer(part[skip : skip + (len(part) - skip) // width * width], unit)
            breaks = width * _breaks(units)  # of the halves of UTF-32, UTF-16 would make as many
            if breaks > best or (breaks == best > 0 and not skip):  # the other way round, one byte further on, looks much alike
                best, found = breaks, (skip, skip + len(units) * width, kind)
    return [*_without_faults(part, *found)] if found else None


def _breaks(units: NDArray[np.unsignedinteger]) -> int:
    """How many of these units separate words, lines or clauses; 0 if they do not look like text."""
    if len(units) < _LEAST_UNITS:
        return 0
    separate = np.isin(units, _BREAKS)
    odd = ((units < 0x20) & ~separate) | ((units >= 0x7F) & (units < 0xA0)) | ((units >= 0xE000) & (units < 0xF900))
    odd |= (units == 0xFFFE) | (units == 0xFFFF) | (units > 0x10FFFF)
    breaks = int(separate.sum())
    return breaks if breaks * _BREAK_SHARE >= len(units) and int(odd.sum()) * _ODD_SHARE <= len(units) else 0


def _without_faults(part: bytes, start: int, stop: int, kind: int) -> Iterator[Part]:
    """Yield part[start:stop] as text in an encoding where that is possible, and the rest as it is."""
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
        fault = min(end + WIDTHS[kind], stop)
        plain += part[end:fault]
        start = fault
        if start == stop:
            break
    plain += part[start:]
    if plain:
        yield None, plain


def _decoded(part: bytes, kind: int) -> str:
    """Raises UnicodeDecodeError."""
    return "".join(CHARACTERS[b] for b in part) if kind == WINDOWS else part.decode(CODECS[kind])
