"""Runs scripts/reference_decoder in a process without llmzip. Not a test: started by
test_reference_decoder.py, with the decoder's folder on the path.

Takes JSON on stdin: `model` (a path or null), `chosen` (more of its configuration), `archives` and `messages` (hexadecimal) by name, and
`checks` (whether to compute the check values of the registered model). Prints JSON: for each name the content in hexadecimal, or the
class of the error, and the rows that `trace` gave.
"""

from __future__ import annotations

import json
import sys
import zlib
from functools import cache

import frequencies
import message
import model
import numpy as np
import predictor
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


def main() -> None:
    job = json.load(sys.stdin)

    @cache
    def loaded() -> model.Model:
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
    assert not any(name.partition(".")[0] in ("llmzip", "torch", "numba") for name in sys.modules)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
