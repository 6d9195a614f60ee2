"""The decoder in scripts/reference_decoder, written from the documents alone, agrees with the package and with the documents."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from click.testing import CliRunner

import llmzip
from llmzip.archive import forms, wire
from llmzip.archive import records as rec
from llmzip.archive.summary import summarise
from llmzip.cli import main as llmzip_command
from llmzip.engine import build
from llmzip.message.message_codec import MessageCodec
from llmzip.models import store
from llmzip.models.convert import IntegerModel, convert
from llmzip.models.float_model import Factors, FloatModel, expected_shapes
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.models.sources import load_float_model
from llmzip.options import Options
from llmzip.parameters import FROZEN, LEVELS, AdapterParameters, AttentionSpan, BiasParameters, CorrectionParameters, NeighbourParameters
from scripts import bad_archives, float_reference, make_golden
from tests.support import families, family_gguf, formula_models, tiny
from tests.support.codecs import ROOT, TEXT
from tests.support.tiny_gguf import write_gguf

pytestmark = pytest.mark.slow

DECODER = ROOT / "scripts" / "reference_decoder"
FORMAT = (ROOT / "docs" / "format.md").read_text("utf-8")
GOLDEN = {path.stem: path.read_bytes() for path in sorted((ROOT / "tests" / "golden").glob("*.llz"))}
CONTENTS = make_golden.contents()
TINY = [name for name in GOLDEN if "real" not in name and name != "good-tiny-opening"]
MESSAGES = ["Meet me at eight", "Zürich, 14:30 – ok? 🙂"]
CLASSES = {
    llmzip.NotAnArchiveError: "not an archive",
    llmzip.DamagedArchiveError: "damaged",
    llmzip.UnsupportedArchiveError: "unsupported",
    llmzip.ModelUnavailableError: "model",
    llmzip.ModelMismatchError: "model",
    llmzip.NotReproducedError: "not reproduced",
}


def decode(model: Path | None, archives: dict[str, bytes] | None = None, **job: object) -> dict[str, Any]:
    """What the reference decoder makes of archives and messages, in a process without llmzip."""
    job |= {"model": model and str(model), "archives": {name: data.hex() for name, data in (archives or {}).items()}}
    worker = [sys.executable, str(ROOT / "tests" / "support" / "reference_worker.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts" / "reference_decoder")}
    return json.loads(subprocess.run(worker, input=json.dumps(job).encode(), env=environment, stdout=subprocess.PIPE, check=True).stdout)  # type: ignore[no-any-return]


def kind(archive: bytes) -> str:
    """The class of error that llmzip reports, by the document's name."""
    with pytest.raises(llmzip.LLZError) as caught:
        llmzip.decompress(archive)
    return CLASSES[type(caught.value)]


def test_golden_archives(tiny_folder: Path) -> None:
    results = decode(tiny_folder, {name: GOLDEN[name] for name in TINY})
    expected = {name: content.hex() for name, content in CONTENTS.items()}
    refused = bad_archives.refused(GOLDEN["good-tiny"], GOLDEN["good-parity"])
    expected |= {name: CLASSES[case.error] for name, case in refused.items()}
    for name in TINY:
        assert results[name][0] == expected[name], name


@pytest.mark.parametrize(("name", "window"), [*((name, None) for name in families.FAMILIES), ("mistral", 700), ("gemma3", 700)])
def test_families(name: str, window: int | None, tmp_path: Path) -> None:
    """Windows of layers within that of the archive, or larger; two lanes, and all that learns, but for corrections where that would take long."""
    folder = families.write(tmp_path / "model", families.checkpoint(name, outliers=True))
    if window:
        families.change(folder, {"sliding_window": window})
    text = TEXT[:3000] if window else TEXT[:800]
    model = convert(load_float_model(folder))
    corrections = None if window else CorrectionParameters(rank=5, segment=64, rate=120, matrices=7)
    adapter = AdapterParameters(20, BiasParameters(46, 3), NeighbourParameters(9, 60), corrections)
    archive = make_golden.codec_of("local:family", model, level=1, lanes=2, adapter=adapter).compress(text)
    assert summarise(io.BytesIO(archive)).models[0].adapter == adapter
    result, rows = decode(folder, {"it": archive})["it"]
    assert result == text.hex()
    assert len(rows) > (2 * LEVELS[1].span.window if window else 200)


