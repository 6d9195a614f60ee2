"""Bytes to symbols and back, without loss.

The alphabet is the model's vocabulary followed by 256 raw-byte symbols. Text that is valid UTF-8 goes through the
tokenizer; every other byte becomes its one-byte token where the vocabulary has one, else its raw-byte symbol. So do the bytes of a
stretch that the tokenizer does not give back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmzip.models import tokenizer_library
from llmzip.models.tokenizer import TokenizerSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

RAW_BYTES = 256
_PIECE = 1 << 16  # symbols decoded at once
_STRETCH = 8  # characters: one that the tokenizer loses turns at most so many into bytes
_REACH = 64  # characters in which a space is looked for, to cut at
_INVALID_UTF8 = re.compile("([\udc80-\udcff]+)")


class Alphabet:
    """The symbols of one tokenizer.

    Attributes:
        vocab: number of tokens; symbol `vocab + b` is the raw byte b.
        size: number of symbols.
    """

    def __init__(self, spec: TokenizerSpec) -> None:
        self.spec = spec
        self.vocab = len(spec.tokens)
        self.size = self.vocab + RAW_BYTES
        self._bytes = spec.token_bytes() + [bytes([b]) for b in range(RAW_BYTES)]
        one_byte = {s: i for i, s in reversed(list(enumerate(self._bytes[: self.vocab]))) if len(s) == 1}
        self._byte_symbol = np.array([one_byte.get(bytes([b]), self.vocab + b) for b in range(RAW_BYTES)], dtype=np.int32)
        missing = bytes(b for b in range(RAW_BYTES) if bytes([b]) not in one_byte)
        self._missing = re.compile(b"([" + re.escape(missing) + b"]+)") if missing else None
        self._lost = re.compile(f"([{re.escape(spec.lost)}]+)") if spec.lost else None
        self._library: Tokenizer | None = None

    def encode(self, data: bytes) -> NDArray[np.int32]:
        """Symbols of `data`, int32 [n]. They decode to `data` again, which is checked here."""
        parts = [self._encode_part(part) for part in self._split(data)]
        return np.concatenate([*parts, np.zeros(0, np.int32)])

    def decode(self, symbols: NDArray[np.int32]) -> bytes:
        """The bytes that `symbols`, int32 [n] in [0, size), stand for."""
        table = self._bytes
        pieces = np.split(symbols, range(_PIECE, len(symbols), _PIECE))  # a list takes ten times the memory of its array
        return b"".join([b"".join([table[s] for s in piece.tolist()]) for piece in pieces])

    def lengths(self) -> NDArray[np.int64]:
        """Bytes each symbol stands for, int64 [size]."""
        return np.array([len(s) for s in self._bytes], dtype=np.int64)

    def _split(self, data: bytes) -> list[bytes | str]:
        """Cut `data` into str for the tokenizer, and bytes that become one symbol each."""
        out: list[bytes | str] = []
        pieces = self._missing.split(data) if self._missing else [data]
        for i, piece in enumerate(pieces):
            if i % 2:
                out.append(piece)
                continue
            for j, run in enumerate(_INVALID_UTF8.split(piece.decode("utf-8", "surrogateescape"))):
                if j % 2:
                    out.append(run.encode("utf-8", "surrogateescape"))
                elif run:
                    out += self._split_text(run)
        return out

    def _split_text(self, text: str) -> list[bytes | str]:
        """Cut a text into what the tokenizer can tell apart, and the bytes of the rest."""
        if self._lost is None:
            return [text]
        return [run.encode() if i % 2 else run for i, run in enumerate(self._lost.split(text)) if run]

    def _encode_part(self, part: bytes | str) -> NDArray[np.int32]:
        return self._encode_bytes(part) if isinstance(part, bytes) else self._encode_text(part)

    def _encode_text(self, text: str) -> NDArray[np.int32]:
        """Symbols of a text. No tokenizer is trusted to be lossless: where it is not, try each half by itself."""
        if self._library is None:
            self._library = tokenizer_library.library(self.spec)
        symbols = np.array(self._library.encode(text, add_special_tokens=False).ids, dtype=np.int32)
        content = text.encode()
        if self.decode(symbols) == content:
            return symbols
        if len(text) <= _STRETCH:
            return self._encode_bytes(content)
        middle = len(text) // 2
        space = text.find(" ", middle, middle + _REACH)
        cut = middle if space < 0 else space  # tokens mostly begin with a space, so a cut before one changes few of them
        return np.concatenate([self._encode_text(text[:cut]), self._encode_text(text[cut:])])

    def _encode_bytes(self, data: bytes) -> NDArray[np.int32]:
        return self._byte_symbol[np.frombuffer(data, dtype=np.uint8)]
