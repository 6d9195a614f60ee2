"""Section 9.4: tokenizers of GGUF files and folders, as the object of section 5.3."""

import json
import math
import struct

from alphabet import ONE_BYTE, SPACE


def byte_level(use_regex):
    """The pre-tokenizer that all byte-level tokenizers end with."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def words(pattern):
    """A pre-tokenizer that cuts text by a regular expression."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, byte_level(False)]}


def llama_3(digits):
    """Llama 3's, with another expression for numbers."""
    return words(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


DIGITS = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level(True)]}
TEKKEN = words(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS = {  # by the name that a GGUF file gives
    "gpt-2": byte_level(True), "olmo": byte_level(True), "mpt": byte_level(True), "smollm": DIGITS, "refact": DIGITS, "tekken": TEKKEN,
    "llama-bpe": llama_3(r"\p{N}{1,3}"), "dbrx": llama_3(r"\p{N}{1,3}"), "smaug-bpe": llama_3(r"\p{N}{1,3}"), "qwen2": llama_3(r"\p{N}"),
}  # fmt: skip


def of_gguf(metadata):
    """The tokenizer of a GGUF file."""
    kind, pre = (metadata.get(f"tokenizer.ggml.{name}") for name in ("model", "pre"))
    tokens, merges = metadata["tokenizer.ggml.tokens"], pairs(metadata.get("tokenizer.ggml.merges", []))
    types = metadata.get("tokenizer.ggml.token_type", [1] * len(tokens))
    added, special = ([n for n, found in enumerate(types) if found in wanted] for wanted in ([4], [2, 3, 5]))
    if kind == "gpt2":
        return parts(tokens, merges, PRE_TOKENIZERS[pre or "gpt-2"], pre == "tekken", added=added)
    if kind != "llama" or pre not in (None, "default"):
        raise ValueError("its tokenizer is neither gpt2 nor llama")
    scores = [] if merges else metadata["tokenizer.ggml.scores"]
    return parts(tokens, merges, None, False, "sentencepiece", scores, added, special)


def of_folder(path, vocab):
    """The tokenizer of the folder `path`, with `vocab` tokens."""
    file = json.loads((path / "tokenizer.json").read_text("utf-8"))
    model, extra, pre = file["model"], file.get("added_tokens") or [], file.get("pre_tokenizer")
    kind = {"BPE": "sentencepiece" if model.get("byte_fallback") else "", "Unigram": "unigram"}[model["type"]]
    check(kind, model, normalizers(file.get("normalizer")), pre)
    pieces = enumerate(token for token, _ in model["vocab"]) if kind == "unigram" else ((n, token) for token, n in model["vocab"].items())
    by_number = dict(pieces) | {token["id"]: token["content"] for token in extra}
    tokens = [by_number.get(n, f"<|unused-{n}|>") for n in range(vocab)]
    odd = {token["id"]: token["special"] for token in extra}
    added, special = (sorted(n for n, is_special in odd.items() if is_special == wanted and n < vocab) for wanted in (False, True))
    special = sorted({*special, *(n for n in range(vocab) if n not in by_number)}) if kind else []
    scores = []
    if kind == "unigram":
        scores = [score for _, score in model["vocab"]][:vocab]
        scores += [0.0] * (vocab - len(scores))
    return parts(tokens, pairs(model.get("merges", [])), pre, bool(model.get("ignore_merges")), kind, scores, added, special)


def pairs(merges):
    """Merges as lists of two parts."""
    return [m.split(" ", 1) if isinstance(m, str) else list(m) for m in merges]


def parts(tokens, merges, pre_tokenizer, ignore_merges, kind="", scores=(), added=(), special=()):
    """Section 5.3: what is hashed. `kind` is empty for byte-level tokenizers."""
    if kind and not set(tokens) >= set(ONE_BYTE):
        raise ValueError("its tokenizer lacks a token for a byte")
    if not all(map(math.isfinite, scores)):
        raise ValueError("a score of its tokenizer is not finite")
    bits = b"".join(struct.pack(">d", score) for score in scores).hex()
    found = {"ignore_merges": ignore_merges, "merges": merges, "pre_tokenizer": pre_tokenizer, "tokens": tokens}
    optional = {"kind": kind, "scores": bits, "added": list(added), "special": list(special)}
    return found | {name: value for name, value in optional.items() if value}


def normalizers(found):
    """The steps of a normalizer."""
    if not found:
        return []
    return [step for each in found["normalizers"] for step in normalizers(each)] if found["type"] == "Sequence" else [found]


def check(kind, model, steps, pre_tokenizer):
    """Whether a tokenizer.json is one of those that section 9.4 defines."""
    mark = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    dropped = [{"type": "Prepend", "prepend": SPACE}]
    if kind == "unigram":
        dropped += [{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": c} for c in (" ", SPACE)]
    kinds = {"unigram": ["NFC", "NFKC", "Precompiled"]}.get(kind, ["NFC"])
    good = all(step in [mark, *dropped] or step["type"] in kinds for step in steps)
    if kind:
        split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
        metaspace = bool(pre_tokenizer) and pre_tokenizer["type"] == "Metaspace" and pre_tokenizer["replacement"] == SPACE
        good = good and model["byte_fallback"] and (metaspace or (pre_tokenizer in (None, split) and mark in steps))
    else:
        good = good and mark not in steps and dropped[0] not in steps and "ByteLevel" in json.dumps(pre_tokenizer)
    if not good:
        raise ValueError("tokenizer.json is not of a kind that is defined")
