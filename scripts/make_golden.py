"""Makes the golden archives in tests/golden, or checks that making them again gives the same bytes.

    python scripts/make_golden.py [--check]

`good-*` must decode to what `contents()` gives for them and be reproduced byte for byte; `bad-*` and `unsupported-*` must
be refused with the error named here; from `bad-parity-*`, repair makes `good-parity`. Two of them use the real default model, the others a tiny one made from a seed.
One of those two is also part of the package, with its content: `llmzip models verify` decodes it.
"""

from __future__ import annotations

import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import tiny  # noqa: E402

from llmzip import container as ct  # noqa: E402
from llmzip.codec import Codec, LoadedModel, Options  # noqa: E402
from llmzip.errors import DamagedArchiveError, LLZError, NotAnArchiveError, UnsupportedArchiveError  # noqa: E402
from llmzip.models import resolve  # noqa: E402
from llmzip.models.convert import IntegerModel, convert  # noqa: E402
from llmzip.models.registry import DEFAULT_MODEL  # noqa: E402
from llmzip.models.sources import load_float_model  # noqa: E402
from llmzip.parameters import DEFAULT_LEVEL, FROZEN, LEVELS, AdapterParameters, BiasParameters, NeighbourParameters  # noqa: E402

FOLDER = ROOT / "tests" / "golden"
PACKAGED = ROOT / "llmzip" / "models" / "golden"
MESSAGE = "Meet at the old harbour wall at 19:30 — bring the charts, and don't forget a lamp.\n".encode()
TEXT = (ROOT / "examples" / "harbour.txt").read_bytes()


def contents() -> dict[str, bytes]:
    """What each good archive holds."""
    return {
        "good-empty": b"",
        "good-stored": bytes(range(256)),
        "good-xz": b"again and again, " * 200,
        "good-parity": bytes(range(256)),
        "good-tiny": TEXT[:600],
        "good-tiny-lanes": TEXT[:1200] + b"\xff\x04 raw \r\n\0",
        "good-tiny-blocks": TEXT[:1500],
        "good-tiny-opening": TEXT[:600],
        "good-tiny-chosen": TEXT[:600],
        "good-tiny-frozen": TEXT[:600],
        "good-tiny-bias": TEXT[:900],
        "good-tiny-neighbours": TEXT[:900],
        "good-tiny-level-1": TEXT[:600],
        "good-tiny-level-9": TEXT[:600],
        "good-concatenated": TEXT[:600] + bytes(range(256)) + TEXT[:600],
        "good-real-message": MESSAGE,
        "good-real-lanes": TEXT[:1500],
    }


class _Coding(Codec):
    """Codes every block with one given model, so that small archives show every part of the format."""

    def __init__(self, model_id: str, model: IntegerModel, **options: int | AdapterParameters) -> None:
        super().__init__(Options(**options))  # type: ignore[arg-type]
        self._own = LoadedModel(model_id, model, self.options)

    def _without_model(self, content: bytes) -> tuple[ct.StoredBlock | ct.XzBlock, bool]:
        return ct.StoredBlock(content + bytes(1 << 16)), False


def tiny_model() -> IntegerModel:
    """The tiny model of the tests."""
    with tempfile.TemporaryDirectory() as folder:
        return convert(load_float_model(tiny.write_folder(Path(folder))))


def with_opening(model: IntegerModel) -> IntegerModel:
    """The tiny model, with an opening."""
    return replace(model, config=replace(model.config, opening=(5, 80, 3)))


def good() -> dict[str, bytes]:
    """The good archives, made now."""
    want, small, real = contents(), tiny_model(), resolve.load(DEFAULT_MODEL)
    made = {name: Codec().compress(want[name]) for name in ("good-empty", "good-stored", "good-xz")}
    made["good-parity"] = Codec(Options(parity=10)).compress(want["good-parity"])
    full = LEVELS[DEFAULT_LEVEL].adapter  # stated: for texts as short as these an encoder may choose less
    made["good-tiny"] = _Coding("local:tiny", small, adapter=full).compress(want["good-tiny"])
    made["good-tiny-lanes"] = _Coding("local:tiny", small, adapter=full, lanes=5).compress(want["good-tiny-lanes"])
    made["good-tiny-blocks"] = _Coding("local:tiny", small, adapter=full, block_bytes=500).compress(want["good-tiny-blocks"])
    made["good-tiny-opening"] = _Coding("local:tiny", with_opening(small), adapter=full, lanes=2).compress(want["good-tiny-opening"])
    made["good-tiny-chosen"] = _Coding("local:tiny", small).compress(want["good-tiny-chosen"])
    for name, adapter in {
        "frozen": FROZEN,
        "bias": AdapterParameters(7, BiasParameters(80, 1), None),
        "neighbours": AdapterParameters(40, None, NeighbourParameters(8, 40)),
    }.items():
        lanes = 1 if name == "frozen" else 3
        made[f"good-tiny-{name}"] = _Coding("local:tiny", small, adapter=adapter, lanes=lanes).compress(want[f"good-tiny-{name}"])
    for level in (1, 9):
        coding = _Coding("local:tiny", small, level=level, adapter=LEVELS[level].adapter)
        made[f"good-tiny-level-{level}"] = coding.compress(want[f"good-tiny-level-{level}"])
    made["good-concatenated"] = made["good-tiny"] + made["good-stored"] + made["good-tiny"]
    made["good-real-message"] = _Coding(DEFAULT_MODEL, real).compress(want["good-real-message"])
    made["good-real-lanes"] = _Coding(DEFAULT_MODEL, real, adapter=full, lanes=4).compress(want["good-real-lanes"])
    return made


