"""Checks that a cached model is intact, and that this machine computes with it as every other machine does."""

from __future__ import annotations

import io
from dataclasses import replace
from importlib import resources

from llmzip.archive.summary import summarise
from llmzip.codec.codec import Codec
from llmzip.errors import DamagedArchiveError, InexactMachineError, NotReproducedError
from llmzip.models import resolve, store
from llmzip.models.registry import REGISTRY
from llmzip.options import Options
from llmzip.parameters import LEVELS

LANES = 4  # so that the code for several lanes is tried


def golden(model_id: str) -> bytes | None:
    """The golden archive of a registered model, of `golden_text`; None if it has none. `scripts/make_golden.py` makes them."""
    file = resources.files("llmzip.models") / "golden" / f"{model_id}.llz"
    return file.read_bytes() if model_id in REGISTRY and file.is_file() else None


def golden_text() -> bytes:
    """The text that is coded to check a model."""
    return (resources.files("llmzip.models") / "golden" / "text.txt").read_bytes()


def warm(options: Options) -> None:
    """Get everything ready that coding at any level takes: the model in the cache, and the kernels compiled for this processor.

    Raises:
        LLZError: the model cannot be had, or not be run.
        InexactMachineError: a text did not come back.
    """
    text = golden_text()
    blocks = Codec(options).blocks
    for level in LEVELS:
        for lanes in (1, LANES):
            codec = Codec(replace(options, level=level, lanes=lanes), blocks=blocks)
            if codec.decompress(codec.compress(text)) != text:
                raise InexactMachineError("a text did not come back as it was; try --device cpu, test the memory, and please report this")


def verify(cached: store.CachedModel, threads: int | None = None, device: str = "auto") -> str:
    """Check every byte of a model against its digests, and code with it; return what was proven, in words.

    The default model decodes an archive that was made elsewhere. There is none for most models: they encode and decode a text.

    Raises:
        ModelMismatchError: a byte differs.
        InexactMachineError: the text did not come back.
    """
    resolve.load_cached(cached)
    codec = Codec(Options(model=cached.model_id, lanes=LANES, threads=threads, device=device, offline=True))
    text, archive = golden_text(), golden(cached.model_id)
    if archive is not None:
        proven = f"the golden archive of {len(archive)} bytes decoded to the {len(text):,} bytes it was made from"
    else:
        archive = codec.compress(text)
        if not summarise(io.BytesIO(archive)).coded:
            return "every byte matches its digest; the text for trying it was not coded, as this model predicts it too badly"
        proven = f"a text of {len(text):,} bytes came back from its {len(archive)} coded ones"
    try:
        same = codec.decompress(archive) == text
    except (DamagedArchiveError, NotReproducedError):
        same = False
    if not same:
        raise InexactMachineError(
            f"this machine does not decode with {cached.model_id} what it should, though the model's bytes are right; try --device cpu, "
            "test its memory, and please report this"
        )
    return f"every byte matches its digest; {proven}"
