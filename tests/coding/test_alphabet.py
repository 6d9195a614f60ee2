"""Bytes to symbols and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmzip.coding.alphabet import Alphabet
from llmzip.models.convert import IntegerModel
from tests.support.profiles import examples
from tests.support.tiny import MISSING, SPECIAL

ALL_BYTES = bytes(range(256))
EVERY_CODE_POINT = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)])).encode()


@pytest.fixture(scope="module")
def alphabet(tiny_model: IntegerModel) -> Alphabet:
    return Alphabet(tiny_model.tokenizer)


@pytest.fixture(scope="module")
def real_alphabet(real_model: IntegerModel) -> Alphabet:
    return Alphabet(real_model.tokenizer)


@given(data=st.binary(max_size=300) | st.text(max_size=200).map(lambda s: s.encode("utf-8", "surrogatepass")))
@settings(max_examples=examples(300), deadline=None)
def test_round_trip(alphabet: Alphabet, data: bytes) -> None:
    symbols = alphabet.encode(data)
    assert symbols.dtype == np.int32
    assert len(symbols) <= len(data)
    assert alphabet.decode(symbols) == data
    assert alphabet.lengths()[symbols].sum() == len(data)


def test_bytes_without_token_become_raw(alphabet: Alphabet) -> None:
    symbols = alphabet.encode(ALL_BYTES)
    assert sorted(symbols[symbols >= alphabet.vocab] - alphabet.vocab) == sorted(MISSING)


def test_special_tokens_are_text(alphabet: Alphabet) -> None:
    text = "".join(SPECIAL).encode()
    symbols = alphabet.encode(text)
    assert (symbols >= len(SPECIAL)).all()
    assert alphabet.decode(symbols) == text


def test_tokenizer_is_used(alphabet: Alphabet) -> None:
    assert [alphabet.decode(s[None]) for s in alphabet.encode(b"the thing and")] == [b"the", b" ", b"th", b"ing", b" and"]


def test_real_round_trips(real_alphabet: Alphabet) -> None:
    for data in (EVERY_CODE_POINT, ALL_BYTES * 3, b"<|im_start|>user\r\n\0\xff\xfe text", "naïve 漢字 🙂".encode("utf-16")):
        assert real_alphabet.decode(real_alphabet.encode(data)) == data
    raw = real_alphabet.encode(ALL_BYTES)
    missing = [*map(int, (0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xC0, 0xC1, 0xF1, 0xF2)), *range(0xF5, 0x100)]
    assert (raw[raw >= real_alphabet.vocab] - real_alphabet.vocab).tolist() == missing
    assert (real_alphabet.encode(b"<|im_start|>") > 16).all()


def test_real_tokens_are_the_expected_ones(real_alphabet: Alphabet) -> None:
    pieces = [real_alphabet.decode(s[None]) for s in real_alphabet.encode(b"The tide came in at 1947, quietly.")]
    assert pieces == [b"The", b" tide", b" came", b" in", b" at", b" ", b"1", b"9", b"4", b"7", b",", b" quietly", b"."]


def forgetful(alphabet: Alphabet, pattern: str) -> Alphabet:
    """The same tokenizer, but it drops whatever matches."""
    drop = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": False}
    stages = {"type": "Sequence", "pretokenizers": [drop, alphabet.spec.pre_tokenizer]}
    return Alphabet(replace(alphabet.spec, pre_tokenizer=stages))


def test_a_lost_place_costs_only_its_stretch(alphabet: Alphabet) -> None:
    """Not the whole text, which would become several times as many symbols."""
    lossy, text = forgetful(alphabet, "~"), b"the string of the thing and the other in the rain, " * 400
    assert np.array_equal(lossy.encode(text), alphabet.encode(text))
    for at in (0, 1, 7000, len(text)):
        damaged = text[:at] + b"~" + text[at:]
        symbols = lossy.encode(damaged)
        assert lossy.decode(symbols) == damaged
        assert len(symbols) <= len(alphabet.encode(damaged)) + 40


@given(st.text(alphabet="the rain~\u00e9\n", max_size=100))
@settings(max_examples=examples(100), deadline=None)
def test_whatever_a_tokenizer_loses_comes_back(alphabet: Alphabet, text: str) -> None:
    lossy = forgetful(alphabet, "[~\u00e9]")
    assert lossy.decode(lossy.encode(text.encode())) == text.encode()


def test_a_tokenizer_that_loses_everything(alphabet: Alphabet) -> None:
    lossy, text = forgetful(alphabet, "."), b"the rain in the other\n" * 20
    assert lossy.decode(lossy.encode(text)) == text