@pytest.mark.parametrize("model_type", family_gguf.SAYABLE)
def test_families_of_gguf_files(model_type: str, tmp_path: Path) -> None:
    values = family_gguf.SAYABLE[model_type]
    folder = families.write(tmp_path / "model", families.checkpoint(model_type.removesuffix("_text"), **values))
    file = family_gguf.write(tmp_path / "model.gguf", folder)
    archive = make_golden.codec_of("local:family", convert(load_float_model(file)), level=1, lanes=2).compress(TEXT[:300])
    assert decode(file, {"it": archive})["it"][0] == TEXT[:300].hex()


_TYPES = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
_LLAMA3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
_YARN: dict[str, Any] = {"rope_type": "yarn", "factor": 8.0}
SAID: list[tuple[str, dict[str, Any]]] = [  # by configurations, and what the family takes from them
    ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 1.0, "rope_theta": 500.0}}),
    ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.5}, "rope_scaling": _YARN | {"rope_theta": 700.0}, "rope_theta": 900.0}),
    ("llama", {"rope_parameters": None, "rope_scaling": {"rope_type": None, "type": None}, "rope_theta": 900.0}),
    ("llama", {"bos_token_id": None, "eos_token_id": [2, 0], "tie_word_embeddings": True}),
    ("mistral", {"sliding_window": None}),
    ("mistral", {"sliding_window": 0}),
    ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": 3}),
    ("smollm3", {"no_rope_layers": [1, 1, 1, 1]}),
    ("smollm3", {"use_sliding_window": True, "sliding_window": 9}),
    ("smollm3", {"use_sliding_window": True, "sliding_window": 9, "layer_types": None}),
    ("qwen2", {"use_sliding_window": False, "layer_types": None}),
    ("qwen2", {"layer_types": None, "max_window_layers": 3}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 9, "layer_types": _TYPES}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 0, "layer_types": _TYPES}),
    ("gemma3", {"layer_types": None}),
    ("gemma3", {"layer_types": None, "sliding_window_pattern": 3, "sliding_window": 0}),
    ("gemma3", {"layer_types": ["full_attention"] * 7}),
    ("gemma3", {"rope_parameters": None, "rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    ("granite", {"attention_multiplier": 0.1, "logits_scaling": 3.3, "residual_multiplier": 0.22, "embedding_multiplier": 12}),
    ("phi3", {"sliding_window": None}),
    ("gpt_neox", {"rope_parameters": None, "rotary_pct": 0.25, "rotary_emb_base": 5000, "use_parallel_residual": None, "tie_word_embeddings": True}),
    ("gpt_neox", {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 500.0}, "partial_rotary_factor": 0.8}),
    ("gpt_neox", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 700.0, "partial_rotary_factor": 1} | _LLAMA3}),
]  # fmt: skip


def test_digests(tmp_path: Path) -> None:
    """Of what configurations say in other ways."""
    made = {name: families.checkpoint(name) for name in dict(SAID)}
    expected = {}
    for i, (name, values) in enumerate(SAID):
        folder = families.write(tmp_path / str(i), made[name])
        families.change(folder, values)
        expected[str(folder)] = convert(load_float_model(folder)).digest().hex()
    assert decode(None, digests=list(expected)) == expected


