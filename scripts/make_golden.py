"""Makes the golden archives in tests/golden, or checks that making them again gives the same bytes.

    python scripts/make_golden.py [--check | --model ID]

`good-*` must decode to what `contents()` gives for them, and be reproduced byte for byte. `bad-*` and `unsupported-*` must
be refused with the error that `bad_archives.py` names. `good-real-*` use the real default model, the others a tiny one made from a seed.
`good-real-lanes` is also part of the package, with its content: `llmzip models verify` decodes it.
"""

from __future__ import annotations

import io
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from typing import Any

from llmzip.archive import records
from llmzip.archive.forms import RUN, UTF_16BE, Item, Transcript
from llmzip.archive.parser import read_records
from llmzip.codec.any_model import LoadedModel
from llmzip.codec.block_codec import (
    BlockCodec,
    coded_block,
)
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModels, PretrainedModel
from llmzip.codec.policy import Policy
from llmzip.models import resolve
from llmzip.models.convert import IntegerModel, convert
from llmzip.models.registry import DEFAULT_MODEL
from llmzip.models.sources import load_float_model
from llmzip.options import NEW, Options
from llmzip.parameters import (
    DEFAULT_LEVEL,
    DOWN,
    FROZEN,
    LEVELS,
    VALUES,
    AdapterParameters,
    AttentionSpan,
    BiasParameters,
    CorrectionParameters,
    NeighbourParameters,
)
from scripts.bad_archives import START, Refused, refused
from tests.support import tiny

FOLDER = ROOT / "tests" / "golden"
PACKAGED = ROOT / "llmzip" / "models" / "golden"
MESSAGE = "Meet at the old harbour wall at 19:30 — bring the charts, and don't forget a lamp.\n".encode()
TEXT = (ROOT / "examples" / "harbour.txt").read_bytes()
_WIDE = TEXT[:150].decode().encode("utf-16-le")
_FRENCH = "Où est passé le gardien ? « Il a été relevé », répondit Hélène à l’hôte.\n".encode("windows-1252") * 3


GOOD = {
    "good-empty": ("a frame without blocks", b""),
    "good-stored": ("a block as it is", bytes(range(256))),
    "good-stored-empty": ("a stored block and an xz block of no bytes", b""),
    "good-zeros-after": ("zeros after the last frame", bytes(range(256))),
    "good-xz": ("a block as xz", b"again and again, " * 200),
    "good-parity": ("a parity frame after a stored block", bytes(range(256))),
    "good-tiny": ("one block, one lane, the tiny model made from a seed", TEXT[:600]),
    "good-tiny-lanes": ("five lanes of unequal length, raw-byte symbols", TEXT[:1200] + b"\xff\x04 raw \r\n\0"),
    "good-tiny-blocks": ("several blocks under one model record", TEXT[:1500]),
    "good-tiny-models": ("several model records in a frame, two of them not used", TEXT[:200]),
    "good-tiny-opening": ("a model with an opening", TEXT[:600]),
    "good-tiny-chosen": ("what the encoder chooses for a short text", TEXT[:600]),
    "good-tiny-frozen": ("nothing learned", TEXT[:600]),
    "good-tiny-bias": ("biases alone, with parameters of their own", TEXT[:900]),
    "good-tiny-neighbours": ("neighbours alone, with parameters of their own", TEXT[:900]),
    "good-tiny-low": ("all parameters and the ID's length at their lower limits", TEXT[:150]),
    "good-tiny-high": ("all parameters and the ID's length at their upper limits, as many lanes as symbols", TEXT[:150]),
    "good-tiny-no-bits": ("an empty bitstream: the first symbol each time", b"<|endoftext|>" * 5),
    "good-tiny-level-1": ("the parameters of level 1", TEXT[:600]),
    "good-tiny-level-9": ("the parameters of level 9, without corrections", TEXT[:600]),
    "good-tiny-corrections": ("the parameters of level 9", TEXT[:900]),
    "good-tiny-corrections-alone": ("corrections alone, with parameters of their own, three lanes", TEXT[:700]),
    "good-tiny-utf-16": (
        "text in UTF-16LE, with a byte before and one after, and a surrogate alone",
        b"\0" + _WIDE + b"\0\xd8" + _WIDE + b"x",
    ),
    "good-tiny-windows": ("text in windows-1252, between runs", bytes(99) + _FRENCH + b"\xff" * 300 + TEXT[:80] + bytes(9)),
    "good-tiny-runs": ("so many runs that their list is packed", b"".join(TEXT[n : n + 9] + bytes(20 + n) for n in range(60))),
    "good-tiny-items": ("every kind of item, and what no encoder writes", b"ab" + bytes(3) + b"-" * 5 + "é€𐐷\n".encode("utf-16-be") * 2),
    "good-concatenated": ("three frames", TEXT[:600] + bytes(range(256)) + TEXT[:600]),
    "good-new": ("the network that starts from nothing, some lines three times", TEXT[:700] * 2 + TEXT[300:700]),
    "good-new-sole": ("the same as a sole block", TEXT[:700] * 2 + TEXT[300:700]),
    "good-new-form": ("the network, text in UTF-16", TEXT[:200].decode().encode("utf-16-le")),
    "good-real-message": ("the real default model, one lane", MESSAGE),
    "good-real-sole": ("the same message as a sole block", MESSAGE),
    "good-real-form": ("the real default model, text in UTF-16", ("\ufeff" + MESSAGE.decode()).encode("utf-16-le")),
    "good-real-corrections": ("the real default model, which learns", TEXT[:900]),
    "good-real-lanes": ("the real default model, four lanes", TEXT[:1500]),
}
README = """# Golden archives

Made by `scripts/make_golden.py`, and so is this list; a test makes them again and compares. `good-*` decode to what the script's
`contents()` gives; `bad-*` and `unsupported-*` must be refused; only repair makes
`good-parity` of `bad-parity-*`.

| file | what it shows, or what is wrong | error |
|---|---|---|
"""


