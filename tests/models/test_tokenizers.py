"""Tokenizers of all kinds, made here, against the library that defines them. Texts come back, whatever is in them."""

from __future__ import annotations

import importlib
import json
import random
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, trainers

from llmzip.coding.alphabet import Alphabet
from llmzip.errors import ModelFormatError
from llmzip.models import safetensors_folder
from llmzip.models.gguf_file import GGUFHeader
from llmzip.models.tokenizer import BYTES, TokenizerSpec
from llmzip.models.tokenizer_sources import GGUF_PRE_TOKENIZERS, spec_from_gguf, spec_from_tokenizer_json
from tests.support import tiny
from tests.support.codecs import ROOT
from tests.support.profiles import examples

SPACE = "\u2581"
SPECIAL = ["<unk>", "<s>", "</s>"]
ADDED = ["\n\n", "\n\n\n", "<b>", f"{SPACE * 4}", "Z"]
SYLLABLES = ["la", "mi", "so", "ti", "kra", "wen", "o", "\u00fc", "\u0434\u043e", "\u6f22", "\u5b57", "ing", "ed"]
KINDS = ("sentencepiece", "unigram")


def corpus(seed: int, words: int = 3000) -> str:
    """Words of a few syllables, in lines."""
    r = random.Random(seed)
    made = ["".join(r.choices(SYLLABLES, k=r.randint(1, 4))) for _ in range(200)]
    return " ".join(r.choice(made) + r.choice(["", "", ",", ".", "\n"]) for _ in range(words))


@cache
def trained(kind: str) -> str:
    """A tokenizer.json as the library trains it, with byte tokens, special tokens, and tokens that are found as text."""
    bpe = kind == "sentencepiece"
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True) if bpe else models.Unigram())
    made.normalizer = normalizers.Replace(" ", SPACE)
    names, lines = [*SPECIAL, *BYTES], corpus(1).split("\n")
    if bpe:
        made.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=700, special_tokens=names, show_progress=False))
    else:
        trainer = trainers.UnigramTrainer(vocab_size=600, special_tokens=names, unk_token="<unk>", show_progress=False)
        made.train_from_iterator(lines, trainer)
    root = json.loads(made.to_str())
    root["model"]["byte_fallback"] = True
    n = len(root["model"]["vocab"])
    for i, text in enumerate(ADDED):
        if bpe:
            root["model"]["vocab"][text] = n + i
        else:
            root["model"]["vocab"].append([text, 0.0])
    root["added_tokens"] = [added(i, name, True) for i, name in enumerate(SPECIAL)] + [added(n + i, t, False) for i, t in enumerate(ADDED)]
    return json.dumps(root)


def added(number: int, content: str, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, "special": special, **flags}


@cache
def spec(kind: str) -> TokenizerSpec:
    return changed(kind)


def as_it_is(root: dict[str, Any]) -> None:
    """No change of a tokenizer.json."""


def changed(kind: str, change: Callable[[dict[str, Any]], object] = as_it_is) -> TokenizerSpec:
    """The tokenizer, its tokenizer.json changed in place before it is read."""
    root = json.loads(trained(kind))
    change(root)
    return spec_from_tokenizer_json(json.dumps(root), len(root["model"]["vocab"]))


@cache
def alphabet(kind: str) -> Alphabet:
    return Alphabet(spec(kind))


def text_of(symbols: np.ndarray, a: Alphabet) -> list[bytes]:
    return [a.decode(s[None]) for s in symbols]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_the_library(kind: str) -> None:
    reference, a = Tokenizer.from_str(trained(kind)), alphabet(kind)
    text = corpus(2, 2000) + "  la\n\n\nlami<b>so</b>Z\t unseen \u00e9\u4e2d\U0001f600 x"
    symbols = a.encode(text.encode())
    assert symbols.tolist() == reference.encode(text, add_special_tokens=False).ids
    assert a.decode(symbols) == text.encode()
    assert len(symbols) < 0.7 * len(text)


@pytest.mark.parametrize("kind", KINDS)
@given(st.text(max_size=200) | st.text(alphabet=f"la mi{SPACE}\n<s>0x41Z\0", max_size=100))
@settings(max_examples=examples(200), deadline=None)
def test_texts_come_back(kind: str, text: str) -> None:
    a, data = alphabet(kind), text.encode("utf-8", "surrogatepass")
    symbols = a.encode(data)
    assert a.decode(symbols) == data
    assert not set(symbols.tolist()) & set(a.spec.special)
    assert (symbols < a.vocab).all()


