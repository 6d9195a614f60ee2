"""What learns while coding: equal to its definition, the same for any division of work, and worth what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmzip.adapter import neighbours as nb
from llmzip.adapter import probe, reference
from llmzip.adapter.adapter import Adapter, Sizes, steps_a_round
from llmzip.adapter.bias import VocabularyBias
from llmzip.adapter.kernels.neighbours import MASS_BITS
from llmzip.adapter.probe import prove, rows
from llmzip.adapter.reference import ReferenceAdapter
from llmzip.engine.hidden import Hidden
from llmzip.entropy.frequencies import TOTAL_BITS, no_votes
from llmzip.errors import InexactMachineError
from llmzip.models.convert import IntegerModel
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.parameters import FROZEN, LEVELS, AdapterParameters, BiasParameters, NeighbourParameters
from tests.support.codecs import TEXT, fixed_codec
from tests.support.profiles import examples

BIAS, NEIGHBOURS = BiasParameters(46, 3), NeighbourParameters(5, 86)
PARTS = {
    "both": AdapterParameters(24, BIAS, NEIGHBOURS),
    "bias": AdapterParameters(24, BIAS, None),
    "neighbours": AdapterParameters(24, None, NEIGHBOURS),
    "neither": FROZEN,
    "extremes": AdapterParameters(1, BiasParameters(255, 1), NeighbourParameters(4, 255)),
}


def play(adapter: Adapter | ReferenceAdapter, sizes: Sizes, steps: int, call: int, seed: int = 1) -> list[np.ndarray]:
    """Codes `steps` steps of random rows, at most `call` at a time, with updates where rounds end."""
    rng = np.random.RandomState(seed)
    logits, state = rows(rng, sizes, steps * sizes.lanes)
    coded = np.where(rng.random_sample(len(logits)) < 0.8, rng.randint(0, 9, len(logits)), rng.randint(0, sizes.symbols, len(logits)))
    out, step = [], 0
    while step < steps:
        n = min(call, adapter.steps - step % adapter.steps, steps - step)
        at = slice(step * sizes.lanes, (step + n) * sizes.lanes)
        some = state.at(at)
        out += [np.stack(adapter.intervals(logits[at], some, coded[at].astype(np.int32)), axis=1)]
        step += n
        if step % adapter.steps == 0:
            adapter.update()
    return [np.concatenate(out)]


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize(("lanes", "steps"), [(1, 150), (3, 60), (70, 5)])
@pytest.mark.slow
def test_equals_the_definition(name: str, lanes: int, steps: int) -> None:
    """Any threads, any number of steps a call, more rows than are worked on at once, neighbours that give way to others."""
    sizes = Sizes(vocab=300, symbols=556, width=64, lanes=lanes, total=lanes * steps)
    want = play(ReferenceAdapter(PARTS[name], sizes), sizes, steps, 1)
    for threads, call in ((1, 1), (2, 1), (3, 7), (2, 1000)):
        assert np.array_equal(play(Adapter(PARTS[name], sizes, threads), sizes, steps, call), want)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.slow
def test_decoder_follows(name: str) -> None:
    sizes = Sizes(vocab=300, symbols=556, width=32, lanes=4, total=400)
    rng = np.random.RandomState(2)
    encoder, decoder = Adapter(PARTS[name], sizes, 2), Adapter(PARTS[name], sizes, 1)
    for step in range(100):
        logits, state = rows(rng, sizes, 4)
        coded = rng.randint(0, 556 if step % 3 else 20, 4).astype(np.int32)
        start, freq = encoder.intervals(logits, state, coded)
        assert (freq >= 1).all()
        found, low, width = decoder.find(logits, state, start + freq - 1)
        assert np.array_equal(found, coded)
        assert np.array_equal((low, width), (start, freq))
        if (step + 1) % encoder.steps == 0:
            encoder.update()
            decoder.update()


def test_lanes_are_learned_from_in_order() -> None:
    """With room for fewer than a round, the last lanes' states stay; in another order others would."""
    sizes = Sizes(vocab=300, symbols=556, width=64, lanes=20, total=400)
    p = AdapterParameters(20, None, NeighbourParameters(4, 86))
    rng = np.random.RandomState(4)
    logits, state = rows(rng, sizes, 20)
    coded = np.arange(20, dtype=np.int32)
    results = []
    for order in (np.arange(20), np.arange(20)[::-1].copy()):
        adapter = Adapter(p, sizes)
        adapter.intervals(logits[order], state.at(order), coded[order])
        adapter.update()
        assert adapter.neighbours
        votes = adapter.neighbours.predict(state)
        results.append({int(s) for i in range(20) for s in votes.symbols[i, : votes.counts[i]]})
    assert results[0] <= set(range(4, 20))
    assert results[1] <= set(range(16))
    assert results[0] != results[1]


