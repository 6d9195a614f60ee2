"""Runs scripts/reference_decoder in a process without llmzip. Not a test: started by
test_reference_decoder.py, with the decoder's folder on the path.

Takes JSON on stdin: `model` (a path or null), or `floats` (a folder with float weights, see `of_floats`); `chosen` (more of its configuration),
`archives` and `messages` (hexadecimal) by name, `checks` (whether to compute the check values of the registered model), `formulas` (see `by_formula`), and `digests` (paths of models). Prints JSON: for each name the content in hexadecimal, or the
class of the error, and the rows that `trace` gave.
"""

from __future__ import annotations

import json
import sys
import zlib
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import files
import frequencies
import message
import model
import numpy as np
import predictor
import quantised
import tokenizer
from archive import decode_archive
from errors import DecodingError, ModelError


def crc(values: np.ndarray) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(values).tobytes()):08x}"


def check_values(m: model.Model) -> dict[str, str]:
    """The CRCs of section 10 of docs/format.md, and the opening of messages."""
    found = {}
    for name, kind in [("embed", np.int16), *((n, np.int8) for n in ("head", "0.qkv", "0.o", "0.gate_up", "0.down"))]:
        found[f"`{name}`"] = f"{crc(m.matrices[name].astype(kind))} {crc(m.scales[name])}"
    stages = {0: "embedding", 1: "after the attention of layer 0", 2: "after layer 0", 60: "after layer 29"}
    seen: dict[str, list[str]] = {name: [] for name in stages.values()}
    norm, calls = predictor.norm, 0

    def watched(x: np.ndarray, eps: np.float32) -> tuple[np.ndarray, np.ndarray]:
        nonlocal calls
        if calls in stages:
            seen[stages[calls]].append(crc(x))
        calls += 1
        return norm(x, eps)  # type: ignore[no-any-return]

    predictor.norm = watched
    p = predictor.Predictor(m, window=1280, sinks=4, all_heads_see_all=False, lanes=1, positions=3)
    for token in m.config["opening"]:
        calls = 0
        q, s = p.feed([token])
    predictor.norm = norm
    logits = p.logits(q, s)[0]
    f = frequencies.frequencies(logits, np.zeros(len(logits), np.float32), None, len(m.bytes_of)).f
    found |= {name: " ".join(crcs) for name, crcs in seen.items()}
    return found | {
        "logits": crc(logits),
        "frequencies": crc(f.astype("<u4")),
        "tokens": str(message.encode_ascii(m, message.OPENING_TEXT)),
    }


def of_floats(folder: Path, chosen: dict[str, object]) -> model.Model:
    """A model of a folder with weights.npz by the names of section 9.1, source.json with configuration and factors, and tokenizer.json."""
    weights, source = dict(np.load(folder / "weights.npz")), json.loads((folder / "source.json").read_text("utf-8"))
    parts = tokenizer.of_folder(folder, source["config"]["vocab"])
    return model.converted(files.Source(source["config"], weights.__getitem__, source["factors"], parts), chosen)


def by_formula(config: dict[str, int], path: str) -> list[str]:
    """The row of section 10 for a model by a formula, whose tensors are in an npz file in the order of the digest."""
    tensors = dict(np.load(path))
    m = SimpleNamespace(config=config)
    m.matrices = {name: t.astype(np.float32) for name, t in tensors.items() if t.dtype != np.float32}
    m.scales = {name.removesuffix(".scale"): t for name, t in tensors.items() if name.endswith(".scale")}
    m.vectors = {name: t for name, t in tensors.items() if t.dtype == np.float32 and not name.endswith(".scale")}
    p = predictor.Predictor(m, window=16, sinks=2, all_heads_see_all=False, lanes=1, positions=40)
    found = [model.model_digest(config, tensors)[:8].hex()]
    for position in range(40):
        q, s = p.feed([(7 * position + 3) % 50])
        if position in (0, 10, 39):
            found.append(crc(p.logits(q, s)))
    return [*found, bits(p.unit(q, s)[0, 0])]


def bits(x: np.float32) -> str:
    return f"0x{int(np.float32(x).view(np.uint32)):08X}"


def small_checks() -> dict[str, list[str]]:
    """Check values of section 10 that need no model, in order, as they are stated there, by the word before them."""
    f32, eps = np.float32, np.float32(2.0**-20)
    y, zeros = np.array([[3, -4, 0, 1]], f32), np.zeros((1, 4), f32)
    factors = [predictor.norm_factor(*args, eps)[0, 0] for args in ((y, f32(0.5)), (y, f32(2.0**-30)), (zeros, f32(1)))]
    read: list[str] = []
    for gains in ({"head.norm": np.array([1, 0.5, 2, -3], f32)}, {}):
        q, s = predictor.Predictor.read(SimpleNamespace(plain=True, eps=eps, model=SimpleNamespace(vectors=gains)), y, "head")
        read += [f"({', '.join(str(int(n)) for n in q[0])})", bits(s[0, 0])]
    g = np.array([1, -1, -40], f32)
    blocks = {"Q4_1": (3, 20, 32), "Q5_0": (6, 22, 32), "Q8_0": (8, 34, 32), "Q4_K": (12, 144, 256), "Q6_K": (14, 210, 256)}
    data = bytes((37 * i + 11) % 120 for i in range(210))
    expanded = {name: quantised.expand(number, data[:size], 0, weights) for name, (number, size, weights) in blocks.items()}
    return {
        "Norm factor": [*map(bits, factors)],
        "Reading a plain stream": read,
        "Feed-forward": [bits(v) for kind in ("silu", "gelu_tanh") for v in predictor.feed_forward(g, f32(1), kind)],
        "Quantised types": [f"{n} `{crc(w)}`" for n, w in expanded.items()],
    }


def main() -> None:
    job = json.load(sys.stdin)

    @cache
    def loaded() -> model.Model:
        if job.get("floats"):
            return of_floats(Path(job["floats"]), job.get("chosen", {}))
        if job["model"] is None:
            raise ModelError("none is given")
        return model.load(job["model"], job.get("chosen", {}))

    results: dict[str, object] = {}
    for name, data in job.get("archives", {}).items():
        rows: list[list[object]] = []

        def trace(*row: object, rows: list[list[object]] = rows) -> None:
            rows.append([*row[:-1], bytes(row[-1]).hex()])  # type: ignore[call-overload]

        try:
            content = decode_archive(bytes.fromhex(data), lambda record: model.match(loaded(), record), trace)
            results[name] = [content.hex(), rows]
        except DecodingError as error:
            results[name] = [error.kind, rows]
    for name, data in job.get("messages", {}).items():
        try:
            results[name] = message.decode_message(bytes.fromhex(data), loaded()).hex()
        except DecodingError as error:
            results[name] = error.kind
    if job.get("checks"):
        results["checks"] = check_values(loaded())
    results |= {path: model.load(path, {}).digest.hex() for path in job.get("digests", [])}
    if "formulas" in job:
        results |= {"formulas": [by_formula(*one) for one in job["formulas"]], "small checks": small_checks()}
    assert not any(name.partition(".")[0] in ("llmzip", "torch", "numba") for name in sys.modules)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