ODD_TEXTS = [
    "Fran\u00e7ais, \u0440\u0443\u0441\u0441\u043a\u0438\u0439, \u0627\u0644\u0639\u0631\u0628\u064a\u0629, \u0939\u093f\u0928\u094d\u0926\u0940, \u65e5\u672c\u8a9e, \ud55c\uad6d\uc5b4",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 e\u0301 \u212b \ufb01",
    f"{SPACE} la{SPACE}mi {SPACE}{SPACE}", "\0", "la\0mi", "\n" * 1000, " " * 1000 + "\t" * 100, "\r\n\r\n", "<s></s><unk><0x41>", "", " la", "la ",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_odd_texts_come_back(kind: str) -> None:
    a = alphabet(kind)
    for data in (*(t.encode() for t in ODD_TEXTS), bytes(range(256)) * 3, b"la\xff\xfemi\xe2\x96", "la mi".encode("utf-16")):
        symbols = a.encode(data)
        assert a.decode(symbols) == data
        assert a.lengths()[symbols].sum() == len(data)
        assert not set(symbols.tolist()) & set(a.spec.special)


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_ordinary_text(kind: str) -> None:
    """A tokenizer that could spell them from their parts does not make them, either."""
    a = alphabet(kind)
    for text in SPECIAL:
        assert len(a.encode(text.encode())) > 1
    if kind == "sentencepiece":
        made = changed(kind, lambda root: root["model"]["merges"].append(["<", "s"]) or spelled(root))  # type: ignore[func-returns-value]
        assert len(Alphabet(made).encode(b"<s>")) == 2


def spelled(root: dict[str, Any]) -> None:
    """Merges that lead to <s>."""
    n = len(root["model"]["vocab"])
    root["model"]["vocab"] |= {"<": n, ">": n + 1, "<s": n + 2}
    root["model"]["merges"].append(["<s", ">"])


@pytest.mark.parametrize("kind", KINDS)
def test_added_tokens_are_found_first(kind: str) -> None:
    a = alphabet(kind)
    assert b"".join(text_of(a.encode(b"\n\n\n\nla"), a)[:2]) == b"\n\n\n\n"
    assert text_of(a.encode(b"\n\n\n\nla"), a)[0] == b"\n\n\n"
    for text, i in zip(ADDED, a.spec.added, strict=True):
        assert a.encode(text.replace(SPACE, " ").encode()).tolist() == [i]


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_for_a_space_costs_only_itself(kind: str) -> None:
    a, text = alphabet(kind), corpus(3, 300)
    cut = text.index(" ", len(text) // 2)
    both = f"{text[:cut]}{SPACE}{text[cut:]}".encode()
    assert a.decode(a.encode(both)) == both
    assert 3 <= len(a.encode(both)) - len(a.encode(text.encode())) <= 6


def test_scores_rank_merges() -> None:
    """A GGUF file has no merges: two tokens merge to one whose score is high."""
    s = spec("sentencepiece")
    at = {t: i for i, t in enumerate(s.tokens)}
    scores = np.zeros(len(s.tokens), np.float32)
    for rank, (x, y) in reversed(list(enumerate(s.merges))):
        scores[at[x + y]] = -rank
    types = np.ones(len(s.tokens), np.int32)
    types[[at[t] for t in BYTES]], types[list(s.added)], types[list(s.special)] = 6, 4, 3
    meta = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": list(s.tokens)}
    arrays = {"tokenizer.ggml.scores": scores, "tokenizer.ggml.token_type": types}
    made = spec_from_gguf(meta, arrays)
    assert (made.added, made.special, made.kind, made.merges) == (s.added, s.special, s.kind, ())
    text = corpus(4).encode()
    one, other = Alphabet(made).encode(text), alphabet("sentencepiece").encode(text)
    assert abs(len(one) / len(other) - 1) < 0.01
    assert np.mean(one[:50] == other[:50]) == 1

    with_merges = spec_from_gguf(meta | {"tokenizer.ggml.merges": [" ".join(m) for m in s.merges]}, arrays)
    assert with_merges.hash == s.hash
    types[5] = 5  # unused, and so no part of a merge
    assert 5 in spec_from_gguf(meta, arrays).special
    for name, value in (
        ("scores", scores[1:]),
        ("token_type", types[1:]),
        ("scores", scores * np.float32("nan")),
        ("token_type", types + 7),
    ):
        with pytest.raises(ValueError, match=r"[a-z]"):
            spec_from_gguf(meta, arrays | {f"tokenizer.ggml.{name}": value})
    with pytest.raises(ModelFormatError, match="llama/odd"):
        spec_from_gguf(meta | {"tokenizer.ggml.pre": "odd"}, arrays)
    with pytest.raises(ModelFormatError, match="t5"):
        spec_from_gguf(meta | {"tokenizer.ggml.model": "t5"}, arrays)


def test_scores_and_types_are_read_from_a_file(tmp_path: Path) -> None:
    s = spec("sentencepiece")
    w = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    w.add_tokenizer_model("llama")
    w.add_token_list(list(s.tokens))
    w.add_token_scores([-i / 8 for i in range(len(s.tokens))])
    w.add_token_types([3] * 3 + [6] * 256 + [1] * (len(s.tokens) - 264) + [4] * 5)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    data = (tmp_path / "x.gguf").read_bytes()
    header = GGUFHeader(data, len(data))
    made = spec_from_gguf(header.metadata, header.arrays)
    assert made.scores == tuple(-i / 8 for i in range(len(s.tokens)))
    assert (made.added, made.special) == (s.added, s.special)
    assert TokenizerSpec.from_json(made.to_json()) == made


SAME_TOKENS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("prefix", lambda root: root.update(normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, root["normalizer"]]})),
    ("NFC", lambda root: root.update(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, root["normalizer"]]})),
    ("Metaspace", lambda root: root.update(normalizer=None, pre_tokenizer=metaspace(split=False, prepend_scheme="first"))),
    ("whole text", lambda root: root.update(pre_tokenizer={"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False})),
]  # fmt: skip


def metaspace(**more: object) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": SPACE, **more}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [c for _, c in SAME_TOKENS], ids=[name for name, _ in SAME_TOKENS])
def test_other_ways_to_say_the_same(kind: str, change: Callable[[dict[str, Any]], object]) -> None:
    text = " la mi  so\u0301 ti " + corpus(5, 300)
    a = Alphabet(changed(kind, change))
    assert np.array_equal(a.encode(text.encode()), alphabet(kind).encode(text.encode()))


@pytest.mark.parametrize("more", [{"add_prefix_space": True}, {"split": True, "prepend_scheme": "always"}, {"str_rep": SPACE}])
def test_cut_before_spaces(more: dict[str, Any]) -> None:
    made = changed("sentencepiece", lambda root: root.update(normalizer=None, pre_tokenizer=metaspace(**more)))
    root = json.loads(trained("sentencepiece")) | {"normalizer": None, "pre_tokenizer": metaspace(prepend_scheme="never", split=True)}
    text = "la   mi so " + corpus(6, 200)
    ids = Tokenizer.from_str(json.dumps(root)).encode(text, add_special_tokens=False).ids
    assert Alphabet(made).encode(text.encode()).tolist() == ids


def put(*path: str, value: object) -> Callable[[dict[str, Any]], object]:
    """Sets one value of a tokenizer.json."""

    def change(root: dict[str, Any]) -> None:
        for name in path[:-1]:
            root = root[name]
        root[path[-1]] = value

    return change


REFUSED: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("sentencepiece", put("normalizer", value=None), "write spaces as"),
    ("sentencepiece", put("normalizer", value={"type": "Lowercase"}), "normalizer.*Lowercase"),
    ("sentencepiece", put("normalizer", value={"type": "Precompiled", "precompiled_charsmap": ""}), "normalizer.*Precompiled"),
    ("sentencepiece", put("normalizer", "content", value="_"), "normalizer.*_"),
    ("unigram", put("normalizer", value={"type": "Sequence", "normalizers": [{"type": "StripAccents"}]}), "normalizer.*StripAccents"),
    ("sentencepiece", put("pre_tokenizer", value={"type": "Whitespace"}), "pre_tokenizer.*Whitespace"),
    ("unigram", put("pre_tokenizer", value={"type": "ByteLevel", "add_prefix_space": False}), "pre_tokenizer.*ByteLevel"),
    ("unigram", put("pre_tokenizer", value=metaspace(something=1)), "something"),
    ("unigram", put("pre_tokenizer", value={"type": "Metaspace", "replacement": "_"}), "replacement"),
    ("unigram", put("model", "byte_fallback", value=False), "byte_fallback"),
    ("unigram", put("model", "something", value=1), "something"),
    ("sentencepiece", put("model", "dropout", value=0.5), "dropout"),
    ("sentencepiece", put("model", "end_of_word_suffix", value="</w>"), "end_of_word_suffix"),
    ("unigram", lambda root: root["model"]["vocab"][9].__setitem__(0, "lost"), "token <0x06>"),
    ("unigram", lambda root: root["model"]["vocab"][9].__setitem__(1, float("nan")), "finite"),
    ("sentencepiece", lambda root: root["added_tokens"][-1].update(single_word=True), "single_word"),
    ("sentencepiece", lambda root: root["model"]["merges"].append(["la", "nothing"]), "cannot be used"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "change", "word"), REFUSED, ids=[word for _, _, word in REFUSED])
def test_refusals(kind: str, change: Callable[[dict[str, Any]], object], word: str) -> None:
    with pytest.raises(ModelFormatError, match=word) as e:
        changed(kind, change)
    assert "\n" not in str(e.value)


def test_numbers_without_a_token(kind: str = "sentencepiece") -> None:
    """A model may have more tokens than its tokenizer. Text does not become them."""
    n = len(spec(kind).tokens)
    padded = spec_from_tokenizer_json(trained(kind), n + 2)
    assert padded.tokens[n:] == (f"<|unused-{n}|>", f"<|unused-{n + 1}|>")
    assert padded.special == (0, 1, 2, n, n + 1)
    wide = spec_from_tokenizer_json(trained("unigram"), len(spec("unigram").tokens) + 2)
    assert wide.scores[-3:] == (0.0, 0.0, 0.0)


def test_a_normalizer_of_a_byte_level_tokenizer_is_dropped(tmp_path: Path) -> None:
    folder = tiny.write_folder(tmp_path / "model")
    plain = safetensors_folder.describe(folder)[1]
    root = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(root | {"normalizer": {"type": "NFC"}}), "utf-8")
    assert safetensors_folder.describe(folder)[1].hash == plain.hash
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    with pytest.raises(ModelFormatError, match=r"tokenizer\.model only"):
        safetensors_folder.describe(folder)


