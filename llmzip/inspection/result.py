"""Inspects a text: compresses it while observing, and reports the cost of each token."""

from __future__ import annotations

import bisect
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmzip.archive.parser import read_records
from llmzip.archive.records import CodedBlock, FormBlock, StoredBlock, XzBlock
from llmzip.entropy.frequencies import TOTAL_BITS
from llmzip.inspection import other_compressors
from llmzip.inspection.trace import Trace

if TYPE_CHECKING:
    from llmzip.codec.codec import Codec

GUESSES = 5
LIMITS = (0.5, 1, 2, 4, 8, 12, 16)  # bits of a token that separate one heat from the next


class Guess(NamedTuple):
    """A symbol that might have come: its bytes and its probability."""

    data: bytes
    chance: float


class Token(NamedTuple):
    """A token of the text: its first byte's position, its bytes, what it cost, and the best guesses, likeliest first."""

    start: int
    data: bytes
    bits: float
    guesses: list[Guess]


class Band(NamedTuple):
    """Tokens that cost from `low` to less than `high` bits (None: no bound): how many, and their bits together."""

    low: float
    high: float | None
    tokens: int
    bits: float


@dataclass(frozen=True)
class Inspection:
    """What the tokens of `content` cost.

    Attributes:
        content: the bytes inspected.
        text: the bytes that the tokens stand for: the content itself, or the text behind it if the content is in another form, such as UTF-16.
        model: ID of the model; empty if there was nothing to code.
        level: the level they were coded at.
        lanes: of each block.
        starts: position of each token in the text, int64 [n].
        symbols: int32 [n].
        bits: TOTAL_BITS - log2 of each one's frequency, float64 [n].
        guesses: the best symbols in its place, int32 [n, k].
        chances: and their probabilities, float64 [n, k].
        words: the bytes of every symbol that occurs in these.
        stream: bytes of bitstream of the coded blocks.
        archive: bytes of the archive of `content`.
        held: how the archive holds each block: "coded", or "xz" or "stored" where that is smaller.
        others: bytes that other compressors make of `content`, by name.
    """

    content: bytes
    text: bytes
    model: str
    level: int
    lanes: list[int]
    starts: NDArray[np.int64]
    symbols: NDArray[np.int32]
    bits: NDArray[np.float64]
    guesses: NDArray[np.int32]
    chances: NDArray[np.float64]
    words: dict[int, bytes]
    stream: int
    archive: int
    held: list[str]
    others: dict[str, int]

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def total(self) -> float:
        """Bits of all tokens."""
        return float(self.bits.sum())

    @property
    def foreseen(self) -> float:
        """Share of tokens that were the likeliest where they came."""
        return float((self.guesses[:, 0] == self.symbols).mean()) if len(self) else 0.0

    def token(self, i: int) -> Token:
        """The i-th token."""
        pairs = zip(self.guesses[i].tolist(), self.chances[i].tolist(), strict=True)
        best = [Guess(self.words[s], p) for s, p in pairs]
        return Token(int(self.starts[i]), self.words[int(self.symbols[i])], float(self.bits[i]), best)

    def dearest(self, n: int) -> list[int]:
        """Indices of the n most expensive tokens, most expensive first."""
        order: list[int] = np.argsort(-self.bits, kind="stable")[:n].tolist()
        return order

    def bands(self) -> list[Band]:
        """How many tokens cost how much, by `heat`."""
        heats = np.array([heat(bits) for bits in self.bits.tolist()])
        lows, highs = (0.0, *LIMITS), (*LIMITS, None)
        return [
            Band(low, high, int((heats == h).sum()), float(self.bits[heats == h].sum()))
            for h, (low, high) in enumerate(zip(lows, highs, strict=True))
        ]

    def sizes(self) -> dict[str, int]:
        """Bytes of the archive and of the others', smallest first."""
        every = {"llmzip": self.archive, **self.others}
        return dict(sorted(every.items(), key=lambda item: item[1]))


def heat(bits: float) -> int:
    """The number of the band a cost falls into: from 0, cheap, to len(LIMITS)."""
    return bisect.bisect_right(LIMITS, bits)


def inspect(codec: Codec, content: bytes, report: Callable[[int, int], None] | None = None, most: int = GUESSES) -> Inspection:
    """What the tokens of `content` cost when `codec` compresses it.

    Args:
        report: as for `Codec.compress_stream`.
        most: guesses kept for each token.

    Raises:
        LLZError: as compressing does.
    """
    trace, sink = Trace(most), io.BytesIO()
    codec.compress_stream(io.BytesIO(content), sink, report, account=trace)
    rows, words, starts, text = trace.rows(), {}, np.zeros(0, np.int64), content
    if trace.model:
        alphabet = trace.model.alphabet
        lengths = alphabet.lengths()[rows.symbols]
        starts, text = lengths.cumsum() - lengths, alphabet.decode(rows.symbols)
        words = {s: alphabet.decode(np.array([s])) for s in np.union1d(rows.symbols, rows.guesses).tolist()}
    sink.seek(0)
    return Inspection(
        content=content,
        text=text,
        model=trace.model.model_id if trace.model else "",
        level=codec.options.level,
        lanes=trace.lanes,
        starts=starts,
        symbols=rows.symbols,
        bits=TOTAL_BITS - np.log2(rows.freq),
        guesses=rows.guesses,
        chances=rows.guessed / (1 << TOTAL_BITS),
        words=words,
        stream=trace.stream,
        archive=trace.archive,
        held=_held(sink),
        others=other_compressors.sizes(content),
    )


def _held(archive: io.BytesIO) -> list[str]:
    names = {CodedBlock: "coded", FormBlock: "coded", XzBlock: "xz", StoredBlock: "stored"}
    return [names[type(r.record)] for r in read_records(archive) if isinstance(r.record, tuple(names))]
