"""The network, compiled: what it predicts, and what it learns from each bit.

Every float32 operation is rounded on its own, in the order written.
"""

from __future__ import annotations

import numpy as np

from llmzip.engine.kernels.rows import exponential
from llmzip.scratch import numerics as sn
from llmzip.scratch.kernels.contexts import MATCHES, MULTIPLIER, jit, level

f32, i32, u32, i64 = np.float32, np.int32, np.uint32, np.int64
ZERO, ONE, HALF = f32(0), f32(1), f32(0.5)
SPREAD, FINISH = u32(sn.SPREAD), u32(sn.FINISH)
LEAST, MOST = f32(sn.LEAST), f32(1 - sn.LEAST)
RATE, LAST_RATE, SLOWS, FINAL_SHARE = f32(sn.RATE), f32(sn.LAST_RATE), f32(sn.SLOWS), f32(sn.FINAL_SHARE)
LIMIT, NEAR, FOUR, QUARTER, STEPS, MIDDLE = f32(sn.LIMIT), f32(sn.NEAR), f32(4), f32(0.25), f32(4096), f32(16)
BIAS_INPUT, WHOLE, SHARES = f32(sn.BIAS_INPUT), f32(65536), np.array(sn.SLOT_RATES, np.int64)
NO_HISTORY, BYTE = u32(0x80000100), u32(255)
COLUMNS, CONTEXTS, SETS, DIRECT = sn.COLUMNS, sn.CONTEXTS, sn.SETS, sn.DIRECT
COUNTED, SHORT = sn.COUNTED, sn.SHORT_ORDERS
DIRECT_SHIFT, CURVE_SHIFT = u32(32 - sn.DIRECT_BITS), u32(32 - sn.CURVE_BITS)


@jit
def probability(t):
    """1 / (1 + 2^-t)."""
    return ONE / (exponential(-t) + ONE)


@jit
def curve(out):
    """The probabilities of -16 to 16, into out float32 [33]."""
    for i in range(33):
        out[i] = probability(f32(i - 16))


@jit
def _stretch(s, p):
    return s.stretched[i32(p * STEPS)]


@jit
def _slot(s, j, node):
    """Where a context's slot of a node is, with what it holds; it is made if it is not there."""
    row = s.slots[j]
    h = u32(u32(s.hashes[j] + u32(u32(node) * SPREAD)) * MULTIPLIER)
    h = u32(u32(h ^ u32(h >> u32(16))) * FINISH)
    check, bits = h & BYTE, 0
    while (1 << bits) < row.shape[0]:
        bits += 1
    at = i64(h >> u32(32 - bits))
    value, other = row[at], row[at ^ 1]
    if (value & BYTE) == check and (value >> u32(8)) & BYTE:
        return at, value
    if (other & BYTE) == check and (other >> u32(8)) & BYTE:
        return at ^ 1, other
    if ((other >> u32(8)) & BYTE) < ((value >> u32(8)) & BYTE):
        at ^= 1
    row[at] = NO_HISTORY | check
    return at, row[at]


