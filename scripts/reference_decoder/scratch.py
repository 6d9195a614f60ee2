"""Section 14: the network that starts from nothing."""

import hashlib
import math
from collections import defaultdict

import numpy as np
from errors import ModelError, NotReproducedError, UnsupportedError
from float32 import bits as pattern
from float32 import f32, from_bits

DIGEST, TOKENIZER = (hashlib.sha256(name).digest() for name in (b"llmzip new:small 1", b"bytes"))
ORDERS = (1, 2, 3, 4, 5, 6, 7, 9, 12, 16, 24)
SHARES = (40960, 25206, 18204, 14246, 11702, 9929, 8623, 6553)
STRETCHED = [f32(round(4096 * math.log2((2 * i + 1) / (8191 - 2 * i))) / 4096) for i in range(4096)]
LEAST, MOST, LIMIT = f32(2.0**-13), f32(1 - 2.0**-13), f32(15.99)
ZERO, ONE, HALF = f32(0.0), f32(1.0), f32(0.5)


def is_one(record):
    """Section 14.1: whether a model record names the network; it has no other parameters."""
    if record.digest != DIGEST[:10]:
        return False
    plain = (record.window, record.sinks, record.all_heads_see_all, record.biases, record.neighbours, record.corrections)
    if record.tokenizer != TOKENIZER[:6]:
        raise ModelError("a tokenizer that the network does not have")
    if plain != (1, 0, False, None, None, None):
        raise UnsupportedError("parameters that the network does not have")
    return True


def decode_bytes(size, lanes, bitstream):
    """Section 14.2: so many bytes from a bitstream."""
    if lanes != 1:
        raise NotReproducedError("the network codes in one lane")
    network, content = Network(size), bytearray()
    low, high, value, read = 0, 2**32 - 1, int.from_bytes(bitstream[:4].ljust(4, b"\0"), "big"), 4
    for _ in range(size):
        network.begin_byte(content)
        node = 1
        for k in range(8):
            middle = low + (high - low) * network.predict(content, k, node) // 2**16
            bit = int(value <= middle)
            low, high = (low, middle) if bit else (middle + 1, high)
            network.learn(len(content), node, bit)
            node = 2 * node + bit
            while low >> 24 == high >> 24:
                low, high = low << 8 & 0xFFFFFFFF, high << 8 & 0xFFFFFFFF | 255
                value = value << 8 & 0xFFFFFFFF | (bitstream[read] if read < len(bitstream) else 0)
                read += 1
        content.append(node - 256)
        network.end_byte(content)
    return bytes(content)


def hashed(h, x):
    """H(h, x)."""
    m = (h ^ x) * 0x9E3779B1 % 2**32
    return m ^ m >> 15


def probability(t):
    """p(t)."""
    t = min(max(-t, f32(-30.0)), f32(30.0))
    n = np.floor(t)
    f = t - n
    e = ((f * f32(0.0782685) + f32(0.2263065)) * f + f32(0.695425)) * f + ONE
    return ONE / (e * from_bits((int(n) + 127) << 23)[()] + ONE)


def stretch(p):
    """st(p)."""
    return STRETCHED[int(p * f32(4096.0))]