def contents() -> dict[str, bytes]:
    """What each good archive holds."""
    return {name: content for name, (_, content) in GOOD.items()}


def codec_of(model_id: str, model: IntegerModel, **options: Any) -> Codec:
    """A codec that codes every block with one given model, so that small archives show every part of the format."""
    made = Options(**options)
    return Codec(made, blocks=BlockCodec(LoadedModels(made, PretrainedModel(model_id, model, made)), Policy.MODEL))


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
    made["good-zeros-after"] = made["good-stored"] + bytes(7)
    made["good-parity"] = Codec(Options(parity=10)).compress(want["good-parity"])
    full = LEVELS[DEFAULT_LEVEL].adapter  # given here, because for texts as short as these the encoder may choose fewer parts
    made["good-tiny"] = codec_of("local:tiny", small, adapter=full).compress(want["good-tiny"])
    made["good-tiny-lanes"] = codec_of("local:tiny", small, adapter=full, lanes=5).compress(want["good-tiny-lanes"])
    made["good-tiny-blocks"] = codec_of("local:tiny", small, adapter=full, block_bytes=500).compress(want["good-tiny-blocks"])
    made["good-tiny-opening"] = codec_of("local:tiny", with_opening(small), adapter=full, lanes=2).compress(want["good-tiny-opening"])
    made["good-tiny-chosen"] = codec_of("local:tiny", small).compress(want["good-tiny-chosen"])
    for name, adapter in {
        "frozen": FROZEN,
        "bias": AdapterParameters(7, BiasParameters(80, 1), None),
        "neighbours": AdapterParameters(40, None, NeighbourParameters(8, 40)),
        "corrections-alone": AdapterParameters(corrections=CorrectionParameters(3, 20, 255, VALUES | DOWN)),
    }.items():
        lanes = 1 if name == "frozen" else 3
        made[f"good-tiny-{name}"] = codec_of("local:tiny", small, adapter=adapter, lanes=lanes).compress(want[f"good-tiny-{name}"])
    for level in (1, 9):
        coding = codec_of("local:tiny", small, level=level, adapter=replace(LEVELS[level].adapter, corrections=None))
        made[f"good-tiny-level-{level}"] = coding.compress(want[f"good-tiny-level-{level}"])
    made["good-tiny-corrections"] = codec_of("local:tiny", small, level=9, adapter=LEVELS[9].adapter).compress(
        want["good-tiny-corrections"]
    )
    for name in ("utf-16", "windows", "runs"):
        made[f"good-tiny-{name}"] = codec_of("local:tiny", small, adapter=full).compress(want[f"good-tiny-{name}"])
    made |= _by_hand(PretrainedModel("local:tiny", small, Options()))
    for name in ("good-new-sole", "good-new-form"):
        made[name] = Codec(Options(model=NEW), blocks=BlockCodec(LoadedModels(Options(model=NEW)), Policy.MODEL)).compress(want[name])
    made["good-new"] = _in_records(want["good-new"], made["good-new-sole"])
    made["good-concatenated"] = made["good-tiny"] + made["good-stored"] + made["good-tiny"]
    made["good-real-message"] = _in_records(MESSAGE, codec_of(DEFAULT_MODEL, real, adapter=FROZEN).compress(MESSAGE))
    made["good-real-sole"] = codec_of(DEFAULT_MODEL, real).compress(MESSAGE)
    made["good-real-form"] = codec_of(DEFAULT_MODEL, real).compress(want["good-real-form"])
    made["good-real-corrections"] = codec_of(DEFAULT_MODEL, real, adapter=LEVELS[9].adapter).compress(want["good-real-corrections"])
    made["good-real-lanes"] = codec_of(DEFAULT_MODEL, real, adapter=full, lanes=4).compress(want["good-real-lanes"])
    return made


