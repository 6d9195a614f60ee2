"""The definition of a tokenizer, apart from the library that runs it.

A `TokenizerSpec` holds everything that decides how text becomes tokens. Its hash goes into archives. Every token is a fixed string of
bytes, so a decoder needs no more than `token_bytes`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

BYTE_LEVEL = "byte-level"  # byte-pair encoding; each character of a token stands for a byte
SENTENCEPIECE = "sentencepiece"  # byte-pair encoding of characters; SPACE stands for a space, BYTES for bytes without a token
UNIGRAM = "unigram"  # of the same tokens, those of the highest sum of scores
KINDS = (BYTE_LEVEL, SENTENCEPIECE, UNIGRAM)

SPACE = "\u2581"
BYTES = {f"<0x{b:02X}>": bytes([b]) for b in range(256)}


def byte_characters() -> dict[str, int]:
    """The printable character that stands for each byte value in a byte-level vocabulary (the GPT-2 convention)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(printable)]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


@dataclass(frozen=True)
class TokenizerSpec:
    """A tokenizer as data. `tokenizer_library` makes one that runs of it.

    Raises:
        ValueError: the parts do not fit together.
    """

    tokens: tuple[str, ...]  # by id
    merges: tuple[tuple[str, str], ...]  # by rank
    pre_tokenizer: dict[str, Any] | None  # in the notation of tokenizer.json
    ignore_merges: bool = False
    kind: str = BYTE_LEVEL
    scores: tuple[float, ...] = ()  # by id; SENTENCEPIECE has either merges or scores
    added: tuple[int, ...] = ()  # ids of tokens that are found in the text first, by their literal text
    special: tuple[int, ...] = ()  # ids of tokens that text never becomes; none are noted for BYTE_LEVEL

    def __post_init__(self) -> None:
        n = len(self.tokens)
        if self.kind not in KINDS or len(self.scores) not in (0, n) or not all(0 <= i < n for i in (*self.added, *self.special)):
            raise ValueError("the parts of the tokenizer do not fit together")

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 over the canonical JSON."""
        return hashlib.sha256(self.to_json().encode("utf-8")).digest()

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, ASCII. Parts that byte-level tokenizers had no need of are there if they say something."""
        fields: dict[str, Any] = {
            "ignore_merges": self.ignore_merges,
            "merges": self.merges,
            "pre_tokenizer": self.pre_tokenizer,
            "tokens": self.tokens,
        }
        if self.kind != BYTE_LEVEL:
            fields["kind"] = self.kind
        if self.scores:
            fields["scores"] = np.array(self.scores, ">f8").tobytes().hex()
        fields |= {name: ids for name, ids in (("added", self.added), ("special", self.special)) if ids}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> TokenizerSpec:
        """The inverse of `to_json`. What it returns has the hash of this very text."""
        f = json.loads(text)
        merges = tuple(map(tuple, f["merges"]))
        scores = tuple(np.frombuffer(bytes.fromhex(f.get("scores", "")), ">f8").tolist())
        ids = (tuple(f.get(name, ())) for name in ("added", "special"))
        spec = cls(tuple(f["tokens"]), merges, f["pre_tokenizer"], f["ignore_merges"], f.get("kind", BYTE_LEVEL), scores, *ids)
        vars(spec)["hash"] = hashlib.sha256(text.encode("utf-8")).digest()  # the value that the property would compute
        return spec

    def token_bytes(self) -> list[bytes]:
        """The bytes that each token ID stands for."""
        if self.kind != BYTE_LEVEL:
            return [BYTES.get(token) or token.replace(SPACE, " ").encode("utf-8") for token in self.tokens]
        alphabet = {ord(c): chr(b) for c, b in byte_characters().items()}
        table = dict.fromkeys(range(256), "\uffff") | alphabet  # characters that stand for no byte must not look like Latin-1

        between = "\ufffe"  # no character: one translation of all tokens together takes a fraction of the time
        translated = between.join(self.tokens).translate(table).split(between)
        if len(translated) != len(self.tokens):
            translated = [token.translate(table) for token in self.tokens]

        def spelled(token: str, characters: str) -> bytes:
            try:
                return characters.encode("latin-1")
            except UnicodeEncodeError:
                return token.encode("utf-8")

        found = list(map(spelled, self.tokens, translated))
        for i in self.added:
            found[i] = self.tokens[i].encode("utf-8")
        return found

    @property
    def lost(self) -> str:
        """Characters that the tokenizer cannot tell from others, so that text with them has to be coded otherwise."""
        return "" if self.kind == BYTE_LEVEL else SPACE
