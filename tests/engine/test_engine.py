"""The exact engine: every kernel equals the reference bit for bit, and nothing but the input decides the bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from llmzip.engine import amx, buffers, build, gemm, reference
from llmzip.engine.cache import KVCache
from llmzip.engine.kernels import attention_tiles
from llmzip.engine.kernels.amx import WITH, WITHOUT
from llmzip.engine.kernels.logits import head_kernel
from llmzip.engine.kernels.packing import pack
from llmzip.engine.kernels.products import product, shared_product
from llmzip.engine.kernels.rows import i32, unit_rows
from llmzip.engine.questions import small_model
from llmzip.engine.reference import Added
from llmzip.engine.rope import rotation, turn_fractions, turn_table
from llmzip.engine.tensor_cache import TensorCache
from llmzip.engine.torch_ops import HeadScales, TorchOps, TurnTables
from llmzip.errors import InexactMachineError
from llmzip.models.config import ModelConfig
from llmzip.models.convert import IntegerModel
from llmzip.parameters import AttentionSpan
from tests.support import tiny
from tests.support.compiled_ops import NumbaOps

CPU = torch.device("cpu")
SMOL = ModelConfig(2, 576, 9, 3, 64, 1536, 49152, 100000.0, float(np.float32(1e-5)), 1)
SHAPES = [SMOL, tiny.config(), tiny.config(head_dim=32), ModelConfig(1, 48, 6, 2, 16, 112, 300, 1e4, float(np.float32(1e-6)), 0)]
NORMED = replace(
    SMOL, head_dim=256, heads=4, kv_heads=1, width=640, layer_windows=(0, 24), window_rope_base=100.0, head_norm="head", plain_stream=True,
    post_norm=True, activation="gelu_tanh",
)  # fmt: skip
BIASED = replace(tiny.config(head_dim=128), qkv_bias=True, spread_heads=True, plain_stream=True, unrotated_layers=(0,))
NORMED_AFTER = replace(tiny.config(), head_norm="all", plain_stream=True, pre_norm=False, post_norm=True, qkv_bias=True)
PARALLEL = replace(BIASED, activation="gelu_tanh", gated=False, biases=True, parallel=True)
ALL_BIASED = replace(NORMED, biases=True, parallel=True)
UNGATED = replace(tiny.config(head_dim=32), gated=False, biases=True)
FAMILIES = [NORMED, BIASED, NORMED_AFTER, PARALLEL, ALL_BIASED, UNGATED]


def same(a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]) -> bool:
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(a, b, strict=True))


class Random:
    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def acc(self, *shape: int) -> torch.Tensor:
        return torch.randint(-300000, 300000, shape, generator=self.generator, dtype=torch.int32)

    def scale(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.generator) * 1e-3 + 1e-6

    def gain(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator)


@pytest.mark.parametrize("c", SHAPES + FAMILIES)
@pytest.mark.parametrize("rows", [1, 37])
def test_numba_equals_reference(c: ModelConfig, rows: int) -> None:
    slow, fast, r = TorchOps(c), NumbaOps(c, 2), Random(rows)
    x = torch.randn(rows, c.width, generator=r.generator) * 3
    x[0] = 0.0

    def gain(wanted: bool, n: int = c.width) -> torch.Tensor | None:
        return r.gain(n) if wanted else None

    products = [Added(r.acc(rows, c.width), r.scale(c.width), r.scale(rows), gain(c.post_norm), gain(c.biases)) for _ in range(2)]
    products[1].acc[0] = 0
    for added in (None, *products):
        a, b = x.clone(), x.clone()
        read = gain(c.plain_stream and c.pre_norm)
        assert same(slow.add_norm_quantise(a, added, read, c.parallel), fast.add_norm_quantise(b, added, read, c.parallel))
        assert torch.equal(a, b)
        assert torch.isfinite(a).all()
    columns = len(c.ffn_parts) * c.ffn
    acc, col, row, bias = r.acc(rows, columns), r.scale(columns), r.scale(rows) * 10, gain(c.biases, columns)
    acc[0, : c.ffn] = 0
    assert same(slow.activate_rotate_quantise(acc, col, row, bias), fast.activate_rotate_quantise(acc, col, row, bias))


@pytest.mark.parametrize("d", [48, 640, 4096])
def test_units_of_states(d: int) -> None:
    q = torch.randint(-127, 128, (9, d), dtype=torch.int8, generator=torch.Generator().manual_seed(d))
    q[3] = 0
    q[4] = 127
    unit = np.empty(9, np.float32)
    unit_rows(q.numpy(), unit)
    assert np.array_equal(unit, reference.unit_scale(q).numpy())
    assert np.allclose(unit[[0, 4]] ** 2 * (q[[0, 4]].double() ** 2).mean(1).numpy(), 1)


NEAR = [replace(SMOL, local_heads=(1, 2), local_window=20), replace(tiny.config(), local_heads=(0,), local_window=7)]


GROUPS = [
    ModelConfig(1, 64, group * 2, 2, 32, 112, 300, 1e4, float(np.float32(1e-6)), 0) for group in (1, 2, 5)
]  # 4, 4 and 1 steps at once


SPANS = [(40, 4), (16, 0), (133, 3), (200, 4), (1, 1), (5, 16)]  # windows and sinks


@pytest.mark.parametrize("c", SHAPES + FAMILIES + NEAR + GROUPS)
@pytest.mark.parametrize(("window", "sinks"), SPANS)
@pytest.mark.slow
def test_attention_equals_reference(c: ModelConfig, window: int, sinks: int) -> None:
    attention_equals_reference(c, NumbaOps(c, 2), window, sinks)


TILED = [
    ModelConfig(1, 64, group * kv, kv, d, 64, 300, 1e4, float(np.float32(1e-6)), 0)
    for group, kv, d in ((1, 2, 64), (2, 1, 192), (5, 1, 128), (16, 2, 64))
]  # 16, 8, 3 and 1 steps at once


@pytest.mark.parametrize("c", [SMOL, NORMED, BIASED, NEAR[0], *TILED])
@pytest.mark.parametrize(("window", "sinks"), SPANS)
@pytest.mark.slow
def test_attention_by_tiles_equals_reference(c: ModelConfig, window: int, sinks: int) -> None:
    if not amx.usable():
        pytest.skip("needs a processor and a system with AMX")
    assert attention_tiles.fit(c.head_dim, c.heads // c.kv_heads)
    attention_equals_reference(c, NumbaOps(c, 2, WITH), window, sinks)


def attention_equals_reference(c: ModelConfig, fast: NumbaOps, window: int, sinks: int) -> None:
    """Streams in uneven chunks through slides of the buffer, two lanes and then one."""
    slow, r = TorchOps(c), Random(window)
    shape = (c, 2, AttentionSpan(window, sinks), 10_000, 16)
    caches = TensorCache(*shape, 0, CPU), KVCache(*shape)
    columns = c.query_width + 2 * c.kv_width
    gains = (r.gain(c.query_width), r.gain(c.kv_width)) if c.head_norm else (None, None)
    scales = HeadScales(r.scale(columns), r.gain(columns) if c.qkv_bias else None, *gains)
    done = 0
    for t in [3, 1, 16, 16, 5] * 16:
        lanes = 2 if done < 500 else 1
        slots = [cache.make_room(t) for cache in caches]
        assert np.array_equal(slots[0], slots[1])
        turns = TurnTables(*map(torch.from_numpy, caches[0].rotations(t)))
        acc, row = r.acc(lanes * t, c.query_width + 3 * c.kv_width), r.scale(lanes * t) * 100
        a = slow.attend(acc, scales, row, turns, caches[0], c.layers - 1, slots[0])
        b = fast.attend(acc, scales, row, turns, caches[1], c.layers - 1, slots[1])
        assert same(a, b)
        done += t
        for cache in caches:
            cache.position = done
    assert caches[0].offset[-1].all()
    for name in ("k", "v", "ks", "vs"):
        assert np.array_equal(getattr(caches[0], name).numpy(), getattr(caches[1], name))


def test_near_heads_forget(tiny_model: IntegerModel) -> None:
    """What lies beyond all windows but the near heads' no longer matters to them, and does to the others."""
    tokens = np.random.default_rng(7).integers(0, tiny.config().vocab, (1, 60)).astype(np.int32)
    changed = tokens.copy()
    changed[0, 20] += 1
    everywhere = tuple(range(tiny.config().layers * tiny.config().kv_heads))
    for near, differ in (((), True), (everywhere[:1], True), (everywhere, False)):
        model = replace(tiny_model, config=replace(tiny_model.config, local_heads=near, local_window=8))
        assert np.array_equal(stream(model, tokens, [50]), stream(model, tokens, [1], kernel="torch"))
        logits = [stream(model, t, [60])[0, 50:] for t in (tokens, changed)]
        assert np.array_equal(*logits) != differ  # type: ignore[arg-type]
        transformer = build.build(model, device="cpu")
        alike = [
            transformer.cache(1, AttentionSpan(40, 4, False), 60, 60).windows,
            transformer.cache(1, AttentionSpan(40, 4), 60, 60).windows,
        ]
        assert (alike[0] == 40).all()
        assert (alike[1] == 8).sum() == len(near)


