"""Products by AMX: what they compute, and that no process of llmzip meets an instruction that was not proven in another one."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from llmzip.engine import amx, build
from llmzip.engine.compiled import CompiledTransformer
from llmzip.engine.kernels import amx as kernels
from llmzip.engine.kernels import amx_proof, products
from llmzip.engine.kernels.logits import head_kernel
from llmzip.engine.kernels.packing import OUTPUTS, pack
from llmzip.errors import ModelUnavailableError
from llmzip.models import notes
from llmzip.models.convert import IntegerModel
from llmzip.system import amx as system
from llmzip.system import jit_cache

LINUX = sys.platform == "linux" and platform.machine() == "x86_64"
FEATURES = "+64bit,+avx512vnni,+amx-int8,+amx-tile,-amx-bf16"
MANY_ROWS = [1, 5, 6, 7, 15, 16, 17, 20, 31, 32, 33, 40, 47, 48, 49, 63, 64, 65, 100]


def say(text: str) -> str:
    return f"print({text!r})"


def unasked() -> str:
    raise AssertionError("a process was started")


@pytest.fixture
def announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A machine that says it has AMX, with an empty cache."""
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path))
    monkeypatch.delenv("LLMZIP_AMX", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(amx, "_processor", lambda: ("x86_64-unknown-linux-gnu", "sapphirerapids", FEATURES))
    monkeypatch.setattr(system, "permitted", lambda: True)
    forget()
    yield monkeypatch
    forget()


def forget() -> None:
    amx._proven.cache_clear()


def known() -> list[str]:
    return [notes.read("proofs", name)["answer"] for name in notes.names("proofs")]


def test_off_or_absent(announced: pytest.MonkeyPatch) -> None:
    announced.setattr(amx, "_answer", unasked)
    announced.setenv("LLMZIP_AMX", "0")
    assert not amx.usable()
    announced.delenv("LLMZIP_AMX")
    for missing in ("+amx-int8", "+amx-tile"):
        features = FEATURES.replace(missing, f"-{missing[1:]}")
        announced.setattr(amx, "_processor", lambda features=features: ("", "", features))
        assert not amx.usable()
    announced.setattr(amx, "_processor", lambda: ("", "", FEATURES))
    announced.setattr(sys, "platform", "darwin")
    assert not amx.usable()


@pytest.mark.parametrize(
    ("answer", "kept"),
    [("exact", True), ("wrong", True), ("refused", True), ("", False), ("nonsense", False), ("a start says\nexact", True)],
)
def test_answers(announced: pytest.MonkeyPatch, answer: str, kept: bool) -> None:
    announced.setattr(amx, "_PROGRAM", say(answer))
    right = answer.endswith("exact")
    assert amx.usable() is right
    assert known() == answer.split()[-1:] * kept
    forget()
    announced.setattr(amx, "_PROGRAM", say("exact"))
    assert amx.usable() is (right or not kept)


def test_other_versions_are_asked_again(announced: pytest.MonkeyPatch) -> None:
    announced.setattr(amx, "_PROGRAM", say("exact"))
    assert amx.usable()
    forget()
    announced.setattr(amx, "_answer", unasked)
    assert amx.usable()
    changes: list[tuple[Any, str, Any]] = [
        (amx, "_processor", lambda: ("", "graniterapids", FEATURES)),
        (numba, "__version__", "0"),
        (platform, "release", lambda: "0"),
        (jit_cache, "digest_of", lambda _: "0"),
        (jit_cache, "digest_of", lambda _: None),
    ]
    for change in changes:
        announced.setattr(*change)
        forget()
        with pytest.raises(AssertionError, match="was started"):
            amx.usable()


def test_permission_is_asked_for_again(announced: pytest.MonkeyPatch) -> None:
    announced.setattr(amx, "_PROGRAM", say("exact"))
    announced.setattr(system, "permitted", lambda: False)
    assert not amx.usable()
    assert known() == ["exact"]


def test_process_that_fails(announced: pytest.MonkeyPatch) -> None:
    """Its end by another cause than the instructions says nothing about them."""
    for program in ("raise MemoryError", "import os, signal; print('exact', flush=True); os.kill(os.getpid(), signal.SIGKILL)"):
        announced.setattr(amx, "_PROGRAM", program)
        assert not amx.usable()
        forget()
    announced.setattr(amx, "_SECONDS", 0.1)
    announced.setattr(amx, "_PROGRAM", "import time; time.sleep(60)")
    assert not amx.usable()
    forget()
    announced.setattr(sys, "executable", "/usr/bin/web-server")
    assert not amx.usable()
    forget()
    announced.setattr(sys, "executable", "/nowhere/python")
    assert not amx.usable()
    assert not known()


def test_no_cache(announced: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise ModelUnavailableError("no home")

    announced.setattr("llmzip.models.store.cache_dir", missing)
    announced.setattr(amx, "_PROGRAM", say("exact"))
    assert amx.usable()


@pytest.mark.skipif(not LINUX, reason="the instructions of x86-64, and signals")
@pytest.mark.slow
def test_real_instruction_without_permission(announced: pytest.MonkeyPatch) -> None:
    """It ends the process on any processor: those with AMX want permission before. Afterwards all goes on without."""
    announced.setattr(amx, "_PROGRAM", amx._PROGRAM.replace("amx_proof.main()", "print(amx_proof.exact())"))
    assert not amx.usable()
    assert known() == [amx._DIED]
    forget()
    announced.setattr(amx, "_answer", unasked)
    assert not amx.usable()


@pytest.mark.skipif(not LINUX, reason="for Linux")
@pytest.mark.slow
def test_real_program(announced: pytest.MonkeyPatch) -> None:
    """It is refused, or exact: never wrong, never dead."""
    assert amx._answer() in (amx_proof.EXACT, amx_proof.REFUSED)


def test_permission_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_more: object())
    assert not system.permitted()


@pytest.mark.parametrize("harm", ["", "sum", "behind", "below", "score", "mix", "row"])
def test_proof_notices(harm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def product(_amx: Any, q: Any, w: Any, out: Any) -> None:
        products.product(kernels.WITHOUT, q, w, out)
        if at := {"sum": (-2, 0), "behind": (0, -1), "below": (-1, 0)}.get(harm):
            out[at] += 1

    def attention(_steps: int, _vectors: Any, _group: Any, q: Any, keys: Any, u: Any, w: Any, values: Any, mixed: Any) -> None:
        m, n = q.shape[0], u.shape[1]
        u[:m] = q.astype(np.int32) @ (keys.transpose(0, 2, 1, 3).reshape(n, -1).astype(np.int32) - 128).T
        mixed[:m] = w.astype(np.int32) @ values.transpose(0, 2, 1).reshape(n, -1)
        u[-2, -1] += harm == "score"
        mixed[-2, 0] += harm == "mix"
        mixed[-1, -1] += harm == "row"

    monkeypatch.setattr(amx_proof, "product", product)
    monkeypatch.setattr(amx_proof, "attention", attention)
    assert amx_proof.exact() is not bool(harm)


def test_engine_with_and_without(tiny_model: IntegerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose products by AMX prove inexact does without. (Those here are always without.)"""
    init, asked = CompiledTransformer.__init__, list[bool]()

    def without(self: Any, model: Any, threads: int, amx: bool = False) -> None:
        asked.append(amx)
        init(self, model, threads)
        self.asked = amx

    monkeypatch.setattr(CompiledTransformer, "__init__", without)
    monkeypatch.setattr(build, "have_instruction", lambda: True)
    monkeypatch.setattr(amx, "usable", lambda: False)
    assert isinstance(build.build(tiny_model, device="cpu"), CompiledTransformer)
    assert asked == [False, False]
    monkeypatch.setattr(amx, "usable", lambda: True)
    asked.clear()
    assert isinstance(build.build(tiny_model, device="cpu"), CompiledTransformer)
    assert asked == [True, True]
    advance = CompiledTransformer.advance

    def broken(self: Any, *args: Any) -> Any:
        hidden = advance(self, *args)
        if self.asked:
            hidden.q[0, 0] += 1
        return hidden

    monkeypatch.setattr(CompiledTransformer, "advance", broken)
    asked.clear()
    assert isinstance(build.build(tiny_model, device="cpu"), CompiledTransformer)
    assert asked == [True, True, False, False]


class Tiles:
    """The instructions as their manual has them, on the memory of this process; `rows` are those of tiles for sums and rows."""

    def __init__(self) -> None:
        self.rows = 0

    def configure(self, _amx: Any, rows: int) -> None:
        assert not self.rows
        assert 1 <= rows <= 16
        self.rows = rows

    def release(self, _amx: Any) -> None:
        assert self.rows
        self.rows = 0

    def multiply(
        self, _amx: Any, rows: int, columns: int, _ahead: int, a: int, lower: int, a_stride: int, b: int, b_stride: int, b_step: int,
        steps: int, out: int, out_lower: int, out_stride: int,
    ) -> None:  # fmt: skip
        for start, to in ((a, out), (lower, out_lower))[:rows]:
            for c in range(columns):
                total = np.zeros((self.rows, 16), np.int64)
                for step in range(steps):
                    left = memory(start + 64 * step, self.rows, a_stride).view(np.int8).astype(np.int64)
                    right = memory(b + step * b_step + 64 * c, 16, b_stride).view(np.uint8).reshape(16, 16, 4).astype(np.int64)
                    total += np.einsum("mkj,knj->mn", left.reshape(-1, 16, 4), right)
                for i in range(self.rows):
                    ctypes.memmove(to + i * out_stride + 64 * c, total[i].astype(np.int32).tobytes(), 64)

    def take_offset(self, out: int, stride: int, sums: int, rows: int) -> None:
        for i in range(rows):
            extra = 128 * np.frombuffer(ctypes.string_at(sums + 4 * i, 4), np.int32)
            row = np.frombuffer(ctypes.string_at(out + i * stride, 4 * OUTPUTS), np.int32) - extra
            ctypes.memmove(out + i * stride, row.astype(np.int32).tobytes(), 4 * OUTPUTS)


def memory(address: int, rows: int, stride: int) -> Any:
    """Rows of 64 bytes."""
    return np.array([np.frombuffer(ctypes.string_at(address + i * stride, 64), np.uint8) for i in range(rows)])


@pytest.mark.parametrize("m", MANY_ROWS)
@pytest.mark.parametrize(("n", "k", "group"), [(97, 64, 1 << 20), (5, 192, 1), (160, 128, 3 * 128 * OUTPUTS)])
def test_driver_in_python(m: int, n: int, k: int, group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions that numba compiles, run by Python with tiles made of numpy: rows, blocks, strides and offsets."""
    tiles = Tiles()
    for name in ("configure", "multiply", "release"):
        monkeypatch.setattr(kernels, name, getattr(tiles, name))
    monkeypatch.setattr(kernels, "_take_offset", tiles.take_offset)
    monkeypatch.setattr(kernels, "_block", kernels._block.py_func)
    monkeypatch.setattr(kernels, "_GROUP", group)
    q, w, expected = example(m, n, k)
    blocks = -(-n // OUTPUTS)
    for first, last, origin in ((0, blocks, 0), (blocks // 2, blocks, blocks // 2), (0, 0, 0)):
        out = np.full((m + 1, (blocks - origin) * OUTPUTS + 16), 77, np.int32)
        kernels.tiled_products.py_func(kernels.WITH, q, q.sum(1, dtype=np.int32), pack(w), first, last, out, origin)
        assert np.array_equal(out[:m, : (last - first) * OUTPUTS][:, : n - first * OUTPUTS], expected[:, first * OUTPUTS : last * OUTPUTS])
        assert (out[m:] == 77).all()
        assert (out[:, (last - origin) * OUTPUTS :] == 77).all()
    assert not tiles.rows


def example(m: int, n: int, k: int) -> tuple[Any, Any, Any]:
    """q, w and their product."""
    random = np.random.default_rng(m)
    q, w = random.integers(-128, 128, (m, k)).astype(np.int8), random.integers(-128, 128, (n, k)).astype(np.int8)
    q[0], w[0], w[1] = -128, -128, 127
    return q, w, q.astype(np.int64) @ w.astype(np.int64).T


def test_worthwhile_without_is_never() -> None:
    for m in (1, 6, 100):
        assert not kernels.worthwhile(kernels.WITHOUT, m, pack(np.zeros((32, 64), np.int8)))


@pytest.fixture
def tiles_here() -> None:
    if not amx.usable():
        pytest.skip("needs a processor and a system with AMX")


@pytest.mark.parametrize("m", MANY_ROWS)
@pytest.mark.parametrize(("n", "k"), [(32, 4), (5, 8), (97, 64), (97, 72), (1152, 576), (576, 1536), (64, 4096)])
@pytest.mark.usefixtures("tiles_here")
def test_products_by_tiles(m: int, n: int, k: int) -> None:
    q, w, expected = example(m, n, k)
    for multiply in (products.product, lambda *args: products.shared_product(*args, 2)):
        out = np.full((m + 1, n + 47), 77, np.int32)
        multiply(kernels.WITH, q, pack(w), out)
        assert np.array_equal(out[:m, :n], expected)
        assert (out[m:] == 77).all()
    row, col = np.full(m, 0.5, np.float32), np.linspace(0, 1, n, dtype=np.float32)
    logits = np.empty((2, m, n), np.float32)
    for which, to in zip((kernels.WITH, kernels.WITHOUT), logits, strict=True):
        head_kernel(which, q, row, pack(w), col, to, 2)
    assert np.array_equal(logits[0], logits[1])


def test_child_gets_this_path(announced: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As from a program in one zip file, which is on no other process's path."""
    (tmp_path / "only_here.py").write_text("print('exact')")
    announced.setattr(sys, "path", [*sys.path, tmp_path])
    announced.setattr(amx, "_PROGRAM", amx._PROGRAM.partition("from llmzip")[0] + "import only_here")
    assert amx.usable()
