"""The range coder: exact inverse, literal bytes, cost near the ideal."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llmzip.entropy.compiled_range_coder import CompiledRangeDecoder, CompiledRangeEncoder
from llmzip.entropy.frequencies import TOTAL_BITS
from llmzip.entropy.range_coder import RangeDecoder, RangeEncoder
from tests.support.profiles import examples

TOTAL = 1 << TOTAL_BITS


def arrays(step: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    start, freq = (np.array([s[i] for s in step], dtype=np.int64) for i in (0, 1))
    return start, freq


def encode(steps: list[list[tuple[int, int]]], lanes: int) -> bytes:
    """By the definition and compiled, a step a call and several; all give the same bits."""
    encoders = RangeEncoder(lanes), CompiledRangeEncoder(lanes), CompiledRangeEncoder(lanes)
    for step in steps:
        for encoder in encoders[:2]:
            encoder.encode(*arrays(step))
    at = 0
    while at < len(steps):
        n = next((i for i in range(at, len(steps)) if len(steps[i]) != len(steps[at])), len(steps)) - at
        n = min(n, 3)
        together = [np.stack(x) for x in zip(*map(arrays, steps[at : at + n]), strict=True)]
        encoders[2].encode_steps(*together)
        at += n
    stream, *others = (encoder.finish() for encoder in encoders)
    assert others == [stream, stream]
    return stream


def check_decodes(steps: list[list[tuple[int, int]]], lanes: int, stream: bytes) -> None:
    for decoder in (RangeDecoder(lanes, stream), CompiledRangeDecoder(lanes, stream)):
        for step in steps:
            start, freq = arrays(step)
            targets = decoder.targets(len(step))
            assert (start <= targets).all()
            assert (targets < start + freq).all()
            decoder.advance(start, freq)
            assert (decoder.range >= 1 << 31).all()
            assert (decoder.range < 1 << 32).all()


@st.composite
def interval(draw: st.DrawFn) -> tuple[int, int]:
    freq = draw(st.sampled_from([1, 2, 3, 255, TOTAL // 2, TOTAL - 1]) | st.integers(1, TOTAL - 1))
    start = draw(st.sampled_from([0, TOTAL - freq]) | st.integers(0, TOTAL - freq))
    return start, freq


@given(st.integers(1, 5).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.lists(interval(), min_size=n, max_size=n), max_size=40))))
@settings(max_examples=examples(200), deadline=None)
def test_round_trip_and_cost(case: tuple[int, list[list[tuple[int, int]]]]) -> None:
    lanes, steps = case
    stream = encode(steps, lanes)
    check_decodes(steps, lanes, stream)
    ideal = sum(TOTAL_BITS - np.log2(f) for step in steps for _, f in step)
    # Rounding of a range of at least 2^31 costs a symbol of frequency 1 at most log2(8 / 7) bits; a lane ends in 32.
    assert 8 * len(stream) <= ideal + 0.2 * lanes * len(steps) + 32 * lanes + 8


def test_last_step_may_have_fewer_lanes() -> None:
    steps = [[(5, 10), (0, 1), (7, 9)], [(TOTAL - 1, 1), (3, 3)]]
    check_decodes(steps, 3, encode(steps, 3))


def test_carry_runs_through_many_steps() -> None:
    nearly_all = [(1, TOTAL - 1)]
    steps = [[(TOTAL // 2 - 1, 1)], *[nearly_all] * 50, [(TOTAL - 1, 1)], *[nearly_all] * 5]
    check_decodes(steps, 1, encode(steps, 1))


def test_literal_bytes() -> None:
    steps = [[(0, TOTAL // 2), (TOTAL // 4, TOTAL // 4)], [(TOTAL // 2, TOTAL // 2), (12345678, 1)], [(100, 1000), (0, TOTAL)]]
    assert encode(steps, 2).hex() == "4000080042f18538"


def test_empty_stream_is_empty() -> None:
    assert encode([], 3) == b""


@given(st.binary(max_size=64), st.integers(1, 4))
def test_any_bytes_decode_to_something(stream: bytes, lanes: int) -> None:
    decoders = RangeDecoder(lanes, stream), CompiledRangeDecoder(lanes, stream)
    for _ in range(20):
        targets, same = (decoder.targets(lanes) for decoder in decoders)
        assert np.array_equal(targets, same)
        assert ((targets >= 0) & (targets < TOTAL)).all()
        for decoder in decoders:
            decoder.advance(targets, np.ones(lanes, dtype=np.int64))