def stream(model: IntegerModel, tokens: np.ndarray, steps: list[int], window: int = 40, **options: Any) -> np.ndarray:
    """Logits [lanes, t, vocab] of tokens [lanes, t] fed `steps` at a time."""
    transformer = build.build(model, device=options.pop("device", "cpu"), **options)
    lanes, t = tokens.shape
    cache = transformer.cache(lanes, AttentionSpan(window, 4), t, max(steps))
    out, at, i = [], 0, 0
    while at < t:
        n = min(steps[i % len(steps)], t - at)
        hidden = transformer.advance(tokens[:, at : at + n], cache)
        out.append(transformer.logits(hidden).reshape(lanes, n, -1))
        at, i = at + n, i + 1
    return np.concatenate(out, axis=1)


VARIANTS: list[dict[str, Any]] = [
    {"kernel": "int8"}, {"kernel": "float32"}, {"kernel": "float64"}, {"kernel": "torch"}, {"threads": 1}, {"threads": 2}, {"threads": 3},
]  # fmt: skip


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    return np.random.default_rng(5).integers(0, tiny.config().vocab, (3, 400)).astype(np.int32)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("steps", [[1], [7, 64, 1], [400]], ids=str)
@pytest.mark.slow
def test_nothing_but_the_input_decides(tiny_model: IntegerModel, tokens: np.ndarray, options: dict[str, Any], steps: list[int]) -> None:
    if options.get("kernel") in gemm.KERNELS and not gemm.is_exact(gemm.KERNELS[options["kernel"]], [(64, 64)], CPU):
        pytest.skip(f"{options['kernel']} products are not exact on this machine, and the probe refuses them")
    assert np.array_equal(stream(tiny_model, tokens, steps, **options), stream(tiny_model, tokens, [32]))


