"""The definition of a tokenizer, apart from the library that runs it.

A `TokenizerSpec` holds everything that decides how text becomes tokens: the vocabulary, the merges and the pre-tokenizer's
settings. Its hash goes into archives. Only byte-level BPE is supported: every token is then a fixed string of bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmzip.errors import ModelFormatError, quoted
from llmzip.models import understood

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTE_LEVEL: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def _split(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, {**_BYTE_LEVEL, "use_regex": False}]}


# Pre-tokenizers that GGUF files only name.
GGUF_PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": _BYTE_LEVEL,
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL],
    },
    "llama-bpe": _split(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}


def byte_characters() -> dict[str, int]:
    """The printable character that stands for each byte value in a byte-level vocabulary (the GPT-2 convention)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(printable)]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


@dataclass(frozen=True)
class TokenizerSpec:
    """A byte-level BPE tokenizer as data."""

    tokens: tuple[str, ...]  # by id, in the byte-level alphabet
    merges: tuple[tuple[str, str], ...]  # by rank
    pre_tokenizer: dict[str, Any]  # in the notation of tokenizer.json
    ignore_merges: bool = False

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 over vocabulary, merges and pre-tokenizer settings in canonical JSON."""
        return hashlib.sha256(self.to_json().encode("utf-8")).digest()

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, ASCII."""
        fields = {
            "ignore_merges": self.ignore_merges,
            "merges": [list(m) for m in self.merges],
            "pre_tokenizer": self.pre_tokenizer,
            "tokens": list(self.tokens),
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> TokenizerSpec:
        """The inverse of `to_json`."""
        f = json.loads(text)
        return cls(tuple(f["tokens"]), tuple((a, b) for a, b in f["merges"]), f["pre_tokenizer"], f["ignore_merges"])

    def token_bytes(self) -> list[bytes]:
        """The bytes that each token ID stands for."""
        alphabet = {ord(c): chr(b) for c, b in byte_characters().items()}
        table = dict.fromkeys(range(256), "\uffff") | alphabet  # characters that stand for no byte must not look like Latin-1

        def spelled(token: str) -> bytes:
            try:
                return token.translate(table).encode("latin-1")
            except UnicodeEncodeError:
                return token.encode("utf-8")

        return [spelled(token) for token in self.tokens]

    def library(self) -> Tokenizer:
        """This tokenizer as an object of the library, without special tokens, so that their literal text is ordinary text."""
        from tokenizers import Tokenizer
        from tokenizers.models import BPE

        frame = {"version": "1.0", "added_tokens": [], "pre_tokenizer": self.pre_tokenizer}
        made = Tokenizer.from_str(json.dumps(frame | {"model": {"type": "BPE", "vocab": {}, "merges": []}}))
        vocab = {token: i for i, token in enumerate(self.tokens)}
        made.model = BPE(vocab, list(self.merges), ignore_merges=self.ignore_merges)
        return made

    def check(self) -> None:
        """Raise ModelFormatError unless every token stands for some bytes and the library accepts the tokenizer."""
        try:
            self.token_bytes()
            self.library()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as e:  # the library raises plain exceptions, and panics that are not exceptions
            raise ModelFormatError(f"the tokenizer cannot be used ({quoted(e)}); the file is damaged, or needs another llmzip") from e


def spec_from_gguf(kind: str, pre: str, tokens: list[str], merges: list[str]) -> TokenizerSpec:
    """From the metadata of a GGUF file. Raises ModelFormatError for tokenizers other than byte-level BPE."""
    if kind != "gpt2" or pre not in GGUF_PRE_TOKENIZERS:
        known = ", ".join(GGUF_PRE_TOKENIZERS)
        raise ModelFormatError(f"tokenizer {quoted(kind)}/{quoted(pre)} is not supported; use a byte-level BPE model ({known})")
    pairs = tuple((a, b) for a, b in (m.split(" ", 1) for m in merges))
    spec = TokenizerSpec(tuple(tokens), pairs, GGUF_PRE_TOKENIZERS[pre])
    spec.check()
    return spec


def spec_from_tokenizer_json(text: str, vocab: int) -> TokenizerSpec:
    """From a Hugging Face tokenizer.json, padded or cut to the model's `vocab` ids."""
    try:
        root = json.loads(text)
        model, pre = root["model"], root["pre_tokenizer"]
        understood.check("tokenizer.json", root, understood.TOKENIZER_USED, understood.TOKENIZER_IGNORED, {})
        understood.check("tokenizer.json, model,", model, understood.BPE_USED, understood.BPE_IGNORED, understood.BPE_FIXED)
        stages = pre.get("pretokenizers", [pre])
        if not any(s["type"] == "ByteLevel" for s in stages):
            raise ModelFormatError("tokenizer.json has no ByteLevel stage; use a byte-level BPE model")
        if any(s.get("add_prefix_space") for s in stages):
            raise ModelFormatError("tokenizer.json adds a space in front of text, which would not come back; use another model")
        by_id = {i: t for t, i in model["vocab"].items()} | {a["id"]: a["content"] for a in root.get("added_tokens", [])}
        merges = tuple((m.split(" ", 1)[0], m.split(" ", 1)[1]) if isinstance(m, str) else (m[0], m[1]) for m in model["merges"])
        tokens = tuple(by_id.get(i, f"<|unused-{i}|>") for i in range(vocab))
        spec = TokenizerSpec(tokens, merges, pre, bool(model.get("ignore_merges")))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as e:
        raise ModelFormatError(f"tokenizer.json cannot be understood ({quoted(repr(e))}); fetch it again") from e
    spec.check()
    return spec
