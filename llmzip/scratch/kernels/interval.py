"""The interval of the arithmetic coder, compiled: bytes to a bitstream and back under the network's probabilities."""

from __future__ import annotations

import numpy as np

from llmzip.scratch.kernels.contexts import begin_byte, end_byte
from llmzip.scratch.kernels.network import jit, learn, predict

i64 = np.int64


@jit
def encode(s, content, first, last, coder, stream, written):
    """Code the bytes content[first:last]. coder: the interval, int64 [2]; returns how many bytes of `stream` are written then."""
    low, high = coder[0], coder[1]
    for at in range(first, last):
        begin_byte(s, content, at)
        node = i64(1)
        for place in range(8):
            bit = i64((content[at] >> (7 - place)) & 1)
            middle = _middle(low, high, predict(s, content, place, node))
            if bit:
                high = middle
            else:
                low = middle + 1
            learn(s, at, node, bit)
            node = 2 * node + bit
            while not (low ^ high) >> 24:
                stream[written] = high >> 24
                written += 1
                low, high = (low << 8) & 0xFFFFFFFF, ((high << 8) & 0xFFFFFFFF) | 255
        end_byte(s, at, i64(content[at]))
    coder[0], coder[1] = low, high
    return written


@jit
def decode(s, content, first, last, coder, stream, read):
    """Fill content[first:last]. coder: the interval and where in it the stream is, int64 [3]; returns how many bytes of `stream` are read then."""
    low, high, value = coder[0], coder[1], coder[2]
    for at in range(first, last):
        begin_byte(s, content, at)
        node = i64(1)
        for place in range(8):
            middle = _middle(low, high, predict(s, content, place, node))
            bit = i64(1) if value <= middle else i64(0)
            if bit:
                high = middle
            else:
                low = middle + 1
            learn(s, at, node, bit)
            node = 2 * node + bit
            while not (low ^ high) >> 24:
                low, high = (low << 8) & 0xFFFFFFFF, ((high << 8) & 0xFFFFFFFF) | 255
                value = ((value << 8) & 0xFFFFFFFF) | (i64(stream[read]) if read < stream.shape[0] else 0)
                read += 1
        content[at] = node & 255
        end_byte(s, at, node & 255)
    coder[0], coder[1], coder[2] = low, high, value
    return read


@jit
def shares(s, content, first, last, out):
    """Learn content[first:last] without coding it, and put the probability of each bit that came, of 65536, into out int64 [last - first, 8]."""
    for at in range(first, last):
        begin_byte(s, content, at)
        node = i64(1)
        for place in range(8):
            bit = i64((content[at] >> (7 - place)) & 1)
            p = predict(s, content, place, node)
            out[at - first, place] = p if bit else 65536 - p
            learn(s, at, node, bit)
            node = 2 * node + bit
        end_byte(s, at, i64(content[at]))


@jit
def _middle(low, high, p):
    """Where the part of the interval that stands for a 1 ends."""
    return low + (((high - low) * p) >> 16)
