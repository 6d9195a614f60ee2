"""Messages: short, exact, and never wrong without saying so."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmzip.entropy import frequencies
from llmzip.errors import DamagedMessageError, ParameterError
from llmzip.message import message_codec, text_forms
from llmzip.message.interval import LENGTHS, Interval
from llmzip.message.message_codec import MAX_SYMBOLS, MessageCodec, check_byte
from llmzip.models.convert import IntegerModel
from llmzip.parameters import AttentionSpan
from tests.support.codecs import ROOT, fixed_codec
from tests.support.profiles import examples

TEXTS = [
    b"", b"a", b"the thing and the other", "Grüße aus Köln 🙂".encode(), b"\xff\xfe raw \x00 bytes", b"line one\nline two\r\n", b" ", b"<|im_start|>",
    b"the " * 60,
]  # fmt: skip


def with_model(model: IntegerModel) -> MessageCodec:
    return MessageCodec(models=fixed_codec(model).blocks.models)


@pytest.fixture(scope="module")
def codec(tiny_model: IntegerModel) -> MessageCodec:
    return with_model(tiny_model)


@pytest.fixture(scope="module")
def real() -> Iterator[MessageCodec]:
    yield MessageCodec()


def test_round_trip(codec: MessageCodec) -> None:
    made = codec.encode(TEXTS)
    assert codec.decode(made) == TEXTS
    for text, bits, m in zip(TEXTS, codec.bits(TEXTS), made, strict=True):
        assert len(m) <= bits / 8 + 3, text


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.binary(max_size=40) | st.text(max_size=40).map(str.encode), min_size=1, max_size=5))
def test_round_trip_of_anything(codec: MessageCodec, texts: list[bytes]) -> None:
    assert codec.decode(codec.encode(texts)) == texts


def test_company_does_not_matter(codec: MessageCodec) -> None:
    """A message is the same alone and among others, more than are worked on together."""
    many = [b"message number %d, and the thing" % i for i in range(message_codec.LANES + 3)]
    made = codec.encode(many)
    assert made == [codec.encode([text])[0] for text in many]
    assert codec.decode([made[5], b"", made[7][:-1], made[7]])[0::3] == [many[5], many[7]]


def test_too_long(codec: MessageCodec) -> None:
    with pytest.raises(ParameterError, match="llmzip compress"):
        codec.encode([b"\x04" * (MAX_SYMBOLS + 1)])


def test_decoder_by_the_document(codec: MessageCodec) -> None:
    """The decoder of docs/message.md, word for word and with fractions, one symbol at a time."""
    loaded = codec._models.own()
    config, alphabet = loaded.transformer.config, loaded.alphabet
    stated = re.findall(r"```text\n(.*?)```", (ROOT / "docs" / "message.md").read_text("utf-8"), re.S)
    assert stated == [message_codec.OPENING]

    def decode(data: bytes) -> bytes:
        body, symbols = data[1:], list[int]()
        b, length = int.from_bytes(body, "big"), len(body)
        low, r, p = 0, (1 << 32) - 1, 0
        opening = [config.bos, *alphabet.encode(stated[0].encode()).tolist()]
        while True:
            u = -((1 - p) // 8)
            scale = Fraction(2) ** (32 + p - 8 * length)
            if u <= length <= u + 3 and 8 * length <= 32 + p and low <= b * scale < low + r and (b - 1) * scale < low:
                text = alphabet.decode(np.array(symbols, np.int32))
                if check_byte(loaded, text) == data[:1]:
                    return text
            assert length >= u
            fed = np.array([[s if s < config.vocab else config.bos for s in opening + symbols]], np.int32)
            cache = loaded.transformer.cache(1, AttentionSpan(1280, 4), fed.shape[1], fed.shape[1])
            hidden = loaded.transformer.advance(fed, cache)
            logits = loaded.transformer.logits(hidden.at(np.array([fed.shape[1] - 1])))
            f = frequencies.frequencies(logits, np.zeros(config.vocab, np.float32), frequencies.no_votes(1), alphabet.size)
            d = int(b * scale // 1) - low
            target = min(((d + 1) * 2**28 - 1) // r, 2**28 - 1)
            s = int(frequencies.find_reference(f, np.array([target]))[0])
            start, freq = (int(x[0]) for x in frequencies.intervals_reference(f, np.array([s])))
            symbols.append(s)
            below = r * start // 2**28
            width = r * (start + freq) // 2**28 - below
            m = 32 - width.bit_length()
            low, r, p = (low + below) << m, width << m, p + m

    for text in (b"the thing", b"\xff!", b""):
        assert decode(codec.encode([text])[0]) == text


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**28 - 1), st.integers(1, 2**28)), max_size=12))
def test_numbers_lie_inside(symbols: list[tuple[int, int]]) -> None:
    interval, size = Interval(), Fraction(1)
    for start, freq in symbols:
        freq = min(freq, 2**28 - start)
        interval.narrow(start, freq)
        size *= Fraction(freq, 2**28)
    assert 1 << 31 <= interval.range < 1 << 32
    unit = Fraction(1, 1 << (32 + interval.shift))
    assert abs(interval.range * unit / size - 1) < Fraction(len(symbols) + 1, 2**3)
    assert interval.number(interval.least_length() + 1) is not None
    for more in LENGTHS:
        body = interval.number(interval.least_length() + more)
        if body is not None:
            x = Fraction(int.from_bytes(body, "big"), 1 << (8 * len(body)))
            assert interval.low * unit <= x < (interval.low + interval.range) * unit
            assert interval.ends(body)
            assert not interval.past(body)


def test_a_false_end_is_avoided(codec: MessageCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """If every check fits, a reader stops at the first place where a message may end; the writer must see to that."""
    monkeypatch.setattr(message_codec, "check_byte", lambda loaded, text: b"x")
    written = 0
    for text in [b"the " * n for n in range(1, 30)]:
        try:
            made = codec.encode([text])
        except ParameterError:
            continue
        written += 1
        assert codec.decode(made) == [text]
    assert written > 10


def test_other_model_or_damage(codec: MessageCodec, tiny_model: IntegerModel) -> None:
    """Each is noticed but for once in some hundred times."""
    rng = random.Random(3)
    texts = [bytes(rng.choice(b"the cat and dog\n") for _ in range(rng.randrange(5, 30))) for _ in range(64)]
    made = codec.encode(texts)
    other = with_model(replace(tiny_model, config=replace(tiny_model.config, opening=(5, 9))))
    assert sum(isinstance(text, bytes) for text in other.decode(made)) <= 3
    flipped = [m[:-1] + bytes([m[-1] ^ (1 << rng.randrange(8))]) for m in made]
    assert sum(isinstance(text, bytes) for text in codec.decode(flipped)) <= 3
    cut = codec.decode([m[: rng.randrange(len(m))] for m in made])
    assert sum(isinstance(text, bytes) for text in cut) <= 3
    assert {type(text) for text in cut} <= {bytes, DamagedMessageError}


@pytest.mark.slow
def test_real_messages(real: MessageCodec) -> None:
    texts = (ROOT / "examples" / "messages.txt").read_bytes().splitlines()
    assert len(texts) == 20
    assert all(20 <= len(text) <= 300 for text in texts)
    made = real.encode(texts)
    assert real.decode(made) == texts
    assert max(len(m) - bits / 8 for m, bits in zip(made, real.bits(texts), strict=True)) <= 3
    assert sum(map(len, made)) < 0.2 * sum(map(len, texts))


@pytest.mark.parametrize("form", text_forms.TEXT_FORMS)
@given(st.binary(max_size=30))
def test_text_forms(form: str, data: bytes) -> None:
    text = text_forms.write(data, form)
    assert text_forms.read(text, form) == data
    assert text_forms.read(f" {text[:3]}\n{text[3:]} ", form) == data
    assert not set(text) & set("=+/ ")
    if form == "base32":
        assert text_forms.read("-".join(text.lower()), form) == data
    if form == "hex":
        assert text_forms.read(text.upper(), form) == data


@pytest.mark.parametrize(
    ("form", "text"),
    [("base64url", "Zh"), ("base64url", "a"), ("base64url", "Zg=="), ("base64url", "Z!"), ("base64url", "é"), ("base32", "M1"), ("base32", "MZ"),
     ("base32", "A"), ("hex", "0"), ("hex", "0g")],
)  # fmt: skip
def test_text_that_is_no_form(form: str, text: str) -> None:
    with pytest.raises(DamagedMessageError):
        text_forms.read(text, form)
