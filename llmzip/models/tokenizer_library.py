"""Tokenizers as objects of the library that runs them.

Only an encoder needs them, and how it cuts text is its own affair: each decoder gets the bytes of the tokens chosen.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmzip.errors import ModelFormatError, quoted
from llmzip.models.tokenizer import BYTE_LEVEL, BYTES, SENTENCEPIECE, SPACE, TokenizerSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FAR_BELOW = 50.0  # how much less than all others the scores of byte tokens are, so that their literal text is cut otherwise


def library(spec: TokenizerSpec) -> Tokenizer:
    """The tokenizer `spec`, without special tokens, so that their literal text is ordinary text.

    Raises whatever the library does if the parts do not fit together.
    """
    from tokenizers import AddedToken, Tokenizer

    frame: dict[str, Any] = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}
    if spec.kind == BYTE_LEVEL:
        frame["pre_tokenizer"] = spec.pre_tokenizer
    else:
        frame["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
        if cuts_before_spaces(spec.pre_tokenizer):
            split = {"type": "Split", "pattern": {"String": SPACE}, "behavior": "MergedWithNext", "invert": False}
            frame["pre_tokenizer"] = split
    made = Tokenizer.from_str(json.dumps(frame))
    made.model = {BYTE_LEVEL: _byte_level, SENTENCEPIECE: _sentencepiece}.get(spec.kind, _unigram)(spec)
    texts = [_text(spec, i) for i in spec.added]
    made.add_tokens([AddedToken(text, normalized=False, special=False) for text in texts if text])
    return made


def check(spec: TokenizerSpec) -> None:
    """Raise ModelFormatError unless every token stands for some bytes and the library accepts the tokenizer."""
    if spec.kind != BYTE_LEVEL and (missing := BYTES.keys() - set(spec.tokens)):
        raise ModelFormatError(f"the tokenizer has no token {min(missing)}, and so not one for every byte; use another model")
    try:
        spec.token_bytes()
        library(spec)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as e:  # the library raises plain exceptions, and panics that are not exceptions
        raise ModelFormatError(f"the tokenizer cannot be used ({quoted(e)}); the file is damaged, or needs another llmzip") from e


def cuts_before_spaces(pre_tokenizer: dict[str, Any] | None) -> bool:
    """Whether a pre-tokenizer of a tokenizer other than a byte-level one cuts text before each space."""
    return pre_tokenizer is not None and pre_tokenizer["type"] == "Metaspace" and pre_tokenizer.get("split") is not False


def merges_of(spec: TokenizerSpec) -> list[tuple[str, str]]:
    """The merges by rank. Where there are scores, two tokens whose text together is a token merge, those of the highest score first."""
    odd = {spec.tokens[i] for i in spec.special}
    if not spec.scores:
        return [(a, b) for a, b in spec.merges if a not in odd and b not in odd and a + b not in odd]
    others = odd | {spec.tokens[i] for i in spec.added} | BYTES.keys()
    normal = {t for t in spec.tokens if t not in others}
    order = sorted(range(len(spec.tokens)), key=lambda i: -spec.scores[i])
    ranked = [t for t in map(spec.tokens.__getitem__, order) if t in normal]
    return [(t[:j], t[j:]) for t in ranked for j in range(1, len(t)) if t[:j] in normal and t[j:] in normal]


def _text(spec: TokenizerSpec, i: int) -> str:
    """The literal text of a token."""
    return spec.tokens[i] if spec.kind == BYTE_LEVEL else spec.tokens[i].replace(SPACE, " ")


def _byte_level(spec: TokenizerSpec) -> Any:
    from tokenizers.models import BPE

    vocab = {token: i for i, token in enumerate(spec.tokens)}
    return BPE(vocab, list(spec.merges), ignore_merges=spec.ignore_merges)


def _sentencepiece(spec: TokenizerSpec) -> Any:
    from tokenizers.models import BPE

    vocab = {token: i for i, token in enumerate(spec.tokens)}
    for i in spec.special:
        vocab.pop(spec.tokens[i], None)
    vocab |= {_text(spec, i): i for i in spec.added}  # found by its text, which the model never sees
    return BPE(vocab, merges_of(spec), byte_fallback=True, ignore_merges=spec.ignore_merges)


def _unigram(spec: TokenizerSpec) -> Any:
    from tokenizers.models import Unigram

    pieces = list(zip(spec.tokens, spec.scores, strict=True))
    least = min(spec.scores) - _FAR_BELOW
    for i, token in enumerate(spec.tokens):
        if token in BYTES:
            pieces[i] = (token, least)
    for i in spec.special:
        pieces[i] = (f" {spec.tokens[i]}", 0.0)  # the model sees no spaces
    for i in spec.added:
        pieces[i] = (_text(spec, i), spec.scores[i])
    return Unigram(pieces, unk_id=min(spec.special, default=0), byte_fallback=True)
