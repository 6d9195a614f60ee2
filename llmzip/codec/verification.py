"""Proves that a cached model is what it should be, and that this machine codes with it as every other does."""

from __future__ import annotations

import io
from importlib import resources

from llmzip.archive.summary import summarise
from llmzip.codec.codec import Codec
from llmzip.errors import DamagedArchiveError, InexactMachineError, NotReproducedError
from llmzip.models import resolve, store
from llmzip.models.registry import REGISTRY
from llmzip.options import Options

_LANES = 4  # so that what runs for many lanes is tried


def golden(model_id: str) -> tuple[bytes, bytes]:
    """A registered model's golden archive, and what it holds: `scripts/make_golden.py` makes them."""
    folder = resources.files("llmzip.models") / "golden"
    return (folder / f"{model_id}.llz").read_bytes(), golden_text()


def golden_text() -> bytes:
    """The text that is coded to prove a model."""
    return (resources.files("llmzip.models") / "golden" / "text.txt").read_bytes()


def verify(cached: store.CachedModel, threads: int | None = None, device: str = "auto") -> str:
    """Checks every byte of the model against its digests, and codes with it; returns what was proven.

    A registered model decodes an archive that was made elsewhere. For others there is none: they encode and decode a text.

    Raises:
        ModelMismatchError: a byte differs.
        InexactMachineError: the text did not come back.
    """
    resolve.load_cached(cached)
    codec = Codec(Options(model=cached.model_id, lanes=_LANES, threads=threads, device=device, offline=True))
    if cached.model_id in REGISTRY:
        archive, text = golden(cached.model_id)
        proven = f"the golden archive of {len(archive)} bytes decoded to the {len(text):,} bytes it was made from"
    else:
        text = golden_text()
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