def test_added_tokens_of_a_byte_level_tokenizer(tmp_path: Path) -> None:
    """Their strings are text, not in the byte-level alphabet."""
    folder = tiny.write_folder(tmp_path / "model")
    root = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    texts = ["    ", "\u00e9\u00e9", "<tool>", "the the"]
    n = len(root["model"]["vocab"])
    root["added_tokens"] += [added(n + i, t, False) for i, t in enumerate(texts)]
    made = spec_from_tokenizer_json(json.dumps(root), n + len(texts))
    a, ids = Alphabet(made), tuple(range(n, n + len(texts)))
    assert made.added == ids
    assert made.token_bytes()[n:] == [t.encode() for t in texts]
    for text, i in zip(texts, ids, strict=True):
        symbols = a.encode(f"the {text} and".encode())
        assert i in symbols
        assert a.decode(symbols) == f"the {text} and".encode()
    types = np.array([3] * 3 + [1] * (n - 3) + [4] * len(texts), np.int32)
    meta = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": list(made.tokens), "tokenizer.ggml.merges": root["model"]["merges"]}
    assert spec_from_gguf(meta, {"tokenizer.ggml.token_type": types}).hash == made.hash


@pytest.mark.parametrize("pre", GGUF_PRE_TOKENIZERS)
def test_named_pre_tokenizers(pre: str) -> None:
    """The library understands them, no character is lost, and numbers are cut as the model expects."""
    model = {"type": "BPE", "vocab": {}, "merges": []}
    made = Tokenizer.from_str(json.dumps({"version": "1.0", "pre_tokenizer": GGUF_PRE_TOKENIZERS[pre], "model": model})).pre_tokenizer
    assert made is not None
    text = "It's 12345 HelloWorld\n\n  don't\tx\u0301 \u4e2d\u6587, caf\u00e9s 67!\r\n"
    parts = [text[a:b] for _, (a, b) in made.pre_tokenize_str(text)]
    assert "".join(parts) == text
    digits = [p.strip() for p in parts if any(c.isdigit() for c in p)]
    three, whole = ["123", "45", "67"], ["12345", "67"]
    wanted = {"gpt-2": whole, "olmo": whole, "mpt": whole, "llama-bpe": three, "dbrx": three, "smaug-bpe": three}.get(pre, list("1234567"))
    assert digits == wanted
    assert ("Hello" in [p.strip() for p in parts]) == (pre == "tekken")