def test_lanes_do_not_see_each_other(tiny_model: IntegerModel, tokens: np.ndarray) -> None:
    together = stream(tiny_model, tokens, [50])
    for lane in range(3):
        assert np.array_equal(together[lane : lane + 1], stream(tiny_model, tokens[lane : lane + 1], [50]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kernel", [None, "int8", "float32", "float64"])
def test_cuda_equals_cpu(tiny_model: IntegerModel, tokens: np.ndarray, kernel: str | None) -> None:
    assert np.array_equal(stream(tiny_model, tokens, [33], device="cuda", kernel=kernel), stream(tiny_model, tokens, [33]))


def test_memory_is_constant(tiny_model: IntegerModel) -> None:
    transformer = build.build(tiny_model, device="cpu")
    sizes = {steps: transformer.cache(1, AttentionSpan(64, 4), steps, 16).k.size for steps in (5_000, 50_000_000)}
    assert sizes[5_000] == sizes[50_000_000]
    cache = transformer.cache(1, AttentionSpan(64, 4), 10**9, 16)
    cache.position = 10**12
    cache.offset[:] = 10**12  # far beyond what float positions could tell apart
    cache.position += 80
    first = transformer.advance(np.array([[5, 6, 7]], dtype=np.int32), cache)
    assert first.q.shape == (3, 64)


# --- the contract broken on purpose -------------------------------------------------------------------------------


def float_norm(total: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Any]:
    """An RMSNorm whose mean square is a float sum, taken in some order: what section 3 of the design forbids."""

    def add_norm_quantise(
        x: torch.Tensor, added: Added | None, gain: None, late: bool = False, note: object = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if added is not None:
            reference.add(x, added, 1e-5)
        q, _ = reference.quantise_rows(x)
        variance = total(x.square()) / x.shape[1] + 1e-5
        return q, x.abs().amax(1) / 127 * variance.rsqrt()

    return add_norm_quantise


def test_suite_notices_a_float_sum(tiny_model: IntegerModel, tokens: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines differ in the order of sums. With a float sum in the norm the comparison the suite makes fails."""

    def on_two_machines(orders: list[Callable[[torch.Tensor], torch.Tensor]] | None) -> None:
        logits = []
        for i in range(2):
            if orders:
                monkeypatch.setattr(TorchOps, "add_norm_quantise", staticmethod(float_norm(orders[i])))
            logits.append(stream(tiny_model, tokens, [50], kernel="torch"))
        assert np.array_equal(*logits)  # type: ignore[arg-type]

    on_two_machines(None)
    with pytest.raises(AssertionError):
        on_two_machines([lambda s: s.sum(1), lambda s: s.view(len(s), 2, -1).sum(2).sum(1)])


def test_probe_refuses_inexact_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    class Saturating:
        """What int8 products without VNNI do: operands shifted to unsigned, pairs of products added in int16."""

        name = "saturating"

        def prepare(self, w: torch.Tensor) -> torch.Tensor:
            return w

        def multiply(self, q: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            pairs = ((q.int()[:, None] + 128) * w.int()).unflatten(2, (-1, 2)).sum(3).clamp(-32768, 32767)  # type: ignore[no-untyped-call]
            return (pairs.sum(2) - 128 * w.int().sum(1)).int()  # type: ignore[no-any-return]

    class Rounded(gemm.FloatGemm):
        """A float product that keeps too few bits."""

        def multiply(self, q: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            return (q.bfloat16() @ w.T.bfloat16()).int()

    bad = {"saturating": Saturating(), "rounded": Rounded("rounded", torch.float32, 24)}
    for kernel in bad.values():
        assert not gemm.is_exact(kernel, [(64, 576)], CPU)  # type: ignore[arg-type]
    monkeypatch.setattr(gemm, "KERNELS", {**bad, "float64": gemm.KERNELS["float64"]})
    assert gemm.choose([(64, 576)], CPU).name == "float64"
    monkeypatch.setattr(gemm, "KERNELS", bad)
    with pytest.raises(InexactMachineError, match="saturating, rounded"):
        gemm.choose([(64, 576)], CPU)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 12, 15, 40])
@pytest.mark.parametrize("shape", [(32, 4), (5, 8), (97, 64), (1152, 576), (576, 1536)])
def test_compiled_products(rows: int, shape: tuple[int, int]) -> None:
    r = np.random.default_rng(rows)
    q, w = r.integers(-128, 128, (rows, shape[1])).astype(np.int8), r.integers(-128, 128, shape).astype(np.int8)
    q[0], w[0], w[1] = -128, -128, 127
    expected = q.astype(np.int64) @ w.astype(np.int64).T
    for multiply in (product, lambda *args: shared_product(*args, 2)):
        out = np.empty((rows, shape[0] + 47), i32)
        multiply(WITHOUT, q, pack(w), out)
        assert np.array_equal(out[:, : shape[0]], expected)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("rows", "vocab", "width", "begin"),
    [(1, 90, 64, 0), (7, 1000, 576, 1), (40, 31, 64, 0), (129, 66000, 64, 0), (129, 66000, 64, 1), (129, 66001, 64, 0)],
)
def test_compiled_head(rows: int, vocab: int, width: int, begin: int, threads: int) -> None:
    """Also so many logits that they are written past the caches, which needs them to begin at cache lines."""
    r = np.random.default_rng(rows)
    q, w = r.integers(-127, 128, (rows, width)).astype(np.int8), r.integers(-127, 128, (vocab, width)).astype(np.int8)
    col, row = (r.random(n, np.float32) * np.float32(1e-3) for n in (vocab, rows))
    acc = gemm.KERNELS["float64"].multiply(torch.from_numpy(q), gemm.KERNELS["float64"].prepare(torch.from_numpy(w)))
    expected = reference.scale_logits(acc, torch.from_numpy(col), torch.from_numpy(row)).numpy()
    out = buffers.empty(rows * vocab + begin, np.float32)[begin:].reshape(rows, vocab)
    out[:] = np.nan
    head_kernel(WITHOUT, q, row, pack(w), col, out, threads)
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("c", [SMOL, PARALLEL, ALL_BIASED, UNGATED], ids=["llama", "parallel", "all biased", "ungated"])
@pytest.mark.parametrize("rows", [1, 3, 40, 300])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.slow
def test_compiled_layers_equal_the_reference(rows: int, threads: int, c: ModelConfig) -> None:
    model = small_model(c)
    tokens = np.random.default_rng(3).integers(0, model.config.vocab, (1, 600)).astype(np.int32)
    compiled = stream(model, tokens, [rows], threads=threads)
    assert np.array_equal(compiled, stream(model, tokens, [100], kernel="float64"))


@pytest.mark.parametrize("k", [64, 1040, 1041, 1536, 5000])
def test_float_kernels_split_long_rows(k: int) -> None:
    q, w = torch.full((3, k), 127, dtype=torch.int8), torch.full((5, k), -127, dtype=torch.int8)
    kernel = gemm.KERNELS["float32"]
    assert kernel.multiply(q, kernel.prepare(w)).unique().tolist() == [-127 * 127 * k]  # type: ignore[no-untyped-call]


def test_rotation_table() -> None:
    table = turn_table()
    assert table[[0, 2048, 4096, 8192, 12288]].tolist() == [32768, 23170, 0, -32768, 0]
    assert abs(int(turn_fractions(100000.0, 64)[0]) / 2**64 - 0.15915494309189535) < 1e-15
    p = np.array([0, 1, 1000, 123_456_789])
    got = rotation(p, 100000.0, 64).astype(np.float64)
    angle = (p[:, None] * 100000.0 ** (-np.arange(32) / 32)) % (2 * np.pi)
    assert np.abs(got[:, 0] - np.cos(angle)).max() < 3e-4
    assert np.abs(got[:, 1] - np.sin(angle)).max() < 3e-4
