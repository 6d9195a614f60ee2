"""Short messages, without a container: one check byte, then the coded bits. docs/message.md is the specification.

Both sides must use the same model; everything else is fixed here. A message says neither how many symbols nor how many bits it has:
it ends where its bytes are just those that an encoder would have written so far, and the check byte fits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmzip.adapter.adapter import Adapter, Sizes
from llmzip.codec.any_model import LoadedModel
from llmzip.codec.loaded_models import LoadedModels
from llmzip.coding.directions import Encoding
from llmzip.coding.lanes import LaneLayout
from llmzip.coding.session import Direction, PredictionSession, tokens
from llmzip.entropy.frequencies import TOTAL, TOTAL_BITS, Integers
from llmzip.errors import DamagedMessageError, ParameterError
from llmzip.message.interval import LENGTHS, Interval
from llmzip.options import AUTO, Options
from llmzip.parameters import FROZEN, AttentionSpan
from llmzip.system import exact_threads

if TYPE_CHECKING:
    from llmzip.engine.hidden import Hidden

VERSION = 2
SPAN = AttentionSpan(window=1280, sinks=4)
MAX_SYMBOLS = 4096
MAX_BYTES = 1 + MAX_SYMBOLS * (TOTAL_BITS + 1) // 8 + max(LENGTHS)  # no message is longer
LANES = 32  # messages coded together
CHUNK = 32  # steps that the encoder feeds at once

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


class MessageCodec:
    """Turns texts into messages and back; loads the model once.

    Args:
        options: of which `model`, `threads`, `device` and `offline` count.
        models: models to use; made from the options if None.

    Raises:
        ParameterError: the model is "auto".
    """

    def __init__(self, options: Options | None = None, *, models: LoadedModels | None = None) -> None:
        self._models = models or LoadedModels(options or Options())
        if self._models.options.model == AUTO:
            raise ParameterError(f"messages do not name their model, so both sides must name the same one, not {AUTO}")

    def encode(self, texts: Sequence[bytes]) -> list[bytes]:
        """A message for each of `texts`, any bytes of at most MAX_SYMBOLS symbols.

        Raises:
            ParameterError: a text is too long.
            LLZError: the model cannot be had.
        """
        return exact_threads.run(lambda _: [m for group in _groups(texts) for m in _Coding(self._models.ready()).encode(group)])

    def bits(self, texts: Sequence[bytes]) -> list[float]:
        """What the symbols of each text cost, in bits: -log2 of their frequencies' shares, without check and end."""
        return exact_threads.run(lambda _: [bits for group in _groups(texts) for bits in _Coding(self._models.ready()).bits(group)])

    def decode(self, messages: Sequence[bytes]) -> list[bytes | DamagedMessageError]:
        """The text of each message, or what is wrong with it.

        Raises:
            LLZError: the model cannot be had.
        """
        return exact_threads.run(lambda _: [text for group in _groups(messages) for text in _Coding(self._models.ready()).decode(group)])


