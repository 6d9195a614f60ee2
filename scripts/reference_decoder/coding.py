"""Sections 6.1 to 6.4: a coded block, from bitstream to bytes."""

import zlib

import numpy as np
from adapter import Adapter
from errors import NotReproducedError
from frequencies import T, frequencies
from learning import Corrections, Learning
from predictor import Predictor


def decode_block(record, model, size, symbols, lanes, bitstream, trace=None):
    """Sections 3.3 and 5.1: the `size` bytes that the symbols of a block stand for."""
    text = b"".join(model.bytes_of[s] for s in decode_symbols(record, model, symbols, lanes, bitstream, trace))
    if len(text) != size:
        raise NotReproducedError("a coded block is intact, but content of another size comes out")
    return text


def checked(content, check):
    """Sections 3.3 and 3.8: the content, if it is the one that was coded."""
    if zlib.crc32(content) != check:
        raise NotReproducedError("a coded block is intact, but another content comes out")
    return content


def decode_symbols(record, model, n, lanes, bitstream, trace=None):
    """Sections 6.1 and 6.2: the n symbols of a block, in their order."""
    k, e = divmod(n, lanes)
    alphabet, vocab, bos = len(model.bytes_of), model.config["vocab"], model.config["bos"]
    opening = model.config.get("opening", [bos])
    corrections = Corrections(model, *record.corrections[:2]) if record.corrections else None
    positions = n // lanes + 1 + len(opening)
    segment = max(1, record.corrections[3] // lanes) if record.corrections else 0
    predictor = Predictor(model, record.window, record.sinks, record.all_heads_see_all, lanes, positions, corrections, segment)
    adapter = Adapter(record, lanes, vocab, model.config["width"])
    learning = Learning(predictor, record.corrections[2], lanes) if record.corrections else None
    stream = Bits(bitstream)
    coders = [RangeDecoder(stream) for _ in range(lanes)]
    decoded = [[] for _ in range(lanes)]

    for token in opening[:-1]:
        predictor.feed([token] * lanes)
    predictor.kept.clear()
    inputs = [opening[-1]] * lanes
    for t in range(k + (e > 0)):
        live = lanes if t < k else e
        q, c = predictor.feed(inputs[:live])
        logits, c = predictor.logits(q, c), predictor.unit(q, c)
        for lane in range(live):
            votes = adapter.votes(q[lane], c[lane])
            coded = frequencies(logits[lane], adapter.biases, votes, alphabet)
            target, low, s = coders[lane].take(coded.f)
            if trace:
                trace(t, lane, target, low, int(coded.f[s]), s, model.bytes_of[s])
            adapter.note(s, coded, votes, q[lane], c[lane])
            if learning:
                learning.note(s, coded.w)
            decoded[lane].append(s)
            inputs[lane] = s if s < vocab else bos
        adapter.end_of_step()
        if learning and t + 1 < k + (e > 0):  # so all lanes had a symbol
            learning.end_of_step()
    return [s for lane in decoded for s in lane]


class Bits:
    """Section 6.3: groups of bits from a stream."""

    def __init__(self, stream):
        self.stream, self.at = stream, 0

    def take(self, m):
        """The next m bits, at most 32."""
        first, skip = divmod(self.at, 8)
        self.at += m
        return (int.from_bytes(self.stream[first : first + 5].ljust(5, b"\0"), "big") >> (40 - skip - m)) & (2**m - 1)


class RangeDecoder:
    """Section 6.4: one lane's decoder. State: two integers, R and D."""

    def __init__(self, stream):
        self.stream = stream
        self.R, self.D = 2**32 - 1, stream.take(32)

    def take(self, f):
        """Target, c(s) and the symbol s, by the frequencies f [A]."""
        target = min(((self.D + 1) * T - 1) // self.R, T - 1)
        s, c = find(f, target)
        below = self.R * c // T
        width = self.R * (c + int(f[s])) // T - below
        m = 32 - width.bit_length()
        self.R = width << m
        self.D = (((self.D - below) << m) + self.stream.take(m)) % 2**32
        return target, c, s


def find(f, target):
    """The symbol s with c(s) <= target < c(s) + f(s), and c(s)."""
    ends = np.cumsum(f)
    if target >= ends[-1]:
        raise NotReproducedError("a coded block is intact, but a decoder out of step with its encoder reads it")
    s = int(np.searchsorted(ends, target, side="right"))
    return s, int(ends[s] - f[s])
