"""What a model is read from: GGUF, safetensors with their JSON, and the files of `llmzip models export`."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from llmzip.errors import LLZError, ModelFormatError, ModelMismatchError, ModelUnavailableError
from llmzip.models import gguf_file, store, transfer
from llmzip.models.config import ModelConfig
from llmzip.models.convert import LARGEST, IntegerModel, convert, tensor_layout
from llmzip.models.sources import load_float_model
from tests.support import tiny
from tests.support.fuzzing import coding, mutation

CONFIG = ModelConfig(1, 4, 1, 1, 4, 4, len(tiny.vocabulary()), 10000.0, float(np.float32(1e-5)), 1)
DEEP = object()  # stands for JSON too deep to read
ODD: list[Any] = [
    None,
    True,
    [],
    {},
    "",
    "x",
    "\ud800",
    "x" * 5000,
    "\x1b[2J\n",
    "local:a:0123456789abcdef",
    -1,
    0,
    0.5,
    1,
    3,
    64,
    1 << 17,
    1 << 24,
    1 << 70,
]
ODD += [1e400, -1e400, float("nan"), 1e-50, 10**400, DEEP, [[]] * 50, {"type": "x"}, [1.5], [-1], [0, 0], ["a", "b"], [["a", "b"]]]


def _kept(error: LLZError) -> str:
    text = str(error)
    assert text.isprintable(), "the message is not one line"
    assert len(text) < 1000, "the message is too long"
    return type(error).__name__


def _sound(model: IntegerModel) -> None:
    """What the kernels rely on."""
    assert {n: (t.dtype.name, t.shape) for n, t in model.tensors.items()} == tensor_layout(model.config)
    for name, t in model.tensors.items():
        if name.endswith(".scale"):
            assert ((t > 0) & (t <= LARGEST)).all()
        else:
            assert t.min(initial=0) > np.iinfo(t.dtype).min
    assert len(model.tokenizer.token_bytes()) == model.config.vocab


def _codes(model: IntegerModel) -> None:
    codec = coding.codec_of(model)
    loaded = codec.blocks.models.own()
    text = coding.TEXT[:60]
    archive = coding.archive([loaded.record(), coding.block(loaded, loaded.record(), text, 2)])
    assert codec.decompress(archive) == text


class Files:
    """Targets that work in a folder, and check that nothing appears beside it.

    Args:
        base: an empty folder.
        every: one in so many models that are accepted must code a text; none does if it is 0.
    """

    def __init__(self, base: Path, every: int = 50) -> None:
        self._every, self._work, self._source = every, base / "work", base / "source"
        self._work.mkdir()
        (base / "sentinel").write_bytes(b"untouched")
        self._base, self._beside = base, ["sentinel", "source", "work"]
        tiny.write_folder(self._source, "tiny", CONFIG)
        self.files = tuple((self._source / name).read_bytes() for name in ("config.json", "tokenizer.json", "model.safetensors"))
        self._accepted = 0

    def _check(self, model: IntegerModel) -> str:
        _sound(model)
        self._accepted += 1
        if self._every and self._accepted % self._every == 1:
            _codes(model)
        return "accepted"

    def gguf(self, data: bytes) -> str:
        """A .gguf file."""
        path = self._work / "model.gguf"
        path.write_bytes(data)
        try:
            return self._check(convert(load_float_model(path)))
        except ModelFormatError as e:
            return _kept(e)

    def folder(self, files: tuple[bytes, bytes, bytes]) -> str:
        """A folder with config.json, tokenizer.json and safetensors."""
        for name, data in zip(("config.json", "tokenizer.json", "model.safetensors"), files, strict=True):
            (self._work / name).write_bytes(data)
        try:
            return self._check(convert(load_float_model(self._work)))
        except ModelFormatError as e:
            return _kept(e)

    def export(self, data: bytes) -> str:
        """A file for `llmzip models import`."""
        before, cache = os.environ.get("LLMZIP_CACHE"), self._base / "cache"
        os.environ["LLMZIP_CACHE"] = str(cache)
        try:
            cached = transfer.import_model(io.BytesIO(data), force=True)
            outcome = self._check(store.load(cached))
            assert cached.folder.parent == cache / "models"
            store.remove(cached.folder)
        except (transfer.ExportFileError, ModelMismatchError, ModelUnavailableError) as e:  # the last where there is no room for it
            outcome = _kept(e)
        finally:
            del os.environ["LLMZIP_CACHE"]
            if before is not None:
                os.environ["LLMZIP_CACHE"] = before
        assert sorted(p.name for p in self._base.iterdir()) == sorted([*self._beside, "cache"]), "something appeared beside the cache"
        assert not list((cache / "models").iterdir()), "something was left in the cache"
        return outcome

    def ggufs(self, rng: Random) -> Iterator[bytes]:
        """Headers with other numbers, weights of odd values, and blind damage."""
        good = small_gguf(load_float_model(self._source))
        numbers = _numbers(good)
        while True:
            kind = rng.random()
            if kind < 0.3:
                cut = rng.randrange(len(good)) if rng.random() < 0.2 else numbers[-1][0] + 100
                yield mutation.blind(rng, good[:cut]) + good[cut:]
                continue
            out = bytearray(good)
            for _ in range(rng.choice((1, 1, 2, 3))):
                at, size = rng.choice(numbers)
                if kind > 0.9:
                    at, size = rng.randrange(numbers[-1][0] + 64, len(out) - 4) & -4, 4
                    out[at : at + 4] = struct.pack("<f", rng.choice((1e38, -3e38, float("inf"), float("nan"), 1e-45, 0.0, 1e4)))
                else:
                    value = rng.choice((*mutation.EDGES, int.from_bytes(out[at : at + size], "little") + rng.choice((-1, 1, 8))))
                    out[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
            yield bytes(out)

    def folders(self, rng: Random) -> Iterator[tuple[bytes, bytes, bytes]]:
        """One of the three files changed: values of its JSON, or anything."""
        while True:
            files, which = list(self.files), rng.randrange(3)
            if rng.random() < 0.2:
                files[which] = mutation.blind(rng, files[which])
            elif which < 2:
                files[which] = _odd_json(rng, json.loads(files[which]))
            else:
                files[2] = _odd_tensors(rng, files[2])
            yield files[0], files[1], files[2]

    def exports(self, rng: Random) -> Iterator[bytes]:
        """Exported models with damage, and with whatever a forger would write, its digests right."""
        model = convert(load_float_model(self._source))
        good = forged(model.config.as_dict(), json.loads(model.tokenizer.to_json()), model.tensors)
        while True:
            kind = rng.random()
            if kind < 0.25:
                yield mutation.blind(rng, good)
            elif kind < 0.5:
                yield _odd_tar(rng, good)
            else:
                yield self._forged(rng, model)

    @staticmethod
    def _forged(rng: Random, model: IntegerModel) -> bytes:
        config, tokenizer = dict(model.config.as_dict()), json.loads(model.tokenizer.to_json())
        tensors, meta = dict(model.tensors), {}
        kind = rng.randrange(4)
        if kind == 0:
            config = _odd_value(rng, config)
        elif kind == 1:
            tokenizer = _odd_value(rng, tokenizer)
        elif kind == 2:
            name = rng.choice(list(tensors))
            t = tensors[name].copy()
            if rng.random() < 0.7:
                odd = (
                    (np.inf, np.nan, 3e38, 0.0, -1.0, 17.0, 1e-45)
                    if t.dtype.kind == "f"
                    else (np.iinfo(t.dtype).min, np.iinfo(t.dtype).max)
                )
                t.flat[rng.randrange(t.size)] = rng.choice(odd)
            else:
                t = rng.choice((t[:-1], t.reshape(-1), t.astype(np.float64), t[..., None], t[:0]))
            tensors[name] = np.ascontiguousarray(t)
        else:
            meta = {rng.choice(("id", "layout", "digest", "tokenizer", "config")): _text(rng.choice(ODD))}
        return forged(config, tokenizer, tensors, meta)


def small_gguf(model: Any) -> bytes:
    """The model as a GGUF file, written by hand: a few entries and float32 tensors."""
    names = {"embed": "token_embd", "norm": "output_norm", "head": "output"}
    parts = {"attn_norm": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output"}
    parts |= {"ffn_norm": "ffn_norm", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}
    wanted = {f"{stored}.weight": model.tensor(name) for name, stored in names.items()}
    wanted |= {f"blk.0.{stored}.weight": model.tensor(f"0.{name}") for name, stored in parts.items()}

    def string(text: str) -> bytes:
        return struct.pack("<Q", len(text.encode())) + text.encode()

    def strings(texts: list[str]) -> bytes:
        return struct.pack("<IIQ", 9, 8, len(texts)) + b"".join(map(string, texts))

    c = model.config
    counts = {"block_count": c.layers, "embedding_length": c.width, "feed_forward_length": c.ffn, "attention.head_count": c.heads}
    entries = [string("general.architecture") + struct.pack("<I", 8) + string("llama")]
    entries += [string(f"llama.{name}") + struct.pack("<II", 4, n) for name, n in counts.items()]
    entries += [string("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, c.norm_eps)]
    entries += [string("tokenizer.ggml.bos_token_id") + struct.pack("<II", 4, c.bos)]
    entries += [string("tokenizer.ggml.model") + struct.pack("<I", 8) + string("gpt2")]
    entries += [string("tokenizer.ggml.scores") + struct.pack("<IIQ3f", 9, 6, 3, 1, 2, 3)]
    entries += [string("tokenizer.ggml.tokens") + strings(list(model.tokenizer.tokens))]
    entries += [string("tokenizer.ggml.merges") + strings([" ".join(m) for m in model.tokenizer.merges])]
    infos, data = [], b""
    for name, t in wanted.items():
        shape = t.shape[::-1]
        infos.append(string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data)))
        data += t.tobytes() + bytes(-t.nbytes % 32)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(entries)) + b"".join(entries) + b"".join(infos)
    return header + bytes(-len(header) % 32) + data


def _numbers(data: bytes) -> list[tuple[int, int]]:
    """Where the header's numbers are, and their sizes."""
    found = []

    class Watching(gguf_file._Fields):
        def number(self, form: str) -> Any:
            found.append((self.at, struct.calcsize(form)))
            return super().number(form)

    header = Watching(memoryview(data))
    header.take(4)
    header.number("<I")
    tensors, entries = header.number("<Q"), header.number("<Q")
    for _ in range(entries):
        header.string()
        header.value(header.number("<I"))
    for _ in range(tensors):
        header.tensor()
    tokens = [n for n in found if data[n[0] + 8 : n[0] + 9].isascii()]
    return found[:60] + tokens[60::40] + found[-60:]