def level(length):
    """lev(n)."""
    return length if length < 16 else min(16 + (length - 16) // 8, 31)


def first_meaning(history):
    """Section 14.4: the probability of a history that was not met."""
    ones, total, weight, share = f32(0.4), f32(0.8), ONE, f32(0.8)
    while history > 1:
        ones, total, weight = ones + weight if history % 2 else ones, total + weight, weight * share
        history //= 2
    return ones / total


class Chance:
    """Section 14.4: a probability that is learned."""

    def __init__(self, p=HALF):
        self.p, self.n = p, 0

    def learn(self, y):
        """Moves towards the bit that came."""
        rate = ONE / (f32(self.n) + f32(1.6))
        self.p = min(max(self.p + (y - self.p) * rate, LEAST), MOST)
        self.n = min(self.n + 1, 255)


class Network:
    """All that is learned, and what the present bit is predicted from."""

    def __init__(self, size):
        self.bits = min(max((16 * size - 1).bit_length(), 16), 22)
        self.slots = [defaultdict(lambda: (0, 0, 0)) for _ in range(22)]  # probability, history, check
        self.histories = [{} for _ in range(22)]
        self.direct = [defaultdict(Chance) for _ in range(3)]
        self.places = [{} for _ in range(3)]
        self.matches = [[0, 0] for _ in range(3)]  # place and length
        self.expectations = [defaultdict(Chance) for _ in range(3)]
        self.weights = [defaultdict(lambda: np.full(64, f32(0.18), np.float32)) for _ in range(7)]
        self.final = defaultdict(lambda: [ONE / f32(7)] * 7)
        curve = [probability(f32(i - 16)) for i in range(33)]
        self.curves = [defaultdict(curve.copy) for _ in range(2)]
        self.words, self.line, self.before = [0, 0, 0, 0], 0, None

    def begin_byte(self, content):
        """Section 14.3: contexts and matches of the byte after the content."""
        at = len(content)
        c = [content[at - 1 - k] if k < at else 0 for k in range(24)]
        chain = [0]
        for k in range(24):
            chain.append(hashed(chain[-1], c[k] + 1))
        w, column = self.words, at - self.line
        above = content[self.before + column] if self.before is not None and self.before + column < self.line else 0
        both = hashed(w[0], w[1])
        contexts = [chain[n] for n in ORDERS]
        contexts += [w[0], both, hashed(both, w[2]), hashed(w[0], w[2]), hashed(w[0], c[0])]
        contexts += [hashed(c[1], c[2]), hashed(c[0], c[2]), hashed(hashed(c[1], c[2]), c[3])]
        contexts += [hashed(above, c[0]), hashed(above, min(column, 255)), hashed(w[3], w[0])]
        self.contexts = [hashed(h, j + 1) for j, h in enumerate(contexts)]
        self.last, self.c = 65536 * c[1] + 256 * c[0], c
        for m, least in enumerate((5, 9, 20)):
            self.find_match(m, least, content)
        longest = max(length for _, length in self.matches)
        self.longest = 1 + level(longest) // 5 if longest else 0

    def find_match(self, m, least, content):
        """Section 14.3: goes on with match m, or looks for another."""
        at, match = len(content), self.matches[m]
        if match[1]:
            match[:] = match[0] + 1, min(match[1] + 1, 65535)
        if at < least:
            return
        h = m + 1
        for k in range(least):
            h = hashed(h, content[at - 1 - k])
        place = h >> 12
        if not match[1] and place in self.places[m]:
            before, n = self.places[m][place], 0
            while n < min(before, 400) and content[before - 1 - n] == content[at - 1 - n]:
                n += 1
            if n >= least:
                match[:] = before, n
        self.places[m][place] = at

    def slot(self, j, node):
        """Section 14.4: where the slot of context j for a node is; it is made if it is not there."""
        h = (self.contexts[j] + node * 0x3D4D51CB) * 0x9E3779B1 % 2**32
        h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
        at, check, row = h >> (32 - self.bits), h % 256, self.slots[j]
        for place in (at, at ^ 1):
            if row[place][1] and row[place][2] == check:
                return place
        if row[at ^ 1][1] < row[at][1]:
            at ^= 1
        row[at] = (32768, 1, check)
        return at

    def predict(self, content, k, node):
        """Section 14.5: P of the bit after the k bits in `node`."""
        x, order = [], 0
        self.at = [self.slot(j, node) for j in range(22)]
        for j in range(22):
            p, history, _ = self.slots[j][self.at[j]]
            if history > 1:
                x += [STRETCHED[p // 16], stretch(self.meaning(j, history).p)]
                order = j + 1 if j < 7 else order
            else:
                x += [ZERO, ZERO]
        self.expected = [None] * 3
        for m, (place, length) in enumerate(self.matches):
            if length:
                bit = content[place] >> (7 - k) & 1
                self.expected[m] = self.expectations[m][2 * level(length) + bit], bit
                p = self.expected[m][0].p
                x += [stretch(p), (p - HALF) * f32(4.0)]
            else:
                x += [ZERO, ZERO]
        last = self.last + node
        self.near = [self.direct[0][node], self.direct[1][last % 65536], self.direct[2][last * 0x9E3779B1 % 2**32 >> 10]]
        x += [stretch(chance.p) for chance in self.near] + [HALF]
        self.x = np.array(x + [ZERO] * (64 - len(x)), np.float32)
        c = self.c
        choices = [node, c[0], 8 * self.longest + k, 8 * order + k + (64 if self.matches[0][1] else 0), c[1]]
        choices += [node + (256 if self.words[0] else 0), 64 * (c[2] // 32) + 8 * (c[1] // 32) + c[0] // 32]
        self.chosen = [self.weights[s][choice] for s, choice in enumerate(choices)]
        self.sums = [min(max(ordered_sum(w * self.x), -LIMIT), LIMIT) for w in self.chosen]
        t = ZERO
        for weight, value in zip(self.final[node], self.sums, strict=True):
            t = t + weight * value
        t = min(max(t, -LIMIT), LIMIT)
        self.p = probability(t)
        place = t + f32(16.0)
        n = int(place)
        part = place - f32(n)
        self.bent = [self.curves[0][last % 65536], self.curves[1][last * 0x85EBCA6B % 2**32 >> 16]]
        self.point = n + 1 if part >= HALF else n
        one, two = (curve[n] * (ONE - part) + curve[n + 1] * part for curve in self.bent)
        return min(max(int((self.p * HALF + (one + two) * f32(0.25)) * f32(65536.0)), 1), 65535)

    def meaning(self, j, history):
        """What a history means in context j."""
        return self.histories[j].setdefault(history, Chance(first_meaning(history)))

    def learn(self, at, node, bit):
        """Section 14.6."""
        y = f32(bit)
        for curve in self.bent:
            curve[self.point] = curve[self.point] + (y - curve[self.point]) * f32(0.02)
        rate = f32(0.0021) + f32(0.014) / (ONE + f32(at) / f32(3000.0))
        step = ((y - self.p) * f32(0.3)) * rate
        self.final[node] = [w + step * t for w, t in zip(self.final[node], self.sums, strict=True)]
        for w, t in zip(self.chosen, self.sums, strict=True):
            w += ((y - probability(t)) * rate) * self.x
        for j in range(22):
            p, history, check = self.slots[j][self.at[j]]
            self.meaning(j, history).learn(y)
            p += ((65535 * bit - p) * SHARES[history.bit_length() - 1] + 32768) >> 16
            history = 2 * history + bit
            self.slots[j][self.at[j]] = p, history if history < 256 else history % 128 + 128, check
        for m, expected in enumerate(self.expected):
            if expected:
                expected[0].learn(y)
                if expected[1] != bit:
                    self.matches[m][1] = 0
        for chance in self.near:
            chance.learn(y)

    def end_byte(self, content):
        """Section 14.3: words and lines, after the last byte of the content."""
        w, byte = self.words, content[-1]
        small = byte + 32 if 65 <= byte <= 90 else byte
        if 97 <= small <= 122 or small >= 128:
            w[0] = hashed(w[0], small)
        else:
            if w[0]:
                w[:3] = 0, w[0], w[1]
            w[3] = 0 if byte == 10 else hashed(w[3], byte)
        if byte == 10:
            self.before, self.line = self.line, len(content)


def ordered_sum(products):
    """Section 14.5: in 16 columns, whose sums are added in halves."""
    total = products[:16]
    for first in range(16, len(products), 16):
        total = total + products[first : first + 16]
    while len(total) > 1:
        total = total[: len(total) // 2] + total[len(total) // 2 :]
    return total[0]


def stretched_bits():
    """The table of st, by its bits."""
    return pattern(np.array(STRETCHED))
