"""Learning through the model: equal to its definition for models of all kinds, in the direction that helps, and the same however a block is fed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from llmzip.cli import main
from llmzip.cli.common import explain
from llmzip.coding.alphabet import Alphabet
from llmzip.coding.block_coder import BlockCoder
from llmzip.engine import build, definition, gemm, questions
from llmzip.engine.compiled import CompiledTransformer
from llmzip.engine.corrections import Corrections, signs
from llmzip.engine.tensor_cache import TensorCache
from llmzip.engine.transformer import Transformer
from llmzip.errors import InexactMachineError, NotEnoughMemoryError
from llmzip.learning import learner, probe, reference
from llmzip.learning.compiled import CompiledLearner
from llmzip.learning.reference import ReferenceLearner
from llmzip.models.convert import LARGEST, LARGEST_VECTOR, IntegerModel
from llmzip.parameters import (
    DOWN,
    GATE_UP,
    LEVELS,
    VALUES,
    AdapterParameters,
    AttentionSpan,
    BiasParameters,
    CorrectionParameters,
    NeighbourParameters,
)
from tests.support.codecs import TEXT, eager_codec

CPU = torch.device("cpu")
KINDS = dict(zip(("plain", "normed", "normed after", "biased"), definition.KINDS, strict=True))
CORRECTIONS = CorrectionParameters(rank=6, segment=48, rate=60, matrices=VALUES | GATE_UP | DOWN)
ADAPTER = AdapterParameters(32, BiasParameters(46, 3), NeighbourParameters(10, 86), CORRECTIONS)
SPAN = AttentionSpan(100)


def by_definition(model: IntegerModel) -> Transformer:
    return Transformer(model, gemm.KERNELS["float64"], CPU)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_compiled_code_equals_the_definition(kind: str) -> None:
    """Hidden states and corrections, over segments, with rows few and many a call, by one thread and several, with windows shorter than a segment."""
    model = questions.small_model(KINDS[kind])
    want = probe.answers(by_definition(model))
    assert want == probe.KNOWN[definition.KINDS.index(KINDS[kind])]
    for threads, calls in ((1, ((70,),) * 3), (2, ((70,), (1, 5, 64), (33, 37))), (3, ((1,) * 70, (70,), (69, 1)))):
        engine = CompiledTransformer(model, threads)
        assert isinstance(learner.make(engine, CORRECTIONS, engine.cache(1, SPAN, 9, 9), 1), CompiledLearner)
        assert probe.answers(engine, calls) == want


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_gradients_without_bounds_count_as_0(kind: str) -> None:
    """Scales and vectors as small and as large as they may be, in any order: sums of gradients overflow, and nothing that is learned does."""
    model, rng = questions.small_model(KINDS[kind]), np.random.RandomState(2)
    tensors: dict[str, Any] = {}
    for name, t in model.tensors.items():
        extremes = [1e-30, 1.0, LARGEST] if name.endswith(".scale") else [-LARGEST_VECTOR, 1e-30, LARGEST_VECTOR]
        tensors[name] = rng.choice(np.array(extremes, np.float32), t.shape) if t.dtype == np.float32 else t
    absurd = replace(model, tensors=tensors)
    absurd.check_scales()
    with np.errstate(over="raise", invalid="raise"), pytest.MonkeyPatch.context() as patch:
        limited, met = reference._limited, list[bool]()

        def noting(x: torch.Tensor) -> torch.Tensor:
            met.append(not bool((x.abs() <= 2.0**60).all()))
            return limited(x)

        patch.setattr(reference, "_limited", noting)
        want = probe.answers(by_definition(absurd))
    assert any(met) or kind == "plain"  # which has no vectors, and too few layers for it
    engine = CompiledTransformer(absurd, 2)
    assert probe.answers(engine) == want


def reversed_rows(dy: torch.Tensor, z: np.ndarray) -> Any:
    return _collect(dy.flip(0), z[::-1].copy())


_collect = reference._collect
ORDERS = {
    "_collect": reversed_rows,
    "ordered_sum": lambda x: x.sum(-1, keepdim=True),
}


@pytest.mark.parametrize("changed", ORDERS)
@pytest.mark.slow
def test_another_order_of_a_sum_is_noticed(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, changed, ORDERS[changed])
    probe.prove_definition.cache_clear()
    with pytest.raises(InexactMachineError, match="does not compute as it should"):
        probe.prove_definition()
    monkeypatch.undo()
    probe.prove_definition.cache_clear()
    probe.prove_definition()


@pytest.mark.slow
def test_inexact_compiled_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = CompiledTransformer(questions.small_model(KINDS["plain"]), 1)
    probe.prove(engine)
    monkeypatch.setattr(CompiledLearner, "step", lambda self, drawn, symbols: setattr(self.corrections, "at", 0))
    probe.prove(engine)  # it is proven
    with pytest.raises(InexactMachineError, match="learns is inexact"):
        probe.prove(CompiledTransformer(questions.small_model(KINDS["plain"]), 1))


def scales(model: IntegerModel) -> list[tuple[str, np.ndarray]]:
    """Of the outputs that corrections are added to, float32 [layers, 1, outputs]: gradients are by what these scales are still to be applied to."""
    matrices = {"values": ("qkv", model.config.kv_width), "gate_up": ("gate_up", 0), "down": ("down", 0)}
    return [
        (name, np.stack([model.tensors[f"{i}.{matrix}.scale"][None, -last:] for i in range(model.config.layers)]))
        for name, (matrix, last) in matrices.items()
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_lowers_the_cost_as_gradients_say(kind: str) -> None:
    """With a rate so small that the cost is straight, it falls by about the sum of gradients times changes."""
    model, n = questions.small_model(KINDS[kind]), 60
    rng = np.random.RandomState(1)
    tokens = rng.randint(0, 90, (1, n)).astype(np.int32)
    drawn, symbols = rng.randint(0, 90, (n, 4)).astype(np.int32), rng.randint(0, 90, n).astype(np.int32)
    engine = by_definition(model)
    parameters = CorrectionParameters(rank=8, segment=n, rate=255, matrices=7)
    cache = engine.cache(1, SPAN, n, n)
    mine = ReferenceLearner(model, Corrections(model.config, parameters, cache, 1), parameters)

    def cost(cache: TensorCache) -> float:
        logits = engine.logits(engine.advance(tokens, cache, mine.corrections)).astype(np.float64)
        rows = np.arange(n)
        return float((logits[rows[:, None], drawn].sum(axis=1) - 4 * logits[rows, symbols]).sum())

    before = cost(cache)
    gradients = mine.gradients(drawn, symbols)
    mine.step(drawn, symbols)
    foreseen = sum(
        float((gradients[name].astype(np.float64) * getattr(mine.corrections, name) * scale).sum()) for name, scale in scales(model)
    )
    found = cost(engine.cache(1, SPAN, n, n)) - before
    assert foreseen < 0
    assert 0.8 < found / foreseen < 1.25


@pytest.fixture(scope="module")
def symbols(tiny_model: IntegerModel) -> np.ndarray:
    return Alphabet(tiny_model.tokenizer).encode(TEXT[:700])


def coder(model: IntegerModel, adapter: AdapterParameters = ADAPTER, **options: Any) -> BlockCoder:
    built = build.build(model, "cpu", options.pop("threads", 1), options.pop("kernel", None))
    return BlockCoder(built, Alphabet(model.tokenizer).size, SPAN, adapter, threads=built.threads, **options)


@pytest.mark.parametrize("lanes", [1, 3, 60])
@pytest.mark.slow
def test_nothing_but_the_input_decides(tiny_model: IntegerModel, symbols: np.ndarray, lanes: int) -> None:
    """Lanes of which some end earlier; segments of one step, when lanes are more than its symbols."""
    stream = coder(tiny_model).encode(symbols, lanes)
    ways: list[dict[str, Any]] = [{"rows": 1}, {"rows": 7 * lanes}, {"threads": 2}, {"threads": 3, "rows": 500}, {"kernel": "torch"}]
    for options in ways:
        assert coder(tiny_model, **options).encode(symbols, lanes) == stream
    for guess in (False, True):
        assert np.array_equal(coder(tiny_model, threads=2, guess=guess).decode(stream, len(symbols), lanes), symbols)
    assert np.array_equal(coder(tiny_model, kernel="torch").decode(stream, len(symbols), lanes), symbols)


def test_it_pays_on_a_text_that_repeats(tiny_model: IntegerModel) -> None:
    text = Alphabet(tiny_model.tokenizer).encode(b"the keeper of the lighthouse wrote it down. " * 60)
    frozen = coder(tiny_model, AdapterParameters()).encode(text, 1)
    assert len(coder(tiny_model, AdapterParameters(corrections=replace(CORRECTIONS, rate=255))).encode(text, 1)) < 0.98 * len(frozen)


def test_matrices_that_are_left_out_stay(tiny_model: IntegerModel, symbols: np.ndarray) -> None:
    engine = CompiledTransformer(tiny_model, 1)
    for bit, name in ((VALUES, "values"), (GATE_UP, "gate_up"), (DOWN, "down")):
        cache = engine.cache(1, SPAN, 48, 48)
        mine = learner.make(engine, replace(CORRECTIONS, matrices=bit), cache, 1)
        engine.advance(np.ones((1, 48), np.int32), cache, mine.corrections)
        mine.step(np.full((48, 4), 3, np.int32), symbols[:48])
        assert [other for other in Corrections.LEARNED if getattr(mine.corrections, other).any()] == [name]
        assert not mine.corrections.at


def test_signs_are_fair_and_fixed() -> None:
    drawn = signs(16, 4096)
    assert np.abs(drawn.mean(axis=1)).max() < 0.06
    assert np.abs(drawn.astype(np.float64) @ drawn.T - 4096 * np.eye(16)).max() < 300
    assert signs(2, 8).tolist() == signs(2, 9)[:, :8].tolist()


def test_memory_is_checked(tiny_model: IntegerModel, symbols: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    made = coder(tiny_model)
    plain = coder(tiny_model, replace(ADAPTER, corrections=None))
    free = 1_600_000
    monkeypatch.setattr("llmzip.system.memory.available", lambda: free)
    plain.encode(symbols, 1)
    with pytest.raises(NotEnoughMemoryError):
        made.encode(symbols, 1)


def test_explain_says_what_corrections_gave(tiny_model: IntegerModel) -> None:
    made = eager_codec(tiny_model, adapter=ADAPTER, explain=True, threads=1)
    archive = made.compress(TEXT[:1500])
    plain = eager_codec(tiny_model, adapter=replace(ADAPTER, corrections=None), explain=True, threads=1)
    plain.compress(TEXT[:1500])
    ledger, other = made.ledger, plain.ledger
    assert ledger is not None
    assert other is not None
    assert ledger.frozen == other.frozen != ledger.corrected
    assert other.corrected == other.frozen
    assert abs(ledger.voted / 8 - ledger.stream) < 9
    assert "corrections of matrices" in explain.table(ledger)
    assert "corrections" not in explain.table(other)
    assert eager_codec(tiny_model, adapter=ADAPTER, threads=1).compress(TEXT[:1500]) == archive


def test_info_says_what_was_corrected(tiny_model: IntegerModel, tmp_path: Path) -> None:
    file = tmp_path / "a.llz"
    file.write_bytes(eager_codec(tiny_model, adapter=replace(ADAPTER, bias=None), threads=1).compress(TEXT[:300]))
    said = CliRunner().invoke(main, ["info", str(file)]).output
    assert "corrections of values, gate and up, down (rank 6, rate 60/1024); every 48 symbols" in said


def test_short_texts_learn_only_where_it_pays(tiny_model: IntegerModel) -> None:
    """Up to 4,096 symbols the encoder also tries the level without corrections, and never writes more than that takes."""
    text = TEXT[:400]
    archive = eager_codec(tiny_model, level=9, threads=1).compress(text)
    for adapter in LEVELS[9].adapter.subsets():
        assert len(archive) <= len(eager_codec(tiny_model, level=9, adapter=adapter, threads=1).compress(text))
    assert eager_codec(tiny_model, threads=1).decompress(archive) == text
