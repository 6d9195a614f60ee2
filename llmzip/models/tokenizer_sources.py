"""Tokenizers from the files that models come in: GGUF metadata, and the tokenizer.json of a folder.

What makes text lose something is dropped, since text has to come back: normalisation of characters, and a space put in front. What is
not understood is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmzip.errors import ModelFormatError, quoted
from llmzip.models import tokenizer_library, understood
from llmzip.models.tokenizer import BYTE_LEVEL, SENTENCEPIECE, SPACE, UNIGRAM, TokenizerSpec

_BYTE_LEVEL: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_DIGITS: dict[str, Any] = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL]}
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def _split(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, {**_BYTE_LEVEL, "use_regex": False}]}


_LLAMA_3 = _split(_CONTRACTIONS + r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _SPACES)
# Pre-tokenizers that GGUF files only name.
GGUF_PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": _BYTE_LEVEL,
    "olmo": _BYTE_LEVEL,
    "mpt": _BYTE_LEVEL,  # GPT-NeoX's, as MPT has it
    "smollm": _DIGITS,
    "refact": _DIGITS,
    "llama-bpe": _LLAMA_3,
    "dbrx": _LLAMA_3,
    "smaug-bpe": _LLAMA_3,
    "qwen2": _split(_CONTRACTIONS + r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _SPACES),
    "tekken": _split(
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
    ),
}
_WHOLE_WORDS = frozenset({"tekken"})  # names of those that take a word that is a token whole, before merges
_NORMAL, _ADDED, _BYTE = 1, 4, 6  # types of tokens in GGUF files
_SPECIAL = frozenset({2, 3, 5})  # unknown, control, unused


def spec_from_gguf(metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> TokenizerSpec:
    """From the metadata of a GGUF file: strings and lists of strings, and arrays of numbers, by name.

    Raises:
        ModelFormatError: the tokenizer is of a kind that is not supported.
        KeyError, TypeError, ValueError: the metadata is not sound.
    """
    kind, pre = metadata["tokenizer.ggml.model"], metadata.get("tokenizer.ggml.pre")
    tokens, merges = tuple(metadata["tokenizer.ggml.tokens"]), _pairs(metadata.get("tokenizer.ggml.merges", []))
    types = arrays.get("tokenizer.ggml.token_type", np.full(len(tokens), _NORMAL))
    if len(types) != len(tokens):
        raise ValueError("there are more or fewer types than tokens")
    added, special = _ids(types == _ADDED), _ids(np.isin(types, list(_SPECIAL)))
    if kind == "gpt2" and (pre or "gpt-2") in GGUF_PRE_TOKENIZERS:
        spec = TokenizerSpec(tokens, merges, GGUF_PRE_TOKENIZERS[pre or "gpt-2"], pre in _WHOLE_WORDS, added=added)
    elif kind == "llama" and pre in (None, "default"):
        if not np.isin(types, [_NORMAL, _ADDED, _BYTE, *_SPECIAL]).all():
            raise ValueError("a token is of unknown type")
        scores = () if merges else _scores(arrays["tokenizer.ggml.scores"].tolist())
        spec = TokenizerSpec(tokens, merges, None, False, SENTENCEPIECE, scores, added, special)
    else:
        known = ", ".join(GGUF_PRE_TOKENIZERS)
        advice = f"use a model whose tokenizer is llama, or gpt2 with one of {known}"
        raise ModelFormatError(f"tokenizer {quoted(kind)}/{quoted(pre)} is not supported; {advice}")
    tokenizer_library.check(spec)
    return spec


def spec_from_tokenizer_json(text: str, vocab: int) -> TokenizerSpec:
    """From a Hugging Face tokenizer.json, padded or cut to the model's `vocab` ids.

    Raises:
        ModelFormatError: it is damaged, or of a kind that is not supported.
    """
    try:
        root = json.loads(text)
        understood.check("tokenizer.json", root, understood.TOKENIZER_USED, understood.TOKENIZER_IGNORED, {})
        spec = _from_json(root, root["model"], vocab)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as e:
        raise ModelFormatError(f"tokenizer.json cannot be understood ({quoted(repr(e))}); fetch it again") from e
    tokenizer_library.check(spec)
    return spec


def _from_json(root: dict[str, Any], model: dict[str, Any], vocab: int) -> TokenizerSpec:
    kind = _kind(model)
    pre, normalizers = root.get("pre_tokenizer"), _stages(root.get("normalizer"), "normalizers")
    if kind == BYTE_LEVEL:
        understood.check("tokenizer.json, model,", model, understood.BPE_USED, understood.BPE_IGNORED, understood.BPE_FIXED)
        _check_normalizers(normalizers, understood.BYTE_LEVEL_NORMALIZERS)
        _check_byte_level(pre)
    else:
        if kind == SENTENCEPIECE:
            fixed = understood.BPE_FIXED | {"byte_fallback": True}
            understood.check("tokenizer.json, model,", model, understood.BPE_USED, understood.BPE_IGNORED, fixed)
            _check_normalizers(normalizers, understood.SENTENCEPIECE_NORMALIZERS)
        else:
            understood.check("tokenizer.json, model,", model, understood.UNIGRAM_USED, understood.UNIGRAM_IGNORED, understood.UNIGRAM_FIXED)
            _check_normalizers(normalizers, understood.UNIGRAM_NORMALIZERS)
        _check_space_marks(pre, understood.MARK in normalizers)
    pieces = enumerate(t for t, _ in model["vocab"]) if kind == UNIGRAM else ((i, t) for t, i in model["vocab"].items())
    extra = root.get("added_tokens") or []
    by_id = dict(pieces) | {a["id"]: a["content"] for a in extra}
    tokens = tuple(by_id.get(i, f"<|unused-{i}|>") for i in range(vocab))
    added = tuple(sorted({a["id"] for a in extra if not _is_special(a) and a["id"] < vocab}))
    if kind == BYTE_LEVEL:
        return TokenizerSpec(tokens, _pairs(model["merges"]), pre, bool(model.get("ignore_merges")), added=added)
    special = tuple(sorted({a["id"] for a in extra if _is_special(a) and a["id"] < vocab} | set(range(vocab)) - by_id.keys()))
    if kind == SENTENCEPIECE:
        return TokenizerSpec(tokens, _pairs(model["merges"]), pre, bool(model.get("ignore_merges")), kind, (), added, special)
    found = [s for _, s in model["vocab"]][:vocab]
    return TokenizerSpec(tokens, (), pre, False, kind, _scores(found + [0.0] * (vocab - len(found))), added, special)


def _kind(model: dict[str, Any]) -> str:
    """The kind of tokenizer that the object `model` of a tokenizer.json describes."""
    kind, fallback = model["type"], model.get("byte_fallback")
    if kind == "Unigram" and fallback is not True:
        raise ModelFormatError("tokenizer.json is a Unigram model without byte_fallback, which cannot spell every text; use another model")
    return UNIGRAM if kind == "Unigram" else SENTENCEPIECE if kind == "BPE" and fallback is True else BYTE_LEVEL


def _is_special(token: dict[str, Any]) -> bool:
    """Whether an added token is one that text never becomes. The others match wherever their text is."""
    if token["special"] is not True and token.get("single_word"):
        name = quoted(token["content"])
        raise ModelFormatError(f"tokenizer.json has a token {name} with single_word, which llmzip does not support; use another model")
    return token["special"] is True


def _stages(found: dict[str, Any] | None, name: str) -> list[dict[str, Any]]:
    """The stages of a normalizer or pre-tokenizer; those of a sequence are named `name`."""
    if found is None:
        return []
    return [s for stage in found[name] for s in _stages(stage, name)] if found["type"] == "Sequence" else [found]


def _check_normalizers(stages: Iterable[dict[str, Any]], known: list[dict[str, Any]]) -> None:
    """Refuse stages other than those known. A known stage of one key stands for all of its type."""
    for stage in stages:
        if stage not in known and {"type": stage["type"]} not in known:
            raise ModelFormatError(f"tokenizer.json has a normalizer {quoted(stage)}, which llmzip does not support; use another model")


def _check_byte_level(pre: dict[str, Any] | None) -> None:
    """Refuse pre-tokenizers that are not byte-level, or that add something."""
    stages = (pre or {}).get("pretokenizers", [pre or {}])
    if not any(s.get("type") == "ByteLevel" for s in stages):
        raise ModelFormatError("tokenizer.json has neither a ByteLevel stage nor byte_fallback; use another model")
    if any(s.get("add_prefix_space") for s in stages):
        raise ModelFormatError("tokenizer.json adds a space in front of text, which would not come back; use another model")


def _check_space_marks(pre: dict[str, Any] | None, marked: bool) -> None:
    """Refuse pre-tokenizers that do something else than mark spaces and, perhaps, cut text there."""
    kind = "none" if pre is None else pre["type"]
    if kind == "Metaspace":
        assert pre is not None
        understood.check(
            "tokenizer.json, pre_tokenizer,", pre, frozenset({"type", "split"}), understood.METASPACE_IGNORED, {"replacement": SPACE}
        )
    elif pre is not None and pre != {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}:
        raise ModelFormatError(
            f"tokenizer.json has byte_fallback with a pre_tokenizer {quoted(pre)}, which is not supported; use another model"
        )
    if not marked and kind != "Metaspace":
        raise ModelFormatError(f"tokenizer.json has byte_fallback, but does not write spaces as {SPACE}; use another model")


def _pairs(merges: Iterable[Any]) -> tuple[tuple[str, str], ...]:
    """Merges, each stated as its two parts, or as one string with a space between them."""
    return tuple((m.split(" ", 1)[0], m.split(" ", 1)[1]) if isinstance(m, str) else (m[0], m[1]) for m in merges)


def _ids(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())


def _scores(found: list[Any]) -> tuple[float, ...]:
    scores = np.array(found, np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("a score is not a finite number")
    return tuple(scores.tolist())