@jit
def predict(s, content, bit, node):
    """The probability of a 1, of 65536, from 1 to 65535. node: 1, and the byte's bits so far; bit: how many they are."""
    x, order, n = s.inputs, 0, 0
    for j in range(CONTEXTS):
        s.at[j], value = _slot(s, j, node)
        history = (value >> u32(8)) & BYTE
        x[n] = x[n + 1] = ZERO
        if history > 1:
            x[n] = s.stretched[value >> u32(20)]
            x[n + 1] = _stretch(s, s.history_p[j, history])
            if j < SHORT:
                order = j + 1
        n += 2
    for m in range(MATCHES.shape[0]):
        x[n] = x[n + 1] = ZERO
        s.match_in[m] = -1
        if s.match_length[m]:
            expected = (i64(content[s.match_at[m]]) >> (7 - bit)) & 1
            s.match_in[m] = 2 * level(s.match_length[m]) + expected
            p = s.match_p[m, s.match_in[m]]
            x[n] = _stretch(s, p)
            x[n + 1] = (p - HALF) * FOUR
        n += 2
    last = u32(s.by_byte[3] + node)
    s.direct_at[0] = node
    s.direct_at[1] = s.by_byte[2] + node
    s.direct_at[2] = u32(last * MULTIPLIER) >> DIRECT_SHIFT
    for k in range(DIRECT):
        x[n] = _stretch(s, s.direct_p[k, s.direct_at[k]])
        n += 1
    x[n] = BIAS_INPUT
    s.chosen[0] = node
    s.chosen[2] = s.by_byte[0] + bit
    s.chosen[3] = 8 * order + bit + (64 if s.match_length[0] else 0)
    s.chosen[5] = s.by_byte[1] + node
    for k in range(SETS):
        s.sums[k] = min(max(_sum(s, s.weights[k, s.chosen[k]]), -LIMIT), LIMIT)
    t = ZERO
    for k in range(SETS):
        t = t + s.final[node, k] * s.sums[k]
    t = min(max(t, -LIMIT), LIMIT)
    p = probability(t)
    place = t + MIDDLE
    whole = i64(place)
    part = place - f32(whole)
    s.mixed[0] = p
    s.curve_at[0] = s.direct_at[1]
    s.curve_at[1] = u32(last * FINISH) >> CURVE_SHIFT
    s.curve_at[2] = whole + 1 if part >= HALF else whole
    a, b = s.curves[0, s.curve_at[0]], s.curves[1, s.curve_at[1]]
    left = ONE - part
    one, two = a[whole] * left + a[whole + 1] * part, b[whole] * left + b[whole + 1] * part
    return min(max(i64((p * HALF + (one + two) * QUARTER) * WHOLE), i64(1)), i64(65535))


@jit
def _sum(s, w):
    """The ordered sum of w x: in 16 columns, which are then added in halves."""
    x, parts = s.inputs, s.parts
    for c in range(COLUMNS):
        parts[c] = w[c] * x[c]
    for first in range(COLUMNS, x.shape[0], COLUMNS):
        for c in range(COLUMNS):
            parts[c] += w[first + c] * x[first + c]
    half = COLUMNS // 2
    while half:
        for c in range(half):
            parts[c] += parts[half + c]
        half //= 2
    return parts[0]


@jit
def _move(s, p, n, at, y):
    """Move a probability that is learned."""
    p[at] = min(max(p[at] + (y - p[at]) * s.rates[n[at]], LEAST), MOST)
    n[at] = min(n[at] + 1, COUNTED)


@jit
def learn(s, at, node, bit):
    """Learn from a bit that came, in the byte content[at]."""
    y = f32(bit)
    for k in range(2):
        c = s.curves[k, s.curve_at[k]]
        c[s.curve_at[2]] += (y - c[s.curve_at[2]]) * NEAR
    rate = LAST_RATE + RATE / (ONE + f32(at) / SLOWS)
    step = ((y - s.mixed[0]) * FINAL_SHARE) * rate
    for k in range(SETS):
        s.final[node, k] += step * s.sums[k]
    x = s.inputs
    for k in range(SETS):
        step = (y - probability(s.sums[k])) * rate
        w = s.weights[k, s.chosen[k]]
        for i in range(x.shape[0]):
            w[i] += step * x[i]
    for j in range(CONTEXTS):
        value = s.slots[j, s.at[j]]
        history, p = i64((value >> u32(8)) & BYTE), i64(value >> u32(16))
        _move(s, s.history_p[j], s.history_n[j], history, y)
        seen = 0
        while history >> (seen + 1):
            seen += 1
        p += ((65535 * bit - p) * SHARES[seen] + 32768) >> 16
        history = 2 * history + bit
        if history > 255:
            history = (history & 127) | 128
        s.slots[j, s.at[j]] = (u32(p) << u32(16)) | (u32(history) << u32(8)) | (value & BYTE)
    for m in range(MATCHES.shape[0]):
        if s.match_in[m] >= 0:
            _move(s, s.match_p[m], s.match_n[m], s.match_in[m], y)
            if (s.match_in[m] & 1) != bit:
                s.match_length[m] = 0
    for k in range(DIRECT):
        _move(s, s.direct_p[k], s.direct_n[k], s.direct_at[k], y)