_OUTER = {"plain_stream": True, "pre_norm": False, "post_norm": True}
FEATURES: dict[str, tuple[dict[str, Any], Factors]] = {  # together, as no family has them
    "Gemma's, and pairs that do not turn": (
        {"head_norm": "head", "plain_stream": True, "post_norm": True, "activation": "gelu_tanh", "spread_heads": True,
         "layer_windows": (24, 0, 24), "window_rope_base": 100.0, "rope_divisors": (1.0, 1.5, 2.0, 4.0, 8.0, 0.0, 0.0, 0.0)},
        Factors(embed=8.0, residual=0.3, score=1.3, logits=0.9),
    ),
    "a rotated stream": (
        {"head_norm": "all", "qkv_bias": True, "unrotated_layers": (0, 2), "layer_windows": (0, 700, 30), "local_heads": (2, 5), "local_window": 20},
        Factors(embed=2.0, residual=0.5, score=0.7, logits=1.1),
    ),
    "biases": (
        {"plain_stream": True, "qkv_bias": True, "spread_heads": True, "rope_divisors": (1.0,) * 8, "activation": "gelu_tanh"}, Factors(score=2.0),
    ),
    "biases everywhere, without a gate": (
        {"qkv_bias": True, "biases": True, "gated": False, "parallel": True, "unrotated_layers": (1,)},
        Factors(embed=2.0, residual=0.5, score=0.7, logits=1.1),
    ),
    "biases and norms after": (
        {"plain_stream": True, "post_norm": True, "biases": True, "parallel": True, "activation": "gelu_tanh"}, Factors(residual=0.7, logits=1.3),
    ),
    "norms after, wide heads": (_OUTER | {"head_norm": "all", "qkv_bias": True, "head_dim": 192, "heads": 2, "kv_heads": 1, "opening": (5, 80)}, Factors()),
    "norms after, narrow heads": (_OUTER | {"spread_heads": True, "head_dim": 12, "width": 20, "ffn": 60}, Factors(residual=0.5)),
}  # fmt: skip


@pytest.mark.parametrize("name", FEATURES)
def test_features(name: str, tmp_path: Path) -> None:
    features, factors = FEATURES[name]
    model = load_float_model(tiny.write_folder(tmp_path / "it"))
    c = replace(model.config, layers=3, **features)
    weights: dict[str, Any] = {}
    for part, shape in (expected_shapes(c) | {"head": (c.vocab, c.width)}).items():
        made = tiny.gaussians(f"{name} {part}", shape, 0.6 if len(shape) == 1 else shape[1] ** -0.5)
        weights[part] = np.exp(made, dtype=np.float32) if part.endswith("norm") else made
    np.savez(tmp_path / "it" / "weights.npz", **weights)
    (tmp_path / "it" / "source.json").write_text(json.dumps({"config": c.as_dict(), "factors": asdict(factors)}), "utf-8")
    integers = convert(FloatModel(c, model.tokenizer, weights.__getitem__, factors))
    adapter = AdapterParameters(20, BiasParameters(46, 3), NeighbourParameters(9, 60))
    archive = make_golden.codec_of("local:it", integers, level=1, lanes=2, adapter=adapter).compress(TEXT[:600])
    assert decode(None, {"it": archive}, floats=str(tmp_path / "it"))["it"][0] == TEXT[:600].hex()


def test_check_values(tmp_path: Path) -> None:
    """Those of section 10 that need no weights: by the package, and by the decoder."""
    rows: list[list[str]] = []
    jobs: list[tuple[dict[str, Any], str]] = []
    for i, (config, row) in enumerate(formula_models.stated(FORMAT)):
        model = formula_models.model(config)
        transformer = build.build(model, device="cpu", kernel="torch")
        fed = np.array([[(7 * p + 3) % 50 for p in range(40)]], np.int32)
        hidden = transformer.advance(fed, transformer.cache(1, AttentionSpan(16, 2), 40, 40))
        logits, unit = transformer.logits(hidden), hidden.on_host().unit[39:]
        crcs = [f"{zlib.crc32(logits[p].tobytes()):08x}" for p in (0, 10, 39)]
        assert row == [model.digest()[:8].hex(), *crcs, f"0x{unit.view(np.uint32)[0]:08X}"]
        np.savez(tmp_path / f"{i}.npz", **dict[str, Any](model.tensors))
        rows.append(row)
        jobs.append((config.as_dict(), str(tmp_path / f"{i}.npz")))
    results = decode(None, formulas=jobs)
    assert len(rows) == 4
    assert results["formulas"] == rows
    for name, values in results["small checks"].items():
        (line,) = re.findall(rf"\*{name}\.\* (.*?)\n\n", FORMAT, re.S)
        for value in values:
            assert value in line, name
            line = line[line.index(value) + len(value) :]