class _Coding:
    """Codes groups of messages with one model, a message a lane."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def encode(self, texts: Sequence[bytes]) -> Iterator[bytes]:
        for text, (symbols, start, freq) in zip(texts, self._predict(texts), strict=True):
            yield self._write(text, symbols, start, freq)

    def bits(self, texts: Sequence[bytes]) -> Iterator[float]:
        for _, _, freq in self._predict(texts):
            yield float(sum(TOTAL_BITS - np.log2(freq)))

    def decode(self, messages: Sequence[bytes]) -> Iterator[bytes | DamagedMessageError]:
        readers = [_Reader(self, message) for message in messages]
        layout = _layout(len(messages), max(most_symbols(message) for message in messages))
        decoding = _Decoding(layout, readers, self._adapter(layout))
        self._run(layout, decoding)
        for reader in readers:
            yield reader.text if reader.text is not None else DamagedMessageError()

    def text(self, symbols: list[int]) -> bytes:
        """The bytes that symbols stand for."""
        return self._loaded.alphabet.decode(np.array(symbols, np.int32))

    def check(self, text: bytes) -> bytes:
        return check_byte(self._loaded, text)

    def _predict(self, texts: Sequence[bytes]) -> Iterator[tuple[list[int], list[int], list[int]]]:
        """The symbols of each text, their cumulative frequencies and their frequencies."""
        symbols = [self._loaded.alphabet.encode(text) for text in texts]
        longest = max(len(s) for s in symbols)
        if longest > MAX_SYMBOLS:
            raise ParameterError(f"a message may have {MAX_SYMBOLS} symbols, this one has {longest}; use llmzip compress")
        grid = np.zeros((len(texts), longest), np.int32)
        for row, s in zip(grid, symbols, strict=True):
            row[: len(s)] = s
        layout, found = _layout(*grid.shape), _Intervals(len(texts))
        self._run(layout, Encoding(layout, grid, [(self._adapter(layout), found)]))
        for lane, s in enumerate(symbols):
            start, freq = found.of_lane(lane, len(s))
            yield s.tolist(), start, freq

    def _adapter(self, layout: LaneLayout) -> Adapter:
        """One that learns nothing."""
        config = self._loaded.transformer.config
        sizes = Sizes(config.vocab, self._loaded.alphabet.size, config.width, layout.lanes, layout.symbols)
        return Adapter(FROZEN, sizes, self._loaded.transformer.threads)

    def _run(self, layout: LaneLayout, direction: Direction) -> None:
        """Predict all steps after the opening, which is the same in each lane."""
        if not layout.steps:
            return
        transformer = self._loaded.transformer
        opening = self._loaded.alphabet.encode(OPENING.encode())
        if not transformer.config.opening:
            opening = np.concatenate([np.array([transformer.config.bos], np.int32), opening])
        PredictionSession(transformer, tokens(transformer, opening), layout, SPAN, CHUNK).run(direction)

    def _write(self, text: bytes, symbols: list[int], start: list[int], freq: list[int]) -> bytes:
        interval, check, prefixes = Interval(), self.check(text), []
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
        interval, symbols = Interval(), [s for *_, s in prefixes]
        for n, (interval.low, interval.range, interval.shift, _) in enumerate(prefixes):
            if interval.ends(body) and self.check(self.text(symbols[:n])) == check:
                return True
        return False


def check_byte(loaded: LoadedModel, text: bytes) -> bytes:
    """The check byte of a message, which depends on text, model and version."""
    return hashlib.sha256(b"llmzip message %d\0" % VERSION + loaded.digest + loaded.tokenizer + text).digest()[:1]


def _layout(lanes: int, steps: int) -> LaneLayout:
    """Lanes of equal length."""
    return LaneLayout(lanes * steps, lanes)


class _Intervals:
    """Collects the intervals of the symbols, step by step, where a block's go to a range coder."""

    stream_bytes = 0

    def __init__(self, lanes: int) -> None:
        self._start, self._freq = [np.zeros((0, lanes), np.int64)], [np.zeros((0, lanes), np.int64)]

    def encode_steps(self, start: Integers, freq: Integers) -> None:
        """See `IntervalSink.encode_steps`."""
        self._start.append(start)
        self._freq.append(freq)

    def of_lane(self, lane: int, symbols: int) -> tuple[list[int], list[int]]:
        """Cumulative frequencies and frequencies of a lane's first symbols."""
        start, freq = (np.concatenate(parts)[:symbols, lane].tolist() for parts in (self._start, self._freq))
        return start, freq


class _Decoding:
    """Decodes a message a lane, until the end of each is found or ruled out. See `session.Direction`."""

    learns, round_steps, stream_bytes = False, 1, 0

    def __init__(self, layout: LaneLayout, readers: list[_Reader], adapter: Adapter) -> None:
        self.grid = np.zeros((layout.lanes, layout.steps), np.int32)
        self._readers, self._adapter = readers, adapter
        self._look_for_ends()

    @property
    def finished(self) -> bool:
        return all(reader.finished for reader in self._readers)

    def known(self, step: int) -> int:
        return 1

    def code(self, step: int, lanes: int, logits: NDArray[np.float32], state: Hidden | None) -> None:
        targets = np.array([reader.target() for reader in self._readers], np.int64)
        found, start, freq = self._adapter.find(logits, state, targets)
        for reader, *taken in zip(self._readers, targets.tolist(), found.tolist(), start.tolist(), freq.tolist(), strict=True):
            reader.take(*taken)
        self.grid[:, step] = found
        self._look_for_ends()

    def take_drawn(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """See `coding.session.Direction`."""
        return self._adapter.take_drawn()

    def update(self) -> None:
        pass

    def _look_for_ends(self) -> None:
        for reader in self._readers:
            reader.look_for_end()


class _Reader:
    """One message being decoded.

    Attributes:
        finished: whether its end was found, or ruled out.
        text: the decoded text; None unless its end was found.
    """

    def __init__(self, coding: _Coding, message: bytes) -> None:
        self._coding, self._check, self._body = coding, message[:1], message[1:]
        self._interval, self._symbols = Interval(), list[int]()
        self.text: bytes | None = None
        self.finished = not 0 < len(message) <= MAX_BYTES

    def look_for_end(self) -> None:
        """Note whether the message ends after the symbols so far, or can have no end any more."""
        if self.finished:
            return
        if self._interval.ends(self._body):
            text = self._coding.text(self._symbols)
            if self._coding.check(text) == self._check:
                self.text = text
        no_more = self._interval.past(self._body) or len(self._symbols) == most_symbols(self._body)
        self.finished = self.text is not None or no_more

    def target(self) -> int:
        """A cumulative frequency inside the next symbol's interval; any number once finished."""
        return 0 if self.finished else self._interval.target(self._body)

    def take(self, target: int, symbol: int, start: int, freq: int) -> None:
        """Take the next symbol. Its target tells whether an encoder can have meant it."""
        self.finished = self.finished or target >= TOTAL
        if not self.finished:
            self._symbols.append(symbol)
            self._interval.narrow(start, freq)


def _groups(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for i in range(0, len(items), LANES):
        yield items[i : i + LANES]
