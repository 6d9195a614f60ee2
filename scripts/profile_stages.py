"""Shows where the time goes: microseconds a token by stage, both ways, next to the limits of the machine.

    python scripts/profile_stages.py TEXT [--bytes N] [--lanes N] [--model NAME]

One table has the stages of a real run: tokenise, layers, head, votes, frequencies, update, coder, and the rest (Python between them). The
other tables show what the layers' time consists of, with a full window. For that, parts are run alone on the same shapes, in all layers and
without meetings: products, attention, and what is left (norms, activations, quantisation, threads waiting for each other). There are two
limits: operations at the speed of one tile of a product repeated from the fastest cache, and bytes at the speed of reading a large array. The
larger one counts.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np

from llmzip.adapter.adapter import Adapter
from llmzip.adapter.neighbours import Neighbours
from llmzip.codec.any_model import LoadedModel
from llmzip.codec.loaded_models import PretrainedModel
from llmzip.engine.compiled import CompiledTransformer
from llmzip.engine.kernels.arguments import TurnTables
from llmzip.engine.kernels.attention import attend
from llmzip.engine.kernels.layers import MANY_ROWS, PAD, SLICE, attention_arguments, work_for
from llmzip.engine.kernels.packing import OUTPUTS, QUAD
from llmzip.engine.kernels.products import product, product_share
from llmzip.engine.kernels.quads import operand
from llmzip.engine.kernels.rows import i32, jit, parallel
from llmzip.engine.kernels.simd import largest
from llmzip.engine.kernels.tiles import tile
from llmzip.entropy import compiled_frequencies
from llmzip.entropy.compiled_range_coder import CompiledRangeDecoder, CompiledRangeEncoder
from llmzip.models import resolve
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.options import Options
from llmzip.parameters import DEFAULT_LEVEL, LEVELS

SPAN = LEVELS[DEFAULT_LEVEL].span
_POSITION = 3000  # windows are full


@nb.njit(parallel=True)
def _tiles(q: Any, w: Any, out: Any, parts: Any, times: Any) -> None:
    for part in nb.prange(parts):
        sums = np.zeros(8, i32)
        at = out[part].ctypes.data
        for _ in range(times):
            tile(8, q.ctypes.data, q.shape[1], w.ctypes.data, w.shape[0], sums.ctypes.data, at, 4 * OUTPUTS)


@nb.njit(parallel=True)
def _read(x: Any, out: Any, parts: Any) -> None:
    for part in nb.prange(parts):
        n = x.shape[0] // parts
        out[part] = largest(x[part * n :].ctypes.data, n // 16)


def seconds(call: Callable[[], object], times: int = 9) -> float:
    """The least of several runs, after one to warm up: others on the machine only make it slower."""
    call()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)


def machine(threads: int) -> tuple[float, float]:
    """Operations (a multiplication or an addition) and bytes read a second."""
    q, w = operand(np.ones((8, 576), np.int8)), np.ones((144, OUTPUTS, QUAD), np.uint8)
    out = np.empty((threads, 8, OUTPUTS), i32)
    operations = 2 * 8 * OUTPUTS * 576 * 2000 * threads / seconds(lambda: _tiles(q, w, out, threads, 2000))
    x, tops = np.ones(1 << 27, np.float32), np.empty(threads, np.float32)
    return operations, x.nbytes / seconds(lambda: _read(x, tops, threads))


def stages(loaded: LoadedModel, data: bytes, lanes: int | None) -> None:
    """Encodes and decodes, and prints the time of the calls between modules."""
    spent: Counter[str] = Counter()

    def watch(owner: Any, name: str, stage: str) -> None:
        original = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = original(*args, **options)
            spent[stage] += time.perf_counter() - start  # type: ignore[assignment]
            return result

        setattr(owner, name, timed)

    engine = loaded.transformer
    for owner, name, stage in (
        (loaded.alphabet, "encode", "tokenise"), (engine, "advance", "layers"), (engine, "logits", "head"),
        (compiled_frequencies, "intervals", "frequencies"), (compiled_frequencies, "find", "frequencies"),
        (Neighbours, "predict", "votes"), (Adapter, "update", "update"),
        (CompiledRangeEncoder, "encode_steps", "coder"), (CompiledRangeEncoder, "finish", "coder"),
        (CompiledRangeDecoder, "targets", "coder"), (CompiledRangeDecoder, "advance", "coder"),
    ):  # fmt: skip
        watch(owner, name, stage)
    names = ("tokenise", "layers", "head", "votes", "frequencies", "update", "coder")
    print("| | tokens/s | total | " + " | ".join(names) + " | rest |\n|" + "---|" * (len(names) + 4))
    symbols = loaded.alphabet.encode(data)
    coder, stream = loaded.coder(loaded.record()), b""
    n, count = len(symbols), lanes or LEVELS[DEFAULT_LEVEL].lanes(len(symbols))
    for way in ("encode", "decode"):
        start = time.perf_counter()
        if way == "encode":
            stream = coder.encode(symbols, count)
        elif not np.array_equal(coder.decode(stream, n, count), symbols):
            raise SystemExit("decoding gave other symbols")
        total = time.perf_counter() - start + spent["tokenise"]
        cells = [f"{1e6 * x / n:.0f}" for x in (total, *(spent[name] for name in names), total - sum(spent.values()))]
        print(f"| {way}, {count} lane{'s' * (count > 1)} | {n / total:.0f} | " + " | ".join(cells) + " |", flush=True)
        spent.clear()


@jit
def _attend_share(
    tiles: Any, vectors: Any, group: Any, weights: Any, turns: Any, constants: Any, cache: Any, work: Any, share: Any, shares: Any
) -> None:
    for i in range(weights.qkv.shape[0]):
        by, v, g, scaled, way, c, here, out, part, parts = attention_arguments(
            tiles, vectors, group, weights, i, turns, constants, cache, work, share, shares
        )
        attend(by, v, g, scaled, way, c, here, out, part, parts)


@parallel
def _attend_all(
    tiles: Any, vectors: Any, group: Any, weights: Any, turns: Any, constants: Any, cache: Any, work: Any, threads: Any
) -> None:
    """The attention of all layers, whose threads do not meet."""
    for share in nb.prange(threads):
        _attend_share(tiles, vectors, group, weights, turns, constants, cache, work, np.int64(share), threads)


@jit
def _multiply_share(amx: Any, q: Any, w: Any, out: Any, many: Any, share: Any, shares: Any) -> None:
    n = q.shape[0]
    if many:
        for first in range(share * n // shares, (share + 1) * n // shares, SLICE):
            product(amx, q[first : min(first + SLICE, (share + 1) * n // shares)], w, out[first:])
    else:
        product_share(amx, q, w, out, share, shares)


@parallel
def _multiply_all(
    amx: Any, q_x: Any, q_o: Any, q_f: Any, qkv: Any, o: Any, gate_up: Any, down: Any, a: Any, b: Any, c: Any, d: Any, many: Any, threads: Any
) -> None:  # fmt: skip
    """The products of all layers, whose threads do not meet, shared as `layers` does it."""
    for share in nb.prange(threads):
        for i in range(qkv.shape[0]):
            _multiply_share(amx, q_x, qkv[i], a, many, np.int64(share), threads)
            _multiply_share(amx, q_o, o[i], b, many, np.int64(share), threads)
            _multiply_share(amx, q_x, gate_up[i], c, many, np.int64(share), threads)
            _multiply_share(amx, q_f, down[i], d, many, np.int64(share), threads)


def parts(engine: CompiledTransformer, lanes: int, steps: int, operations: float, bandwidth: float) -> None:
    """Times one call of all layers with full windows, and of the head; prints the times next to the limits."""
    threads, c = engine.threads, engine.config
    cache, random = engine.cache(lanes, SPAN, 1 << 20, steps), np.random.default_rng(0)
    cache.k[:] = random.integers(1, 256, cache.k.shape, np.uint8)
    cache.v[:] = random.integers(-127, 128, cache.v.shape, np.int8)
    for scales in (cache.ks, cache.vs):
        scales[:] = 0.01
    n = lanes * steps
    tokens = np.zeros((lanes, steps), np.int32)

    def rewind() -> Any:
        cache.position = _POSITION
        cache.offset[:] = (_POSITION - cache.windows - 32) // 16 * 16
        return cache.make_room(steps)

    def layers() -> Any:
        rewind()
        return engine.advance(tokens, cache)

    hidden = layers()
    slot = rewind()
    weights = engine._weights
    matrices = [weights.qkv, weights.o, weights.gate_up, weights.down]
    work = work_for(n, threads, weights, engine._constants)
    work.qkv[:] = random.integers(-300_000, 300_000, work.qkv.shape)
    work.row[:] = 0.01
    turns, arrays = TurnTables(*cache.rotations(steps), cache.ways), cache.arrays(slot)

    def attention() -> None:
        _attend_all(*engine._sizes, weights, turns, engine._constants, arrays, work, threads)

    x, o, _, f = (np.zeros((n, w.shape[2] * QUAD), np.int8) for w in matrices)
    outputs = [np.empty((n, w.shape[1] * OUTPUTS + PAD), i32) for w in matrices]

    def products() -> None:
        _multiply_all(engine._amx, x, o, f, *matrices, *outputs, n >= MANY_ROWS * threads, threads)

    keys = int(cache.windows.sum() + cache.sinks.sum())  # of all layers and key heads
    group = c.heads // c.kv_heads
    matrix_bytes, head_bytes = sum(w.nbytes for w in matrices), engine._head.nbytes
    head_rows = min(n, 64)
    some, room = hidden.at(slice(head_rows)), np.empty((head_rows, c.vocab), np.float32)
    # A multiply-add takes one byte of a vector for a score, and one for a value: few weights have a second plane.
    limits = {
        "products": (2 * matrix_bytes * n / operations, matrix_bytes / bandwidth),
        "attention": (2 * keys * group * c.head_dim * 2 * n / operations, keys * 2 * (c.head_dim + 4) * lanes / bandwidth),
        "head": (2 * head_bytes * n / operations, head_bytes / bandwidth * n / head_rows),
    }
    taken = {"all layers": seconds(layers), "products": seconds(products), "attention": seconds(attention)}
    taken["left"] = taken["all layers"] - taken["products"] - taken["attention"]
    taken["head"] = seconds(lambda: engine.logits(some, room)) * n / head_rows
    roofline = sum(max(pair) for pair in limits.values())
    print(f"\n{lanes} lane{'s' * (lanes > 1)}, {steps} step{'s' * (steps > 1)} a call; µs a token:\n")
    print("| part | taken | limit by operations | limit by bytes | taken / limit |\n|---|---|---|---|---|")
    for part in ("products", "attention", "left", "head"):
        if part in limits:
            ops, read = (1e6 * x / n for x in limits[part])
            print(f"| {part} | {1e6 * taken[part] / n:.0f} | {ops:.0f} | {read:.0f} | {1e6 * taken[part] / n / max(ops, read):.2f} |")
        else:
            print(f"| {part} | {1e6 * taken[part] / n:.0f} | | | |")
    whole = taken["all layers"] + taken["head"]
    print(f"| sum | {1e6 * whole / n:.0f} | roofline {1e6 * roofline / n:.0f} | | {whole / roofline:.2f} |", flush=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--bytes", type=int, default=60_000)
    parser.add_argument("--lanes", type=int)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    options = parser.parse_args()
    loaded = PretrainedModel(options.model, resolve.load(options.model), Options())
    engine = loaded.transformer
    if not isinstance(engine, CompiledTransformer):
        raise SystemExit("the compiled layers are not in use on this machine; there is nothing to measure")
    operations, bandwidth = machine(engine.threads)
    for lanes, steps in ((1, 512), (10, 51), (1, 1), (10, 1), (64, 1)):
        now = machine(engine.threads)  # again, as what others leave of the machine changes
        operations, bandwidth = max(operations, now[0]), max(bandwidth, now[1])
        print(f"\nMachine: {operations / 1e12:.2f} T operations/s (int8), {bandwidth / 1e9:.0f} GB/s, {engine.threads} threads.")
        parts(engine, lanes, steps, operations, bandwidth)
    print()
    stages(loaded, options.file.read_bytes()[: options.bytes], options.lanes)


if __name__ == "__main__":
    main()
