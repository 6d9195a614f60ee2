"""Who a worker is: it must be what the driver expects, to the last bit, before it gets work."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata

from llmzip.archive import records
from llmzip.archive.records import ModelRecord
from llmzip.codec import processes, verification
from llmzip.codec.block_codec import BlockCodec, Progress, ignore_progress
from llmzip.codec.codec import Codec
from llmzip.codec.policy import Policy
from llmzip.codec.pool import Work
from llmzip.models import resolve
from llmzip.models.store import CachedModel
from llmzip.options import Options
from llmzip.parameters import DEFAULT_LEVEL, LEVELS


@dataclass(frozen=True)
class Identity:
    """What decides about bits, and what tells versions apart.

    Attributes:
        version: of the package.
        format: version of the format.
        arithmetic: version of the arithmetic.
        model: the model that encodes, at the default level; None where nothing is to be encoded.
        sample: archive of a text, made with that model; empty without one.
    """

    version: str
    format: int
    arithmetic: int
    model: ModelRecord | None = None
    sample: bytes = b""

    def differences(self, found: Identity) -> Iterator[str]:
        """What is otherwise in another identity, in words."""
        if found.version != self.version:
            yield f"it has llmzip {found.version}, not {self.version}"
        if found.format != self.format:
            yield f"it writes format {found.format}, not {self.format}"
        if found.arithmetic != self.arithmetic:
            yield f"it computes with arithmetic {found.arithmetic}, not {self.arithmetic}"
        if found.model != self.model:
            yield f"its model is {_model(found.model)}, not {_model(self.model)}"
        elif found.sample != self.sample:
            yield "its archive of a sample has other bytes"


def _model(record: ModelRecord | None) -> str:
    return f"{record.model_id} with weights {record.digest.hex()} and tokenizer {record.tokenizer.hex()}" if record else "none"


def own(blocks: BlockCodec | None) -> Identity:
    """The identity of this process, with a block codec whose model encodes; without a model if None.

    Raises:
        LLZError: the model cannot be had, or not be run.
    """
    version = metadata.version("llmzip")
    if blocks is None:
        return Identity(version, records.FORMAT_VERSION, records.ARITHMETIC_VERSION)
    return Identity(
        version, records.FORMAT_VERSION, records.ARITHMETIC_VERSION, blocks.models.own().record(), sample(blocks, ignore_progress)
    )


def sample(blocks: BlockCodec, _progress: Progress) -> bytes:
    """Archive of the text that models are checked with, made as the golden archives are."""
    options = Options(lanes=verification.LANES, adapter=LEVELS[DEFAULT_LEVEL].adapter)
    return Codec(options, blocks=BlockCodec(blocks.models, Policy.MODEL)).compress(verification.golden_text())


def expected(options: Options, model: CachedModel | None) -> Identity:
    """The identity that every worker must have. The sample of a model without a golden archive is made here, by another process.

    Args:
        options: how workers compute; they name the model.
        model: the model that encodes; None where nothing is to be encoded.

    Raises:
        LLZError: the model cannot be run here.
    """
    plain = own(None)
    if model is None:
        return plain
    level = LEVELS[DEFAULT_LEVEL]
    assert model.tokenizer is not None
    name = resolve.archive_id(model.model_id)
    record = ModelRecord(
        name, model.digest[: records.DIGEST_BYTES], model.tokenizer[: records.TOKENIZER_BYTES], level.span, level.adapter
    )  # fmt: skip
    made = verification.golden(model.model_id)
    if made is None:
        pool = processes.Processes(1, options, Policy.MODEL)
        made = pool.submit(Work(sample, (), model=record), deque()).result(ignore_progress)
        pool.end()
    return replace(plain, model=record, sample=made)