def test_quantised_types_are_expanded_as_stated() -> None:
    """By the library that the package reads GGUF files with."""
    (line,) = re.findall(r"\*Quantised types\.\* (.*?)\n\n", FORMAT, re.S)
    for name, crc in re.findall(r"(Q\w+)\s`(\w+)`", line):
        known = gguf.GGMLQuantizationType[name]
        block = np.array([(37 * i + 11) % 120 for i in range(gguf.GGML_QUANT_SIZES[known][1])], np.uint8)
        assert f"{zlib.crc32(gguf.dequantize(block[None], known).astype(np.float32).tobytes()):08x}" == crc, name
    assert line.count("Q") == 5


def test_golden_archive_with_an_opening(tiny_folder: Path) -> None:
    archives = {name: GOLDEN[name] for name in ("good-tiny-opening", "good-tiny")}
    results = decode(tiny_folder, archives, chosen={"opening": [5, 80, 3]})
    assert results["good-tiny-opening"][0] == CONTENTS["good-tiny-opening"].hex()
    assert results["good-tiny"][0] == "model"


def test_fresh_archives(tiny_model: IntegerModel, tiny_folder: Path) -> None:
    """Everything at once: lanes longer than the window, both parts that learn, neighbours that are replaced, local-attention heads."""
    near = {"near_heads": [1, 2], "near_window": 40}
    model = replace(tiny_model, config=replace(tiny_model.config, local_heads=(1, 2), local_window=40))
    adapter = AdapterParameters(20, BiasParameters(46, 3), NeighbourParameters(9, 60))
    archives = {
        "level 1": make_golden.codec_of("local:tiny", model, level=1, lanes=3, adapter=adapter).compress(TEXT[:3000]),
        "level 9": make_golden.codec_of("local:tiny", model, level=9, adapter=FROZEN).compress(TEXT[:500]),
    }
    results = decode(tiny_folder, archives, chosen=near)
    symbols = len(results["level 1"][1])
    assert symbols > 3 * LEVELS[1].span.window
    assert symbols > 2**adapter.neighbours.capacity_bits  # type: ignore[union-attr]
    assert results["level 1"][0] == TEXT[:3000].hex()
    assert results["level 9"][0] == TEXT[:500].hex()