def test_bias_goes_to_what_comes() -> None:
    bias = VocabularyBias(BIAS, 8, rows=4, threads=1)
    assert bias.shift == 0
    for _ in range(30):
        gradients = bias.gradients(4)
        gradients.expected[0] += np.int32(4 * (1 << TOTAL_BITS) // 8)  # what a flat prediction expects of four rows
        bias.note(np.array([3, 3, 3, 8], np.int32))  # 8 is a raw byte
        bias.update()
        assert not bias.expected.any()
    assert bias.values[3] > 2
    assert (np.delete(bias.values, 3) < -1).all()


def test_literal_values_of_a_bias() -> None:
    """One round of one row: a token given 3/4 that came, and one given 1/4 that did not."""
    bias = VocabularyBias(BiasParameters(32, 3), 2, rows=1, threads=1)
    bias.gradients(1).expected[0] = [3 << 26, 1 << 26]
    bias.note(np.array([0], np.int32))
    bias.update()
    assert bias.values.tolist() == [np.float32(0.5) / np.float32(3.25), np.float32(-0.5) / np.float32(3.25)]


@given(st.integers(1, 1 << 13))
def test_gradients_fit(count: int) -> None:
    bias = VocabularyBias(BIAS, 4, rows=count, threads=1)
    assert count * ((1 << TOTAL_BITS) - 256 >> bias.shift) < 1 << 31
    assert count << (TOTAL_BITS - bias.shift) <= 1 << 31


def test_shares_learn_and_stay_in_bounds() -> None:
    shares = nb.Shares()
    bucket, first = np.array([5]), shares.odds(np.array([5]))
    for _ in range(3000):
        shares.update(bucket, np.array([0]), np.array([1 << 50]))
    assert shares.odds(bucket)[0] > 100 > first[0]
    assert shares.odds(np.array([4])) == first
    for _ in range(100_000):
        shares.update(bucket, np.array([1 << 30]), np.array([0]))
        if shares.odds(bucket)[0] < first[0]:
            break
    assert 0 < shares.odds(bucket)[0] < first[0]


def test_no_votes_before_anything_is_known() -> None:
    n = nb.Neighbours(NEIGHBOURS, 16, 300, total=100, rows=4, threads=1)
    state = Hidden(np.ones((3, 16), np.int8), np.ones(3, np.float32), np.ones(3, np.float32))
    assert n.predict(state).counts.tolist() == no_votes(3).counts.tolist()


@given(st.integers(1, 5000), st.integers(1, 5000))
@settings(max_examples=examples(30))
def test_rounds_have_at_least_a_step(symbols: int, lanes: int) -> None:
    assert steps_a_round(AdapterParameters(symbols), lanes) == max(1, symbols // lanes)


def test_the_definition_gives_the_known_answers() -> None:
    """Compiled code is only compared with those."""
    assert probe._answers(1, compiled=False) == probe._KNOWN_ANSWERS


def _never_learns(_: Adapter) -> None:
    pass


def _finds_another(adapter: Adapter, *arguments: Any) -> Any:
    symbols, *interval = _exact_find(adapter, *arguments)
    symbols[-1] ^= 1
    return symbols, *interval


_exact_find = Adapter.find


@pytest.mark.parametrize(("name", "wrong"), [("update", _never_learns), ("find", _finds_another)])
def test_a_wrong_operation_is_noticed(name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof can fail, and says whether it is compiled code that is wrong."""
    prove.cache_clear()
    try:
        monkeypatch.setattr(Adapter, name, wrong)
        with pytest.raises(InexactMachineError, match="compiled code of the adapter is inexact"):
            prove(2)
        monkeypatch.setattr(reference, "MASS_BITS", MASS_BITS - 1)  # another mass for the nearest state
        with pytest.raises(InexactMachineError, match="numpy does not compute as it should"):
            prove(2)
    finally:
        prove.cache_clear()


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("lanes", [1, 2, 40])
@pytest.mark.slow
def test_blocks_come_back(tiny_model: IntegerModel, name: str, lanes: int) -> None:
    codec = fixed_codec(tiny_model, lanes=lanes, adapter=PARTS[name])
    loaded = codec.blocks.models.own()
    symbols = loaded.alphabet.encode(TEXT[:2500] + b"\xff\xfe")
    coder = loaded.coder(loaded.record(codec.options.level_settings()))
    stream = coder.encode(symbols, lanes)
    assert (coder.decode(stream, len(symbols), lanes) == symbols).all()
    assert coder.encode(symbols, lanes) == stream  # every block starts afresh


@pytest.mark.slow
def test_parts_and_chunks(tiny_model: IntegerModel) -> None:
    """Rows fed at once do not matter, rounds or not; parts do."""
    streams = {}
    for name, parameters in PARTS.items():
        made = []
        for rows_at_once in (1, 77, 600):
            codec = fixed_codec(tiny_model, lanes=3, adapter=parameters, rows=rows_at_once)
            loaded = codec.blocks.models.own()
            symbols = loaded.alphabet.encode(TEXT[:2500])
            made.append(loaded.coder(loaded.record(codec.options.level_settings())).encode(symbols, 3))
        assert made[0] == made[1] == made[2]
        streams[name] = made[0]
    assert len(set(streams.values())) == len(PARTS)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.slow
def test_every_level_comes_back(tiny_model: IntegerModel, level: int) -> None:
    codec = fixed_codec(tiny_model, level=level)
    loaded = codec.blocks.models.own()
    record = loaded.record(codec.options.level_settings())
    assert (record.span, record.adapter) == (LEVELS[level].span, LEVELS[level].adapter)
    assert fixed_codec(tiny_model).decompress(codec.compress(TEXT)) == TEXT


@pytest.mark.slow
def test_learning_pays(real_model: IntegerModel) -> None:
    """On the real model, each part takes something off even a text of some 3,700 symbols."""
    codec = fixed_codec(real_model, DEFAULT_MODEL, explain=True)
    archive = codec.compress(TEXT)
    ledger = codec.ledger
    assert ledger
    assert ledger.voted < ledger.biased < ledger.frozen
    assert abs(8 * ledger.stream - ledger.voted) < 64  # the account is of what was written
    assert ledger.archive == len(archive)