def test_hashes_are_pinned(tmp_path: Path) -> None:
    """What an archive states must not change. A change of these is a change of the format."""
    byte_level = safetensors_folder.describe(tiny.write_folder(tmp_path / "model"))[1]
    tokens = (*BYTES, "a", SPACE, f"{SPACE}a", "<s>", "\n")
    merges = ((SPACE, "a"),)
    scores = (*[0.0] * 257, -1.5, -2.25, 0.0, 0.0)
    specs = {
        "byte-level": byte_level,
        "with added": TokenizerSpec(("a", "b"), (), None, added=(1,)),
        "merges": TokenizerSpec(tokens, merges, None, False, "sentencepiece", (), (260,), (259,)),
        "scores": TokenizerSpec(tokens, (), None, False, "sentencepiece", scores, (260,), (259,)),
        "unigram": TokenizerSpec(tokens, (), metaspace(), False, "unigram", scores, (260,), (259,)),
    }
    assert {name: s.hash.hex()[:16] for name, s in specs.items()} == {
        "byte-level": "83de12d567f84a1d",
        "with added": "77b3e64e1c728294",
        "merges": "53c9b5dfbe5e1dca",
        "scores": "8243a619201569d9",
        "unigram": "7f11cc7df8367cb9",
    }
    for s in specs.values():
        assert TokenizerSpec.from_json(s.to_json()) == s