def test_corrections(tiny_model: IntegerModel, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning alone: matrices one by one, more lanes than symbols of a segment, raw bytes, and a window shorter than a segment, with and without local-attention heads."""
    near = {"near_heads": [1, 2], "near_window": 9}
    model = replace(tiny_model, config=replace(tiny_model.config, local_heads=(1, 2), local_window=9))
    monkeypatch.setitem(LEVELS, 1, replace(LEVELS[1], span=AttentionSpan(20, 2)))
    cases = {
        "values": (1, 3, CorrectionParameters(1, 50, 255, 1), TEXT[:500]),
        "gate_up": (1, 2, CorrectionParameters(16, 33, 255, 2), TEXT[:500]),
        "down": (9, 1, CorrectionParameters(7, 100, 255, 4), TEXT[:500]),
        "a step a segment": (1, 40, CorrectionParameters(2, 10, 60, 7), TEXT[:600]),
        "raw bytes": (1, 2, CorrectionParameters(4, 512, 255, 7), TEXT[:500] + bytes(range(128, 256)) * 3 + TEXT[500:800]),
    }
    archives = {}
    for name, (level, lanes, it, text) in cases.items():
        adapter = AdapterParameters(32, None, None, it)
        archives[name] = make_golden.codec_of("local:tiny", model, level=level, lanes=lanes, adapter=adapter).compress(text)
    results = decode(tiny_folder, archives, chosen=near)
    for name, (_, _, it, text) in cases.items():
        assert summarise(io.BytesIO(archives[name])).models[0].adapter.corrections == it
        assert results[name][0] == text.hex(), name
    assert len(results["raw bytes"][1]) > 600


def record(tag: bytes, body: bytes) -> bytes:
    framed = tag + wire.varint(len(body)) + body
    return framed + zlib.crc32(framed).to_bytes(4, "little")


def rejected() -> dict[str, tuple[str, bytes]]:
    """For each line of the table in section 1.6 archives, with the class it states."""
    start, end = rec.frame_start(), record(b"E", b"\0" + hashlib.sha256(b"").digest()[:8])
    model = rec.ModelRecord("local:tiny", b"0" * 10, b"0" * 6, AttentionSpan(1280, 4), FROZEN).body()
    learning = model[:4] + b"\x0b" + wire.varint(32) + bytes([46, 3, 15, 86, 4, 7, 60, 64]) + model[5:]
    block = rec.CodedBlock(9, 5, 1, 0, b"").body()

    def with_model(at: int, *values: int) -> bytes:
        return start + record(b"M", learning[:at] + bytes(values) + learning[at + len(values) :]) + end

    def coded(*fields: int) -> bytes:
        return start + record(b"M", model) + record(b"C", b"".join(map(wire.varint, fields)) + bytes(4)) + end

    return {
        "empty": ("not an archive", b""),
        "part of the magic": ("not an archive", start[:3]),
        "another magic": ("not an archive", b"PK" + start),
        "no version": ("damaged", start[:4]),
        "no record": ("damaged", start),
        "part of a second magic": ("damaged", start + end + start[:3]),
        "a second frame of another version": ("unsupported", start + end + start[:4] + b"\2"),
        "length of 6 bytes": ("damaged", start + b"S\x81\x80\x80\x80\x80\0"),
        "length in a long form": ("damaged", start + b"S\x80\0" + zlib.crc32(b"S\x80\0").to_bytes(4, "little") + end),
        "length above the limit": ("damaged", start + b"S" + wire.varint(2**24 + 2**16 + 1)),
        "CRC before tag": ("damaged", start + record(b"Z", b"")[:-1] + b"\0" + end),
        "no model record's body": ("damaged", start + record(b"M", b"") + end),
        "model record with a byte too many": ("damaged", start + record(b"M", model + b"\0") + end),
        "model record with a byte too few": ("damaged", start + record(b"M", model[:-1]) + end),
        "arithmetic 5 and nothing else": ("unsupported", start + record(b"M", b"\5") + end),
        "window 0": ("damaged", with_model(1, 0x80, 0x00)),
        "window 8161": ("damaged", with_model(1, *wire.varint(8161))),
        "sinks": ("damaged", with_model(3, 17)),
        "flags, and nothing else": ("unsupported", start + record(b"M", model[:4] + b"\x10") + end),
        "round": ("damaged", with_model(5, 0)),
        "rate": ("damaged", with_model(6, 0)),
        "prior": ("damaged", with_model(7, 0)),
        "capacity 3": ("damaged", with_model(8, 3)),
        "capacity 21": ("damaged", with_model(8, 21)),
        "sharpness": ("damaged", with_model(9, 0)),
        "rank 0": ("damaged", with_model(10, 0)),
        "rank 17": ("damaged", with_model(10, 17)),
        "matrices 0": ("damaged", with_model(11, 0)),
        "matrices 8": ("damaged", with_model(11, 8)),
        "pace": ("damaged", with_model(12, 0)),
        "segment 0": ("damaged", with_model(13, 0)),
        "segment 513": ("damaged", with_model(13, *wire.varint(513))),
        "no ID": ("damaged", with_model(14, 0)),
        "ID": ("damaged", with_model(15, 0x7F)),
        "size 0": ("damaged", coded(0, 0, 0)),
        "size": ("damaged", coded(2**24 + 1, 5, 1)),
        "no symbols": ("damaged", coded(9, 0, 0)),
        "more symbols than bytes": ("damaged", coded(9, 10, 1)),
        "no lanes": ("damaged", coded(9, 5, 0)),
        "lanes": ("damaged", coded(9000, 9000, 4097)),
        "check cut off": ("damaged", start + record(b"M", model) + record(b"C", block[:-1]) + end),
        "form block without a model": ("damaged", start + record(b"F", b"\x09\0\0\x09\5\1" + bytes(4)) + end),
        "a form of the future, and nothing else": ("unsupported", start + record(b"F", b"\x09\2") + end),
        "a form of the future, and a size of 0": ("unsupported", start + record(b"F", b"\0\2") + end),
        "side information that does not fit": (
            "damaged",
            start + record(b"M", model) + record(b"F", b"\x09\0\2\1\x09\x09\5\1" + bytes(4)) + end,
        ),
        "form block, model not to be had": ("model", start + record(b"M", model) + record(b"F", b"\x09\0\2\1\3\6\5\1" + bytes(4)) + end),
        "model in another frame": ("damaged", start + record(b"M", model) + end + start + record(b"C", block) + end),
        "model not to be had": ("model", start + record(b"M", model) + record(b"C", block) + end),
        "stored block": ("damaged", start + record(b"S", bytes(2**24 + 1))),
        "end with a byte too many": ("damaged", start + record(b"E", b"\0" + hashlib.sha256(b"").digest()[:9])),
        "end of another size": ("damaged", start + record(b"E", b"\1" + hashlib.sha256(b"").digest()[:8])),
        "end of another hash": ("damaged", start + record(b"E", b"\0" + bytes(8))),
        "end of a size above 2^63": ("damaged", start + record(b"E", wire.varint(2**63 + 1) + hashlib.sha256(b"").digest()[:8])),
        **{f"xz {name}": ("damaged", archive) for name, archive in xz_blocks(start, end).items()},
    }


def xz_blocks(start: bytes, end: bytes) -> dict[str, bytes]:
    """Frames with an xz block that is wrong in one way."""
    content = b"again and again " * 9
    # One chunk of LZMA2 that is not compressed, with a reset of the dictionary, and the end.
    stream = b"\x01" + (len(content) - 1).to_bytes(2, "big") + content + b"\0"
    crc = zlib.crc32(content).to_bytes(4, "little")
    size = len(content)
    bodies = {
        "without its end": wire.varint(size) + crc + stream[:-1],
        "that goes on": wire.varint(size) + crc + stream + b"\0",
        "of another size": wire.varint(size - 1) + crc + stream,
        "shorter than stated": wire.varint(size + 1) + crc + stream,
        "of another CRC": wire.varint(size) + bytes(4) + stream,
        "that is rubbish": wire.varint(size) + crc + b"\x77" * 30,
        "without a stream": wire.varint(0) + bytes(4),
    }
    good = start + record(b"X", wire.varint(size) + crc + stream) + record(b"E", wire.varint(size) + hashlib.sha256(content).digest()[:8])
    assert llmzip.decompress(good) == content
    return {name: start + record(b"X", body) + end for name, body in bodies.items()}


def test_rejections() -> None:
    cases = rejected()
    results = decode(None, {name: archive for name, (_, archive) in cases.items()})
    for name, (stated, archive) in cases.items():
        assert (results[name][0], kind(archive)) == (stated, stated), name


def test_not_reproduced(tiny_folder: Path) -> None:
    """Records that are intact, with bits no encoder would write."""
    base = GOLDEN["good-tiny"]
    at = 7 + base[6] + 4  # the coded block begins after the model record; the length of its body has two bytes
    body = base[at + 3 : at + 3 + (base[at + 1] & 0x7F) + 128 * base[at + 2]]
    assert base[at:].startswith(record(b"C", body))
    head, tail = base[:at], base[at + 7 + len(body) :]
    archives = {
        "a target of no symbol": head + record(b"C", body[:9] + b"\xff" * 200) + tail,
        "other symbols": head + record(b"C", body[:-9] + bytes(9)) + tail,
    }
    results = decode(tiny_folder, archives)
    assert [result[0] for result in results.values()] == ["not reproduced"] * 2
    assert len(results["a target of no symbol"][1]) < len(results["other symbols"][1])


def test_messages(tiny_folder: Path) -> None:
    codec = MessageCodec(Options(model=str(tiny_folder)))
    made = [*codec.encode([text.encode() for text in MESSAGES]), b"", bytes([7, 200, 1, 99])]
    results = decode(tiny_folder, messages={str(i): data.hex() for i, data in enumerate(made)})
    assert list(results.values()) == [*(text.encode().hex() for text in MESSAGES), "damaged", "damaged"]


def test_scaled_positions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a folder with Llama 3.1's rule, and of a GGUF file that holds the divisors."""
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    folder = tiny.write_folder(tmp_path / "scaled")
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps(settings | {"rope_scaling": rope}), "utf-8")
    slower = load_float_model(folder).config.rope_divisors
    path = write_gguf(tmp_path / "m.gguf", folder, lambda w: w.add_tensor("rope_freqs.weight", np.array(slower, np.float32)))
    for place in (folder, path):
        archive = llmzip.compress(TEXT[:1200], model=str(place), lanes=2)
        assert summarise(io.BytesIO(archive)).coded == 1
        assert b"C" in archive
        assert decode(place, {"it": archive})["it"][0] == TEXT[:1200].hex()