def _record(tag: bytes, body: bytes) -> bytes:
    framed = tag + ct.varint(len(body)) + body
    return framed + struct.pack("<I", zlib.crc32(framed))


def refused(base: bytes, protected: bytes) -> dict[str, tuple[type[LLZError], bytes]]:
    """Archives that must be refused, made from `good-tiny` and `good-parity`."""
    end = ct.encode_record(ct.WholeCheck().record())
    model = ct.ModelRecord("local:tiny", b"0" * ct.DIGEST_BYTES, b"0" * ct.TOKENIZER_BYTES, 1280, 4, FROZEN).body()
    middle = len(base) // 2
    cases: dict[str, Callable[[], tuple[type[LLZError], bytes]]] = {
        "bad-magic": lambda: (NotAnArchiveError, b"\x89LLX" + base[4:]),
        "bad-cut": lambda: (DamagedArchiveError, base[:middle]),
        "bad-no-end": lambda: (DamagedArchiveError, base[: -len(end)]),
        "bad-flipped-bit": lambda: (DamagedArchiveError, base[:middle] + bytes([base[middle] ^ 16]) + base[middle + 1 :]),
        "bad-trailing": lambda: (DamagedArchiveError, base + b"rubbish"),
        "bad-length": lambda: (DamagedArchiveError, ct.frame_start() + b"S" + ct.varint(1 << 40)),
        "bad-lanes": lambda: (DamagedArchiveError, ct.frame_start() + _record(b"C", ct.CodedBlock(9, 5, 6, 0, b"").body()) + end),
        "bad-no-model": lambda: (DamagedArchiveError, ct.frame_start() + _record(b"C", ct.CodedBlock(9, 5, 1, 0, b"").body()) + end),
        "bad-parity-block": lambda: (DamagedArchiveError, protected[:40] + bytes(30) + protected[70:]),
        "bad-parity-frame": lambda: (DamagedArchiveError, protected[:-60] + bytes(60)),
        "bad-parity-head": lambda: (NotAnArchiveError, protected[31:]),
        "unsupported-version": lambda: (UnsupportedArchiveError, ct.MAGIC + b"\x02" + base[5:]),
        "unsupported-arithmetic": lambda: (UnsupportedArchiveError, ct.frame_start() + _record(b"M", b"\x01" + model[1:]) + end),
        "unsupported-learning": lambda: (UnsupportedArchiveError, ct.frame_start() + _record(b"M", model[:4] + b"\x80" + model[5:]) + end),
        "unsupported-record": lambda: (UnsupportedArchiveError, ct.frame_start() + _record(b"Z", b"from the future") + end),
    }
    return {name: make() for name, make in cases.items()}


def packaged(archives: dict[str, bytes]) -> dict[Path, bytes]:
    """What goes into the package, by its place."""
    return {PACKAGED / f"{DEFAULT_MODEL}.llz": archives["good-real-lanes"], PACKAGED / "text.txt": contents()["good-real-lanes"]}


def main() -> None:
    """Writes or checks all archives."""
    archives = good()
    archives |= {name: data for name, (_, data) in refused(archives["good-tiny"], archives["good-parity"]).items()}
    files = {FOLDER / f"{name}.llz": data for name, data in archives.items()} | packaged(archives)
    check = "--check" in sys.argv
    for path, data in files.items():
        if check:
            print(f"{path.name}: {'same' if path.read_bytes() == data else 'DIFFERENT'}")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            print(f"{path.name}: {len(data)} bytes")
    if check and any(path.read_bytes() != data for path, data in files.items()):
        raise SystemExit("golden archives are not reproduced: the format has changed")


if __name__ == "__main__":
    main()