def test_parts_that_do_not_fit_together() -> None:
    for more in ({"kind": "odd"}, {"scores": (1.0,)}, {"added": (2,)}, {"special": (-1,)}):
        with pytest.raises(ValueError, match="fit together"):
            TokenizerSpec(("a", "b"), (), None, **more)


@pytest.fixture
def other_decoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Modules of the second decoder by name."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "reference_decoder"))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_decoder_agrees(kind: str, other_decoder: Any, tmp_path: Path) -> None:
    """On the bytes of tokens and on the hash, whatever way a tokenizer.json says it."""
    tokenizer, bytes_of = other_decoder("tokenizer"), other_decoder("alphabet")
    for change in (as_it_is, *(c for _, c in SAME_TOKENS)):
        root = json.loads(trained(kind))
        change(root)
        (tmp_path / "tokenizer.json").write_text(json.dumps(root), "utf-8")
        for vocab in (len(root["model"]["vocab"]), len(root["model"]["vocab"]) + 3, 400):
            if kind == "sentencepiece":
                root["model"]["merges"] = [m for m in root["model"]["merges"] if vocab > 400 or root["model"]["vocab"]["".join(m)] < vocab]
                (tmp_path / "tokenizer.json").write_text(json.dumps(root), "utf-8")
            ours, theirs = spec_from_tokenizer_json(json.dumps(root), vocab), tokenizer.of_folder(tmp_path, vocab)
            assert bytes_of.tokenizer_hash(theirs) == ours.hash
            assert bytes_of.symbol_bytes(theirs)[:vocab] == ours.token_bytes()


def test_the_second_decoder_knows_the_same_pre_tokenizers(other_decoder: Any) -> None:
    theirs = other_decoder("tokenizer").PRE_TOKENIZERS
    assert theirs == GGUF_PRE_TOKENIZERS
    for pre in theirs:
        meta = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": ["a", "b", "ab", "x y"]}
        meta["tokenizer.ggml.merges"] = ["a b"]
        types = np.array([1, 1, 1, 4])
        found = other_decoder("tokenizer").of_gguf(meta | {"tokenizer.ggml.token_type": types.tolist()})
        ours = spec_from_gguf(meta, {"tokenizer.ggml.token_type": types})
        assert other_decoder("alphabet").tokenizer_hash(found) == ours.hash
        assert other_decoder("alphabet").symbol_bytes(found)[:4] == ours.token_bytes()