def test_tokens_with_byte_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a folder, whose tokenizer has merges, and of a GGUF file, which has scores."""
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    folder = tiny.write_folder(tmp_path / "model")
    (folder / "tokenizer.json").write_text(json.dumps(tiny.sentencepiece()), "utf-8")
    texts = {"plain": TEXT[:1200], "odd": TEXT[:900] + "\u2581 \u4e2d\0<s><0x41>\n\n\xff".encode()}
    for place in (folder, write_gguf(tmp_path / "m.gguf", folder)):
        archives = {name: llmzip.compress(text, model=str(place), lanes=2) for name, text in texts.items()}
        messages = list(MessageCodec(Options(model=str(place))).encode([text.encode() for text in MESSAGES]))
        results = decode(place, archives, messages={f"message {i}": data.hex() for i, data in enumerate(messages)})
        for name, archive in archives.items():
            assert summarise(io.BytesIO(archive)).coded == 1
            assert llmzip.decompress(archive) == texts[name]
            assert results[name][0] == texts[name].hex()
        assert [results[f"message {i}"] for i in range(len(messages))] == [text.encode().hex() for text in MESSAGES]


def rows_of(heading: str) -> list[list[str]]:
    """Cells of the first table after `heading` in docs/format.md, without its head."""
    lines = FORMAT[FORMAT.index(heading) :].split("\n")
    first = next(i for i, line in enumerate(lines) if line.startswith("|---")) + 1
    last = next(i for i, line in enumerate(lines) if i > first and not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[first:last]]


def test_registered_model(real_model: IntegerModel) -> None:
    """Its archives, two messages, the check values of section 10 and the example of section 12.2, from the weights as published."""
    float_reference.float_model(DEFAULT_MODEL)
    (published,) = (store.cache_dir() / "float").glob("SmolLM2*.gguf")
    runner = CliRunner()
    messages = {text: runner.invoke(llmzip_command, ["message", "--format", "hex", text]).output.strip() for text in MESSAGES}
    archives = {name: GOLDEN[name] for name in ("good-real-message", "good-real-sole", "good-real-lanes", "good-real-form")}
    results = decode(published, archives, messages=messages, checks=True)
    for name in archives:
        assert results[name][0] == CONTENTS[name].hex()
    for text in MESSAGES:
        assert bytes.fromhex(results[text]).decode() == text

    checks = results["checks"]
    stated = [*rows_of("*Conversion.*"), *rows_of("*Predictor.*")]
    assert len(stated) == 10
    for name, *crcs in stated:
        assert checks[name].split() == [crc.strip("`") for crc in crcs], name
    assert f"`{checks['logits']}`" in FORMAT
    assert f"`{checks['frequencies']}`" in FORMAT
    (tokens,) = re.findall(r"```tokens\n(.*?)```", (ROOT / "docs" / "message.md").read_text("utf-8"), re.S)
    assert [int(n) for n in tokens.split(",")] == json.loads(checks["tokens"])

    rows = rows_of("In each row R and D are those before the symbol")
    for step, _, _, target, low, f, s, _ in rows:
        coded = results["good-real-message"][1][int(step)]
        assert coded[:6] == [int(step), 0, int(target), int(low), int(f), int(s)]


def test_worked_example() -> None:
    """The dump of section 12.2 is the golden archive, its fields are where the table says, and R and D follow from the numbers stated."""
    section = FORMAT[FORMAT.index("### 12.2") :]
    archive = bytes.fromhex(re.findall(r"```hex\n(.*?)```", section, re.S)[0])
    assert archive == GOLDEN["good-real-message"]
    assert re.findall(r"```text\n(.*?)```", section, re.S)[0].encode() == CONTENTS["good-real-message"]
    at = 0
    for offset, data, field in rows_of("### 12.2"):
        assert int(offset) == at, field
        field_bytes = bytes.fromhex(data.strip("`"))
        assert archive[at : at + len(field_bytes)] == field_bytes
        at += len(field_bytes)
        for first, last, crc in re.findall(r"CRC-32 of the bytes at (\d+) to (\d+), 0x(\w+)", field):
            assert zlib.crc32(archive[int(first) : int(last) + 1]) == int(crc, 16)
    assert at == len(archive)

    rows = [[int(cell) for cell in row[:7]] for row in rows_of("In each row R and D are those before the symbol")]
    bits = int.from_bytes(archive[63:84], "big") << 64
    taken, r = 32, 2**32 - 1
    d = bits >> (168 + 64 - taken)
    for i, (step, stated_r, stated_d, target, low, f, _) in enumerate(rows[:5]):
        assert (step, stated_r, stated_d) == (i, r, d)
        assert target == ((d + 1) * 2**28 - 1) // r
        below = r * low // 2**28
        width = r * (low + f) // 2**28 - below
        m = 32 - width.bit_length()
        taken += m
        r, d = width << m, ((d - below) << m) + ((bits >> (168 + 64 - taken)) & (2**m - 1))


def test_worked_example_of_a_sole_block() -> None:
    """The dump of section 12.3 is the golden archive, and its fields are where the table says."""
    section = FORMAT[FORMAT.index("### 12.3") :]
    archive = bytes.fromhex(re.findall(r"```hex\n(.*?)```", section, re.S)[0])
    assert archive == GOLDEN["good-real-sole"]
    fields = [(int(offset), bytes.fromhex(data.strip("`"))) for offset, data, _ in rows_of("### 12.3")]
    assert b"".join(data for _, data in fields) == archive
    assert all(archive.startswith(data, offset) for offset, data in fields)
    assert zlib.crc32(archive[4:-4]) == int.from_bytes(archive[-4:], "little")
    assert f"0x{zlib.crc32(archive[4:-4]):08X}" in section


def test_worked_example_of_a_form() -> None:
    """The dump of section 12.4 is the golden archive, and its fields are where the table says."""
    section = FORMAT[FORMAT.index("### 12.4") :]
    archive = bytes.fromhex(re.findall(r"```hex\n(.*?)```", section, re.S)[0])
    assert archive == GOLDEN["good-real-form"]
    assert CONTENTS["good-real-form"] == (b"\xef\xbb\xbf" + CONTENTS["good-real-message"]).decode().encode("utf-16-le")
    at = 54
    for offset, data, field in rows_of("### 12.4"):
        assert int(offset) == at, field
        field_bytes = bytes.fromhex(data.strip("`"))
        assert archive[at : at + len(field_bytes)] == field_bytes
        at += len(field_bytes)
    (first, last, crc) = re.findall(r"CRC-32 of the bytes at (\d+) to (\d+), 0x(\w+)", section)[0]
    assert zlib.crc32(archive[int(first) : int(last) + 1]) == int(crc, 16)


def test_form_of_section_10() -> None:
    text, side, content = (
        bytes.fromhex(h) for h in re.findall(r"\*Form blocks\.\* Text `(.*?)` and items `(.*?)` give the 16 bytes\n`(.*?)`", FORMAT)[0]
    )
    assert forms.restore(forms.read_side(side, False, 16, len(text)), text, 16) == content


def test_command(tiny_folder: Path, tmp_path: Path) -> None:
    def run(*args: object) -> tuple[int, str]:
        done = subprocess.run([sys.executable, DECODER, *map(str, args)], cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    for name in ("good-tiny", "bad-cut", "unsupported-version", "good-tiny-opening"):
        (tmp_path / f"{name}.llz").write_bytes(GOLDEN[name])
    out = tmp_path / "out"
    for code, name, *more in (
        (1, "bad-cut"), (1, "unsupported-version"), (1, "missing"), (3, "good-tiny"), (3, "good-tiny", "--model", "nowhere"),
        (3, "good-tiny-opening", "--model", tiny_folder), (3, "good-tiny", "--model", "bad-cut.llz"),
    ):  # fmt: skip
        returned, said = run(f"{name}.llz", "-o", out, *more)
        assert (returned, said.count("\n"), out.exists()) == (code, 1, False), said
        assert said.startswith("reference_decoder: ")
    assert run("good-tiny.llz", "--model", tiny_folder)[0] == 2
    assert run("good-tiny-opening.llz", "-o", out, "--model", tiny_folder, "--opening", "5,80,3", "--trace")[1].count("\n") > 400
    assert out.read_bytes() == CONTENTS["good-tiny-opening"]
