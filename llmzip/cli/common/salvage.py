"""Damaged archives on the command line: `decompress --salvage`, what `test` prints, and the advice to use --salvage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from llmzip.cli.common.report import say
from llmzip.errors import LLZError, NotReproducedError
from llmzip.salvaging.recovery import NOT_REPRODUCED, Report, recover, recoverable
from llmzip.salvaging.result import Gap, Piece, Place
from llmzip.system import streams

if TYPE_CHECKING:
    from llmzip.codec.codec import Codec


class DamageError(LLZError):
    """The last line about a damaged archive; the lines before it have been printed already."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Salvage:
    """Writes what is left of an archive, and prints what is missing.

    Args:
        name: name of the archive.
        codec: decodes the archive.
    """

    def __init__(self, name: str, codec: Codec) -> None:
        self._name, self._codec = name, codec
        self._code = self._blocks = self._bytes = 0

    def __call__(self, source: BinaryIO, sink: BinaryIO, report: Report) -> None:
        """Read all of `source`, and write what can be recovered. Raises LLZError if that is nothing, or if a model is missing."""
        for part in recover(self._codec, streams.read_all(source), report):
            if isinstance(part, Piece):
                streams.write(sink, part.content)
                self._blocks += 1
                self._bytes += len(part.content)
            else:
                self._code = max(self._code, _exit_code(part))
            for line in _lines(part, "missing", "repaired"):
                say(self._name, line)
        if self._code and not self._blocks:
            raise DamageError("nothing of it can be recovered, and nothing was written; get another copy", self._code)

    def end(self) -> None:
        """Raise DamageError if something is missing."""
        if self._code:
            raise DamageError(
                f"recovered {self._blocks:,} block{'s' * (self._blocks != 1)}, {self._bytes:,} bytes; the rest is missing", self._code
            )


def check(name: str, codec: Codec, source: BinaryIO, report: Report, more: str = "") -> None:
    """Decode everything that can be decoded, and print what is damaged.

    Args:
        name: name of the archive.
        codec: decodes the archive.
        source: the archive; it is read to its end.
        report: as for `recover`.
        more: what else is wrong, to be printed last.

    Raises:
        DamageError: something is damaged.
        LLZError: everything is damaged, or a model is missing.
    """
    last, code = "", 0
    for part in recover(codec, streams.read_all(source), report):
        for line in _lines(part, "damaged", "damaged, but can be salvaged"):
            if last:
                say(name, last)
            last, code = line, max(code, 1, _exit_code(part) if isinstance(part, Gap) else 0)
    if last and more:
        say(name, last)
    if last or more:
        raise DamageError(more or last, max(code, 1))


def advised(error: LLZError, archive: BinaryIO) -> LLZError:
    """An error in an archive, with advice to use --salvage if blocks can be recovered."""
    archive.seek(0)
    sound = recoverable(streams.read_all(archive))
    if sound > 1 or (sound and not isinstance(error, NotReproducedError)):
        error.args = (f"{error}, or recover the undamaged part with --salvage",)
    return error


def _exit_code(gap: Gap) -> int:
    return NotReproducedError.exit_code if gap.reason == NOT_REPRODUCED else 0 if gap.harmless else 1


def _lines(part: Piece | Gap, gap: str, repaired: str) -> Iterator[str]:
    """One line about a part, or none."""
    if isinstance(part, Gap):
        yield f"{'damaged, but nothing is missing' if part.harmless else gap}: {_where(part)} ({part.reason})"
    elif part.mended:
        yield f"{repaired}: {_where(part)} ({part.mended})"


def _where(place: Place) -> str:
    words = [] if place.block is None else [f"block {place.block:,}"]
    if place.archive:
        words.append(f"archive bytes {place.archive.start:,} to {place.archive.stop - 1:,}")
    else:
        words.append(f"from archive byte {place.archive.start:,} on")
    likely = "" if place.exact else "probably "
    if place.size is None:
        words.append("content of unknown size" + ("" if place.start is None else f", {likely}from byte {place.start:,} on"))
    elif not place.size:
        words.append(f"{likely}no content")
    elif place.start is None:
        words.append(f"{likely}{place.size:,} bytes of content")
    else:
        words.append(f"{likely}content bytes {place.start:,} to {place.start + place.size - 1:,}")
    return ", ".join(words)