def _odd_value(rng: Random, value: Any) -> Any:
    """A copy of JSON with one of its values, of any depth, replaced."""
    root = {"": copy.deepcopy(value)}
    at, key = root, ""
    while isinstance(at[key], (dict, list)) and at[key] and rng.random() < 0.7:
        at = at[key]
        key = rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))  # type: ignore[assignment]
    at[key] = rng.choice(ODD)
    return root[""]


def _text(value: Any, **style: Any) -> str:
    """JSON, of which DEEP is too deep."""
    text = json.dumps(value, default=lambda _: "deep", **style)
    return text.replace('"deep"', "[" * 100_000 + "]" * 100_000)


def _odd_json(rng: Random, value: Any) -> bytes:
    return _text(_odd_value(rng, value)).encode()


def _odd_tensors(rng: Random, data: bytes) -> bytes:
    """A safetensors file whose header says something else."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    entry = rng.choice(list(header.values()))
    kinds = ["F64", "F32", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "F8_E8M0", "F4", "C64", "X" * 400]
    change = rng.choice(("dtype", "shape", "data_offsets", "any"))
    if change == "dtype":
        entry["dtype"] = rng.choice(kinds)
    elif change == "any":
        header = _odd_value(rng, header)
    else:
        entry[change][rng.randrange(len(entry[change]))] = rng.choice((-1, *mutation.EDGES))
    text = _text(header).encode()
    length = rng.choice((len(text), len(text), len(text), *mutation.EDGES[-12:])) % (1 << 64)
    return length.to_bytes(8, "little") + text + data[8 + size :]


def forged(config: Any, tokenizer: Any, tensors: dict[str, Any], meta: dict[str, str] | None = None) -> bytes:
    """An export file of anything, whose digests are right."""
    digest, words = (
        hashlib.sha256(_text(config).encode() if DEEP in _leaves(config) else json.dumps(config, sort_keys=True).encode()),
        _text(tokenizer, sort_keys=True, separators=(",", ":")),
    )
    for name in ("embed", "head", *(f"0.{part}" for part in ("qkv", "o", "gate_up", "down"))):
        for n in (name, f"{name}.scale"):
            t = tensors[n]
            digest.update(f"{n} {t.dtype.str.lstrip('<|')} {list(t.shape)}\n".encode() + t.tobytes())
    said = {"id": "local:x:0123456789abcdef", "layout": "1", "digest": digest.hexdigest(), "config": _text(config)}
    said |= {"tokenizer": hashlib.sha256(words.encode()).hexdigest()} | (meta or {})
    return tar({store.TOKENIZER: words.encode(), store.WEIGHTS: save_tensors(tensors, said)})


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, (dict, list)):
        return [leaf for v in (value.values() if isinstance(value, dict) else value) for leaf in _leaves(v)]
    return [value]


def tar(members: dict[str, bytes]) -> bytes:
    """As export writes it."""
    out = b""
    for name, data in members.items():
        info = tarfile.TarInfo(name)
        info.size = len(data)
        out += info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)
    return out + bytes(1024)


NAMES = [
    "../sentinel",
    "../../evil",
    "/tmp/llmzip-evil",
    "a/../../evil",
    "tokenizer.json/",
    "./tokenizer.json",
    "weights.safetensors",
    "x" * 99,
    ".lock",
    "",
]
KINDS = [
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
    tarfile.CHRTYPE,
    tarfile.GNUTYPE_SPARSE,
    b"x",
    b"g",
    b"L",
    b"K",
]


def _odd_tar(rng: Random, good: bytes) -> bytes:
    """With one member's header changed, its checksum right."""
    at = 0
    if rng.random() < 0.5:
        size = tarfile.TarInfo.frombuf(good[:512], "ascii", "strict").size
        at = 512 + size + -size % 512
    info = tarfile.TarInfo.frombuf(good[at : at + 512], "ascii", "strict")
    kind = rng.randrange(4)
    if kind == 0:
        info.name = rng.choice(NAMES)
    elif kind == 1:
        info.type, info.linkname = rng.choice(KINDS), rng.choice(NAMES)
    elif kind == 2:
        info.size = rng.choice((0, 1, 511, 1 << 26, (1 << 26) + 1, 1 << 38, (1 << 38) + 1, 1 << 62, info.size + 1, max(0, info.size - 1)))
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    if kind == 3:
        header = bytearray(mutation.blind(rng, bytes(header))[:512].ljust(512, b"\0"))
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    return good[:at] + bytes(header) + good[at + 512 :]


def weights(files: tuple[bytes, bytes, bytes]) -> dict[str, Any]:
    """The tensors of a folder's safetensors file."""
    return load_tensors(files[2])
