"""docs/message.md: a message, from its bytes to its text. Sections named here are of that document unless it says otherwise."""

import hashlib
import re
import struct
from itertools import pairwise

import numpy as np
from alphabet import BYTE_LEVEL, ONE_BYTE, SPACE
from coding import find
from errors import DamagedError, ModelError
from frequencies import F, T, frequencies
from predictor import Predictor

OPENING_TEXT = """\
=====
I'm on my way, should be there around eight.
=====
The boat is safe in the harbour. Wind has dropped, we sail at noon tomorrow if the forecast holds.
=====
Can you call me when you get home?
=====
Position 47 21.8 N 008 32.1 E, 14:00 UTC. Temperature -3, wind NE 4, all well.
=====
Thanks! I got the tickets, we have seats in row 12.
=====
Sorry, I didn't see your message until now. Monday doesn't work for me, but Tuesday after 3 pm is fine. Where shall we meet?
=====
"""
# How the pre-tokenizer ByteLevel cuts ASCII.
ASCII_PARTS = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")


def decode_message(message, model):
    """Sections 1 to 3: the text, as bytes."""
    if not message:
        raise DamagedError("a message has at least one byte")
    body = message[1:]
    B, b = len(body), int.from_bytes(body, "big")
    most = min(4096, 64 + 32 * B)
    vocab, bos = model.config["vocab"], model.config["bos"]
    opening = opening_tokens(model)
    predictor = Predictor(model, window=1280, sinks=4, all_heads_see_all=False, lanes=1, positions=len(opening) + most)
    for token in opening[:-1]:
        predictor.feed([token])
    token = opening[-1]

    low, R, P, text = 0, 2**32 - 1, 0, b""
    for symbols in range(most + 1):
        if may_end(low, R, P, B, b) and check_byte(model, text) == message[0]:
            return text
        if symbols == most or least_bytes(P) > B:
            break
        D = shifted(b, 32 + P - 8 * B) - low
        target = min(max(((D + 1) * T - 1) // R, 0), T - 1)
        if target >= F:
            break
        logits = predictor.logits(*predictor.feed([token]))[0]
        f = frequencies(logits, np.float32(0), None, len(model.bytes_of)).f
        s, c = find(f, target)
        below = R * c // T
        width = R * (c + int(f[s])) // T - below
        m = 32 - width.bit_length()
        low, R, P = (low + below) << m, width << m, P + m
        text += model.bytes_of[s]
        token = s if s < vocab else bos
    raise DamagedError("this is not a message of this version and model, or it was altered")


def shifted(b, n):
    """floor(b * 2^n)."""
    return b << n if n >= 0 else b >> -n


def least_bytes(P):
    """Section 3: U = ceil((P - 1) / 8)."""
    return -((1 - P) // 8)


def may_end(low, R, P, B, b):
    """Section 3: whether the body may end here. low + R - 1 is the last number of the interval."""
    U, n = least_bytes(P), 32 + P - 8 * B
    return U <= B <= U + 3 and n >= 0 and b == -(-low >> n) and b << n < low + R


def check_byte(model, text):
    """Section 1."""
    return hashlib.sha256(b"llmzip message 2\0" + model.digest[:10] + model.tokenizer[:6] + text).digest()[0]


def opening_tokens(model):
    """Sections 2 and 4: the tokens that are fed before the first symbol."""
    bos = [] if "opening" in model.config else [model.config["bos"]]
    return bos + encode_ascii(model, OPENING_TEXT)


def encode_ascii(model, text):
    """The tokens of an ASCII text. Tokens that are found by their text come first, byte-pair encoding cuts the rest."""
    tokenizer = model.tokenizer_parts
    kind, names = tokenizer.get("kind"), tokenizer["tokens"]
    if kind == "unigram":
        raise ModelError("this decoder does not cut texts as unigram tokenizers do")
    number = {token: n for n, token in enumerate(names)}
    for n in tokenizer.get("special", []):
        number.pop(names[n], None)
    ranks = {pair: rank for rank, pair in enumerate(ranked_merges(tokenizer))}
    found = {model.bytes_of[n].decode(): n for n in tokenizer.get("added", []) if names[n]}
    longest_first = "|".join(re.escape(token) for token in sorted(found, key=len, reverse=True))
    tokens = []
    for i, stretch in enumerate(re.split(f"({longest_first})", text) if found else [text]):
        if i % 2:
            tokens.append(found[stretch])
            continue
        for word in words_of(stretch, tokenizer):
            if tokenizer["ignore_merges"] and "".join(word) in number:
                word = ["".join(word)]
            while len(word) > 1:
                rank, i = min((ranks.get((a, b), len(ranks)), i) for i, (a, b) in enumerate(pairwise(word)))
                if rank == len(ranks):
                    break
                word[i : i + 2] = [word[i] + word[i + 1]]
            tokens += [n for part in word for n in ([number[part]] if part in number else [number[f"<0x{b:02X}>"] for b in part.encode()])]
    return tokens


def ranked_merges(tokenizer):
    """Section 4: the merges by rank, from scores if there are some."""
    tokens = tokenizer["tokens"]
    special = {tokens[n] for n in tokenizer.get("special", [])}
    if "scores" not in tokenizer:
        return [(a, b) for a, b in tokenizer["merges"] if not {a, b, a + b} & special]
    scores = struct.unpack(f">{len(tokens)}d", bytes.fromhex(tokenizer["scores"]))
    odd = {tokens[n] for n in tokenizer.get("added", [])} | special | ONE_BYTE.keys()
    normal = {token for token in tokens if token not in odd}
    ranked = [tokens[n] for n in sorted(range(len(tokens)), key=lambda n: -scores[n]) if tokens[n] in normal]
    return [(t[:i], t[i:]) for t in ranked for i in range(1, len(t)) if t[:i] in normal and t[i:] in normal]


def words_of(text, tokenizer):
    """The parts that merges do not cross, as characters of tokens."""
    pre_tokenizer = tokenizer["pre_tokenizer"]
    if "kind" not in tokenizer:
        character = {chr(b): c for c, b in BYTE_LEVEL.items()}
        return [[character[c] for c in part] for part in parts_of(text, pre_tokenizer)]
    text = text.replace(" ", SPACE)
    if pre_tokenizer and pre_tokenizer["type"] == "Metaspace" and pre_tokenizer.get("split") is not False:
        return [list(part) for part in re.findall(f"{SPACE}[^{SPACE}]*|[^{SPACE}]+", text)]
    return [list(text)]


def parts_of(text, pre_tokenizer):
    """The parts that merges do not cross. Knows the pre-tokenizer of format.md, 7.4, and ByteLevel alone."""
    parts = [text]
    for step in pre_tokenizer.get("pretokenizers", [pre_tokenizer]):
        if step["type"] == "Digits" and step["individual_digits"]:
            parts = [piece for part in parts for piece in re.findall(r"\d|\D+", part)]
        elif step["type"] == "ByteLevel" and step["use_regex"] and not step["add_prefix_space"]:
            parts = [piece for part in parts for piece in ASCII_PARTS.findall(part)]
        else:
            raise ModelError(f"this decoder does not know the pre-tokenizer {step['type']}")
    return parts
