"""Bytes of a text as printable characters, and tokens grouped into pieces that end where characters end."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from llmzip.inspection.result import Inspection

_KEPT = "\u200c\u200d"  # joiners, which scripts and emoji need


@dataclass(frozen=True)
class Piece:
    """Tokens from `first` to `end`, exclusive, that together make whole characters. Mostly it is one token.

    Attributes:
        text: the characters to show.
        bits: cost of all of them.
    """

    first: int
    end: int
    text: str
    bits: float


def printable(data: bytes, layout: bool = False) -> str:
    r"""`data` as printable text: invalid UTF-8 as \xNN, controls as pictures, invisible formatting by its code point.

    Args:
        layout: If true, line breaks and tabs keep their effect after their mark; otherwise they, and spaces, become marks only.
    """
    return "".join(_character(c, layout) for c in data.decode("utf-8", "surrogateescape"))


def _character(c: str, layout: bool) -> str:
    code = ord(c)
    if " " < c < "\x7f":
        return c
    if c == " ":
        return " " if layout else "\u2423"
    if c in "\n\t":
        return ("\u21b5" if c == "\n" else "\u2192") + (c if layout else "")
    if code < 0x20:
        return chr(0x2400 + code)
    if c == "\x7f":
        return "\u2421"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    hidden = unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c not in _KEPT
    return f"\u27e8U+{code:04X}\u27e9" if hidden else c


def pieces(inspection: Inspection) -> list[Piece]:
    """All tokens as pieces; tokens that split a character are in one piece."""
    ends = _character_ends(inspection.text)
    out, first = list[Piece](), 0
    starts = inspection.starts.tolist()
    bits = inspection.bits.tolist()
    for i, end in enumerate([*starts[1:], len(inspection.text)] if starts else []):
        if end in ends:
            text = printable(inspection.text[starts[first] : end], layout=True)
            out.append(Piece(first, i + 1, text, sum(bits[first : i + 1])))
            first = i + 1
    return out


def _character_ends(content: bytes) -> set[int]:
    """Positions after each character, and after each byte that belongs to none."""
    ends, at = set(), 0
    for c in content.decode("utf-8", "surrogateescape"):
        code = ord(c)
        at += 1 if code < 0x80 or 0xDC80 <= code <= 0xDCFF else 2 if code < 0x800 else 3 if code < 0x10000 else 4
        ends.add(at)
    return ends


def surroundings(inspection: Inspection, i: int, before: int = 28, after: int = 16) -> tuple[str, str, str]:
    """The text before a token, the token, and the text after it, on one line."""
    content, (start, data, *_) = inspection.text, inspection.token(i)
    end = start + len(data)
    left = content[_boundary(content, max(0, start - before)) : start]
    right = content[end : _boundary(content, min(end + after, len(content)))]
    return _plain(left), printable(data), _plain(right)


def _plain(data: bytes) -> str:
    return printable(data).replace("\u2423", " ")


def _boundary(content: bytes, at: int) -> int:
    """The start of the character that contains position `at`, if it is UTF-8."""
    return next((i for i in range(at, max(at - 4, -1), -1) if i == len(content) or content[i] & 0xC0 != 0x80), at)
