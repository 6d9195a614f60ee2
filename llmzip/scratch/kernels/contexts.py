"""What a byte is predicted from, compiled: hashes of the bytes before it, of words and of lines, and matches with what came long before.

Unsigned products are cut to 32 bits at once, as numba makes them longer.
"""

from __future__ import annotations

import numpy as np

from llmzip.scratch import numerics as sn
from llmzip.system.jit import compiled

jit = compiled(error_model="numpy")
u32, i64 = np.uint32, np.int64
MULTIPLIER = u32(sn.MULTIPLIER)
ORDERS, MATCHES = np.array(sn.ORDERS, np.int64), np.array(sn.MATCHES, np.int64)
CONTEXTS, LONGEST, LAST_LEVEL = sn.CONTEXTS, sn.LONGEST, sn.LAST_LEVEL
MATCH_SHIFT = u32(32 - sn.MATCH_BITS)


@jit
def hashed(h, x):
    """A hash and a number to another hash."""
    m = u32(u32(u32(h) ^ u32(x)) * MULTIPLIER)
    return u32(m ^ u32(m >> u32(15)))


@jit
def _last(content, at, k):
    """The byte k before the last one; 0 if there is none."""
    return u32(content[at - 1 - k]) if at - 1 - k >= 0 else u32(0)


@jit
def begin_byte(s, content, at):
    """Make ready for the byte content[at], of which nothing is known."""
    h, words, n = u32(0), s.words, 0
    for k in range(ORDERS[-1]):
        h = hashed(h, _last(content, at, k) + u32(1))
        if k + 1 == ORDERS[n]:
            s.hashes[n] = h
            n += 1
    c0, c1, c2, c3 = _last(content, at, 0), _last(content, at, 1), _last(content, at, 2), _last(content, at, 3)
    column = at - s.lines[0]
    above = u32(0)
    if s.lines[1] >= 0 and s.lines[1] + column < s.lines[0]:
        above = u32(content[s.lines[1] + column])
    both = hashed(words[0], words[1])
    s.hashes[n] = words[0]
    s.hashes[n + 1] = both
    s.hashes[n + 2] = hashed(both, words[2])
    s.hashes[n + 3] = hashed(words[0], words[2])
    s.hashes[n + 4] = hashed(words[0], c0)
    s.hashes[n + 5] = hashed(c1, c2)
    s.hashes[n + 6] = hashed(c0, c2)
    s.hashes[n + 7] = hashed(hashed(c1, c2), c3)
    s.hashes[n + 8] = hashed(above, c0)
    s.hashes[n + 9] = hashed(above, u32(min(column, 255)))
    s.hashes[n + 10] = hashed(words[3], words[0])
    for j in range(CONTEXTS):
        s.hashes[j] = hashed(s.hashes[j], u32(j + 1))
    _find_matches(s, content, at)
    longest = i64(0)
    for m in range(MATCHES.shape[0]):
        longest = max(longest, s.match_length[m])
    s.chosen[1] = c0
    s.by_byte[0] = 8 * ((1 + level(longest) // 5) if longest else 0)
    s.chosen[4] = c1
    s.by_byte[1] = 256 if words[0] else 0
    s.chosen[6] = ((c2 >> u32(5)) << u32(6)) | ((c1 >> u32(5)) << u32(3)) | (c0 >> u32(5))
    s.by_byte[2] = 256 * i64(c0)
    s.by_byte[3] = 65536 * i64(c1) + 256 * i64(c0)


@jit
def _find_matches(s, content, at):
    """Go on with the matches, or look for new ones."""
    for m in range(MATCHES.shape[0]):
        if s.match_length[m]:
            s.match_at[m] += 1
            s.match_length[m] = min(s.match_length[m] + 1, i64(65535))
        least = MATCHES[m]
        if at < least:
            continue
        h = u32(m + 1)
        for k in range(least):
            h = hashed(h, _last(content, at, k))
        place = h >> MATCH_SHIFT
        if not s.match_length[m]:
            before, length = i64(s.places[m, place]), i64(0)
            while length < before and length < LONGEST and content[before - 1 - length] == content[at - 1 - length]:
                length += 1
            if length >= least:
                s.match_at[m], s.match_length[m] = before, length
        s.places[m, place] = at


@jit
def level(length):
    """A match's length in 32 steps."""
    return length if length < 16 else min(16 + ((length - 16) >> 3), i64(LAST_LEVEL))


@jit
def end_byte(s, at, byte):
    """Note a byte that is complete: words and lines."""
    words = s.words
    small = byte + 32 if 65 <= byte <= 90 else byte
    if 97 <= small <= 122 or small >= 128:
        words[0] = hashed(words[0], u32(small))
    else:
        if words[0]:
            words[2], words[1], words[0] = words[1], words[0], u32(0)
        words[3] = u32(0) if byte == 10 else hashed(words[3], u32(byte))
    if byte == 10:
        s.lines[1], s.lines[0] = s.lines[0], at + 1
