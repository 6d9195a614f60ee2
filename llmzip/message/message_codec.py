"""Short messages, without a container: one check byte, then the coded bits. docs/message.md is the specification.

Both sides must use the same model; everything else is fixed here. A message says neither how many symbols nor how many bits it has:
its end is where its bytes are just those an encoder would have written so far, and the check byte fits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmzip.codec.codec import Codec
from llmzip.entropy.compiled_frequencies import find, intervals
from llmzip.entropy.frequencies import TOTAL, TOTAL_BITS, Lessons, no_votes
from llmzip.entropy.range_coder import STATE_BITS
from llmzip.errors import DamagedMessageError, ParameterError
from llmzip.options import Options
from llmzip.system import exact_threads

if TYPE_CHECKING:
    from llmzip.engine.cache import KVCache
    from llmzip.engine.transformer import Hidden

VERSION = 2
WINDOW, SINKS = 1280, 4
MAX_SYMBOLS = 4096
LENGTHS = range(4)  # how many bytes more than the least a message may have
MAX_BYTES = 1 + MAX_SYMBOLS * (TOTAL_BITS + 1) // 8 + max(LENGTHS)  # no message is longer
LANES = 32  # messages worked on together

# What the model reads before each message: messages, so that it expects one. A line of "=" ends each.
_EXAMPLES = [
    "I'm on my way, should be there around eight.",
    "The boat is safe in the harbour. Wind has dropped, we sail at noon tomorrow if the forecast holds.",
    "Can you call me when you get home?",
    "Position 47 21.8 N 008 32.1 E, 14:00 UTC. Temperature -3, wind NE 4, all well.",
    "Thanks! I got the tickets, we have seats in row 12.",
    "Sorry, I didn't see your message until now. Monday doesn't work for me, but Tuesday after 3 pm is fine. Where shall we meet?",
]
OPENING = "".join(f"=====\n{text}\n" for text in _EXAMPLES) + "=====\n"


def most_symbols(body: bytes) -> int:
    """How many symbols a body of this length may have: bounds the time that reading rubbish takes."""
    return min(64 + 32 * len(body), MAX_SYMBOLS)


class _Interval:
    """What the symbols so far have left of the numbers from 0 to 1: [low, low + range) in units of 2^-(32 + shift).

    Invariant: 2^31 <= range < 2^32. `low` is as long as it takes.
    """

    def __init__(self) -> None:
        self.low, self.range, self.shift = 0, (1 << STATE_BITS) - 1, 0

    def narrow(self, start: int, freq: int) -> None:
        """Goes on to a symbol's part."""
        below = (self.range * start) >> TOTAL_BITS
        width = ((self.range * (start + freq)) >> TOTAL_BITS) - below
        n = STATE_BITS - width.bit_length()
        self.low, self.range, self.shift = (self.low + below) << n, width << n, self.shift + n

    def target(self, body: bytes) -> int:
        """A cumulative frequency inside the next symbol's interval, if `body` is a message's."""
        code = ((int.from_bytes(body, "big") << (STATE_BITS + self.shift)) >> (8 * len(body))) - self.low
        return max(0, min(((code + 1 << TOTAL_BITS) - 1) // self.range, (1 << TOTAL_BITS) - 1))

    def least_length(self) -> int:
        """Bytes that may be enough to name a number inside; one more always is.

        Up to two bits are left to luck. More would pay little, and a reader of rubbish would see an end after every symbol in them.
        """
        return -(-(self.shift - 1) // 8)

    def number(self, length: int) -> bytes | None:
        """The lowest number inside that has `length` bytes, if there is one."""
        scale = STATE_BITS + self.shift - 8 * length
        if length < 0 or scale < 0:
            return None
        lowest = -(-self.low >> scale)
        return lowest.to_bytes(length, "big") if lowest << scale < self.low + self.range else None

    def ends(self, body: bytes) -> bool:
        """Whether a message of the symbols so far may have been written as `body`."""
        return len(body) - self.least_length() in LENGTHS and self.number(len(body)) == body

    def past(self, body: bytes) -> bool:
        """Whether no further symbols can be `body`'s."""
        return len(body) < self.least_length()


class MessageCodec:
    """Turns texts into messages and back; loads the model once.

    Args:
        options: of which `model`, `threads` and `device` count.
    """

    def __init__(self, options: Options | None = None) -> None:
        self._codec = Codec(options or Options())

    def encode(self, texts: Sequence[bytes]) -> list[bytes]:
        """A message for each of `texts`, any bytes of at most MAX_SYMBOLS symbols.

        Raises:
            ParameterError: a text is too long.
            LLZError: the model cannot be had.
        """
        return exact_threads.run(lambda _: [message for group in _groups(texts) for message in self._encode(group)])

    def bits(self, texts: Sequence[bytes]) -> list[float]:
        """What the symbols of each text cost, in bits: -log2 of their frequencies' shares, without check and end."""
        return exact_threads.run(lambda _: [bits for group in _groups(texts) for bits in self._bits(group)])

    def decode(self, messages: Sequence[bytes]) -> list[bytes | DamagedMessageError]:
        """The text of each message, or what is wrong with it.

        Raises:
            LLZError: the model cannot be had.
        """
        return exact_threads.run(lambda _: [text for group in _groups(messages) for text in self._decode(group)])

    def _encode(self, texts: Sequence[bytes]) -> Iterator[bytes]:
        for text, (symbols, start, freq) in zip(texts, self._predict(texts), strict=True):
            yield self._write(text, symbols, start, freq)

    def _bits(self, texts: Sequence[bytes]) -> Iterator[float]:
        for _, _, freq in self._predict(texts):
            yield float(sum(TOTAL_BITS - np.log2(freq)))

    def _predict(self, texts: Sequence[bytes]) -> Iterator[tuple[list[int], list[int], list[int]]]:
        """The symbols of each text, their cumulative frequencies and their frequencies."""
        loaded = self._codec._own_model()
        symbols = [loaded.alphabet.encode(text) for text in texts]
        longest = max(len(s) for s in symbols)
        if longest > MAX_SYMBOLS:
            raise ParameterError(f"a message may have {MAX_SYMBOLS} symbols, this one has {longest}; use llmzip compress")
        grid = np.zeros((len(texts), longest), np.int32)
        for row, s in zip(grid, symbols, strict=True):
            row[: len(s)] = s
        starts, freqs = np.zeros(grid.shape, np.int64), np.zeros(grid.shape, np.int64)
        for step, hidden in enumerate(self._states(grid)):
            starts[:, step], freqs[:, step] = self._code(hidden, grid[:, step])
        for s, start, freq in zip(symbols, starts, freqs, strict=True):
            yield s.tolist(), start[: len(s)].tolist(), freq[: len(s)].tolist()

    def _states(self, grid: NDArray[np.int32]) -> Iterator[Hidden]:
        """The hidden states from which each column of symbols is predicted."""
        lanes, steps = grid.shape
        hidden, cache = self._open(lanes, steps, steps)
        if steps:
            yield hidden
        if steps > 1:
            hidden = self._codec._own_model().transformer.advance(self._tokens(grid[:, :-1]), cache)
            for step in range(steps - 1):
                yield hidden.at(np.arange(lanes) * (steps - 1) + step)

    def _code(self, hidden: Hidden, symbols: NDArray[np.int32]) -> Any:
        loaded = self._codec._own_model()
        logits = loaded.transformer.logits(hidden)
        no_bias = np.zeros(logits.shape[1], np.float32)
        return intervals(logits, no_bias, no_votes(len(logits)), loaded.alphabet.size, symbols, Lessons())

    def _write(self, text: bytes, symbols: list[int], start: list[int], freq: list[int]) -> bytes:
        interval, check, prefixes = _Interval(), self.check(text), []
        for s, c, f in zip(symbols, start, freq, strict=True):
            prefixes.append((interval.low, interval.range, interval.shift, s))
            interval.narrow(c, f)
        for more in LENGTHS:
            body = interval.number(interval.least_length() + more)
            if body is not None and len(symbols) <= most_symbols(body) and not self._ends_earlier(prefixes, body, check):
                return check + body
        raise ParameterError("this text, of many repetitions, cannot be written as a message; use llmzip compress")

    def _ends_earlier(self, prefixes: list[tuple[int, int, int, int]], body: bytes, check: bytes) -> bool:
        """Whether a reader would take the message to end before its last symbol."""
        interval, symbols = _Interval(), [s for *_, s in prefixes]
        for n, (interval.low, interval.range, interval.shift, _) in enumerate(prefixes):
            if interval.ends(body) and self.check(self.text(symbols[:n])) == check:
                return True
        return False

    def _decode(self, messages: Sequence[bytes]) -> Iterator[bytes | DamagedMessageError]:
        loaded = self._codec._own_model()
        readers = [_Reader(self, message) for message in messages]
        most = max(most_symbols(message) for message in messages)
        hidden, cache = self._open(len(messages), most, 1)
        no_bias = np.zeros(loaded.transformer.config.vocab, np.float32)
        for _ in range(most + 1):
            for reader in readers:
                reader.look_for_end()
            if all(reader.finished for reader in readers):
                break
            logits = loaded.transformer.logits(hidden)
            targets = np.array([reader.target() for reader in readers], np.int64)
            found, start, freq = find(logits, no_bias, no_votes(len(logits)), loaded.alphabet.size, targets, Lessons())
            for reader, *taken in zip(readers, targets.tolist(), found.tolist(), start.tolist(), freq.tolist(), strict=True):
                reader.take(*taken)
            hidden = loaded.transformer.advance(self._tokens(found[:, None]), cache)
        for reader in readers:
            yield reader.text if reader.text is not None else DamagedMessageError()

    def _open(self, lanes: int, steps: int, chunk: int) -> tuple[Hidden, KVCache]:
        """State after the opening, the same in each lane, and the cache that holds it."""
        loaded = self._codec._own_model()
        loaded.prepare()
        transformer = loaded.transformer
        opening = loaded.alphabet.encode(OPENING.encode())
        if not transformer.config.opening:
            opening = np.concatenate([np.array([transformer.config.bos], np.int32), opening])
        cache = transformer.cache(lanes, WINDOW, SINKS, len(opening) + steps, max(len(opening), chunk))
        hidden = transformer.advance(self._tokens(opening[None]), cache)
        cache.copy_first_lane()
        return hidden.at(np.full(lanes, len(opening) - 1)), cache

    def _tokens(self, symbols: NDArray[np.int32]) -> NDArray[np.int32]:
        config = self._codec._own_model().transformer.config
        return np.where(symbols < config.vocab, symbols, config.bos).astype(np.int32)

    def text(self, symbols: list[int]) -> bytes:
        """The bytes that symbols stand for."""
        return self._codec._own_model().alphabet.decode(np.array(symbols, np.int32))

    def check(self, text: bytes) -> bytes:
        """One byte that depends on text, model and version."""
        loaded = self._codec._own_model()
        return hashlib.sha256(b"llmzip message %d\0" % VERSION + loaded.digest + loaded.tokenizer + text).digest()[:1]


class _Reader:
    """One message being decoded.

    Attributes:
        finished: whether there is nothing more to be had from it.
        text: if its end was found.
    """

    def __init__(self, codec: MessageCodec, message: bytes) -> None:
        self._codec, self._check, self._body = codec, message[:1], message[1:]
        self._interval, self._symbols = _Interval(), list[int]()
        self.text: bytes | None = None
        self.finished = not 0 < len(message) <= MAX_BYTES

    def look_for_end(self) -> None:
        """Whether the symbols so far are all there are, or the end was missed."""
        if self.finished:
            return
        if self._interval.ends(self._body):
            text = self._codec.text(self._symbols)
            if self._codec.check(text) == self._check:
                self.text = text
        no_more = self._interval.past(self._body) or len(self._symbols) == most_symbols(self._body)
        self.finished = self.text is not None or no_more

    def target(self) -> int:
        """Of the next symbol; anything once finished."""
        return 0 if self.finished else self._interval.target(self._body)

    def take(self, target: int, symbol: int, start: int, freq: int) -> None:
        """The next symbol, with its cumulative frequency and frequency; its target tells whether an encoder can have meant it."""
        self.finished = self.finished or target >= TOTAL
        if not self.finished:
            self._symbols.append(symbol)
            self._interval.narrow(start, freq)


def _groups(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for i in range(0, len(items), LANES):
        yield items[i : i + LANES]