def _by_hand(loaded: LoadedModel) -> dict[str, bytes]:
    """The good archives that the encoder would not write."""
    want, plain = contents(), loaded.record(LEVELS[1])
    other = replace(plain, span=AttentionSpan(20), adapter=LEVELS[DEFAULT_LEVEL].adapter)
    nobody = replace(plain, model_id="nobody's", digest=bytes(records.DIGEST_BYTES))
    low = replace(
        plain, model_id=" ", span=AttentionSpan(1, 0), adapter=AdapterParameters(1, BiasParameters(1, 1), NeighbourParameters(4, 1))
    )
    high = replace(
        plain, model_id="~" * records.MAX_ID, span=AttentionSpan(records.MAX_WINDOW, records.MAX_SINKS, False),
        adapter=AdapterParameters(4096, BiasParameters(255, 255), NeighbourParameters(20, 255)),
    )  # fmt: skip
    text = want["good-tiny-models"]
    halves = [_block(loaded, m, part, 2) for m, part in ((plain, text[:100]), (other, text[100:]))]
    nothing = np.zeros(5, np.int32)
    coded: dict[str, list[records.Record]] = {
        "good-stored-empty": [records.StoredBlock(b""), records.XzBlock(0, 0, b"\0")],
        "good-tiny-models": [nobody, plain, halves[0], other, halves[1], nobody],
        "good-tiny-low": [low, _block(loaded, low, want["good-tiny-low"], 3)],
        "good-tiny-high": [high, _block(loaded, high, want["good-tiny-high"])],
        "good-tiny-items": [plain, _items(loaded, plain, want["good-tiny-items"])],
        "good-tiny-no-bits": [plain, _block(loaded, plain, want["good-tiny-no-bits"], 1, nothing)],
    }
    return {name: _frame(want[name], parts) for name, parts in coded.items()}


def _in_records(content: bytes, sole: bytes) -> bytes:
    """A frame of records that means the same as a sole block."""
    model, block, _ = (placed.record for placed in read_records(io.BytesIO(sole)))
    return _frame(content, [model, block])


def _frame(content: bytes, parts: list[records.Record]) -> bytes:
    whole = records.WholeCheck()
    whole.update(content)
    return START + b"".join(map(records.encode_record, [*parts, whole.record()]))


def _block(
    loaded: LoadedModel, model: records.ModelRecord, content: bytes, lanes: int | None = None, symbols: NDArray[np.int32] | None = None
) -> records.CodedBlock:
    """A block of `symbols`, by default those of the tokenizer, in `lanes` lanes, by default as many as there are symbols."""
    if symbols is None:
        symbols = loaded.alphabet.encode(content)
    lanes = lanes or len(symbols)
    return records.CodedBlock(len(content), len(symbols), lanes, records.content_check(content), loaded.coder(model).encode(symbols, lanes))


def _items(loaded: LoadedModel, model: records.ModelRecord, content: bytes) -> records.CodedBlock:
    """A block of three runs, one of them a single byte, and of UTF-16 in two parts."""
    text = "é€𐐷\n".encode()
    items = [
        Item(1, RUN, 1, ord("b")), Item(0, RUN, 3), Item(0, RUN, 5, ord("-")), Item(0, UTF_16BE, len(text)), Item(0, UTF_16BE, len(text)),
    ]  # fmt: skip
    transcript = Transcript(b"a" + text * 2, items)
    symbols = loaded.alphabet.encode(transcript.text)
    return coded_block(content, transcript, len(symbols), 2, loaded.coder(model).encode(symbols, 2))


def readme(bad: dict[str, Refused]) -> str:
    """The list of archives."""
    rows = [f"| {name} | {what} | |" for name, (what, _) in GOOD.items()]
    rows += [f"| {name} | {what} | {error.__name__} |" for name, (what, error, _) in bad.items()]
    return README + "\n".join(rows) + "\n"


def packaged(archives: dict[str, bytes]) -> dict[Path, bytes]:
    """The files that go into the package, by their paths; those of other models than the default one are made by --model."""
    return {PACKAGED / f"{DEFAULT_MODEL}.llz": archives["good-real-lanes"], PACKAGED / "text.txt": contents()["good-real-lanes"]}


def packaged_of(model_id: str) -> bytes:
    """The golden archive of a registered model that goes into the package."""
    model = resolve.load(model_id)
    return codec_of(model_id, model, adapter=LEVELS[DEFAULT_LEVEL].adapter, lanes=4).compress(contents()["good-real-lanes"])


def main() -> None:
    """Writes or checks all archives, or writes one of another model."""
    if "--model" in sys.argv:
        model_id = sys.argv[sys.argv.index("--model") + 1]
        (PACKAGED / f"{model_id}.llz").write_bytes(packaged_of(model_id))
        return
    archives = good()
    bad = refused(archives["good-tiny"], archives["good-parity"])
    archives |= {name: case.archive for name, case in bad.items()}
    files = {FOLDER / f"{name}.llz": data for name, data in archives.items()} | packaged(archives)
    files[FOLDER / "README.md"] = readme(bad).encode()
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
