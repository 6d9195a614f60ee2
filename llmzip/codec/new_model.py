"""The network that starts from nothing, as a model to code with."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmzip.archive.numbers import NEW_MODEL
from llmzip.archive.records import ModelRecord
from llmzip.codec.any_model import Counts, LoadedModel, Shape
from llmzip.errors import NotReproducedError, ParameterError, UnsupportedArchiveError
from llmzip.options import NEW_ID
from llmzip.parameters import DEFAULT_LEVEL, FROM_NOTHING, FROZEN, LEVELS, AdapterParameters, Level
from llmzip.system import exact_threads


class ByteAlphabet:
    """256 symbols, each of which is a byte."""

    size = 256

    def encode(self, data: bytes) -> NDArray[np.int32]:
        """See `coding.alphabet.Alphabet.encode`."""
        return np.frombuffer(data, np.uint8).astype(np.int32)

    def decode(self, symbols: NDArray[np.int32]) -> bytes:
        """See `coding.alphabet.Alphabet.decode`."""
        return symbols.astype(np.uint8).tobytes()

    def lengths(self) -> NDArray[np.int64]:
        """See `coding.alphabet.Alphabet.lengths`."""
        return np.ones(self.size, np.int64)


class NewCoder:
    """Codes blocks of bytes with a network that starts from nothing at each block."""

    def encode(self, symbols: NDArray[np.int32], lanes: int, progress: Counts | None = None, ledger: Any = None) -> bytes:
        """The bitstream of bytes, int32 [n]. Raises what `encode_variants` raises."""
        return self.encode_variants(symbols, lanes, {FROZEN: ledger}, progress)[0]

    def encode_variants(
        self, symbols: NDArray[np.int32], lanes: int, adapters: Mapping[AdapterParameters, Any], progress: Counts | None = None
    ) -> list[bytes]:
        """See `coding.block_coder.BlockCoder.encode_variants`. There is one variant.

        Raises:
            NotEnoughMemoryError: the network does not fit.
            ParameterError: an observer wants to know what a pretrained model would tell.
        """
        from llmzip.scratch import coder

        if any(adapters.values()):
            raise ParameterError(f"what bits are spent on is told of pretrained models only, and {NEW_ID} is none")
        return [coder.encode(symbols.astype(np.uint8).tobytes(), progress)]

    def decode(self, stream: bytes, symbols: int, lanes: int, progress: Counts | None = None) -> NDArray[np.int32]:
        """See `coding.block_coder.BlockCoder.decode`.

        Raises:
            NotEnoughMemoryError: the network does not fit.
            NotReproducedError: there are several lanes.
        """
        from llmzip.scratch import coder

        if lanes != 1:
            raise NotReproducedError(f"a block of {NEW_ID} has one lane")
        return np.frombuffer(coder.decode(stream, symbols, progress), np.uint8).astype(np.int32)


class NewModel(LoadedModel):
    """The network as a model: it has neither weights nor an engine, and one level."""

    samples = False  # a piece alone tells nothing of what was learned before it

    def __init__(self) -> None:
        self.model_id, self.digest, self.tokenizer = NEW_MODEL
        self.alphabet = ByteAlphabet()

    def prepare(self) -> None:
        """See `LoadedModel.prepare`."""
        from llmzip.engine import float_mode

        exact_threads.use_threads(1)
        float_mode.check(1)

    def record(self, level: Level = LEVELS[DEFAULT_LEVEL]) -> ModelRecord:
        """See `LoadedModel.record`. There is one level."""
        return ModelRecord(self.model_id, self.digest, self.tokenizer, FROM_NOTHING.span, FROM_NOTHING.adapter)

    def coder(self, record: ModelRecord) -> NewCoder:
        """See `LoadedModel.coder`. Raises UnsupportedArchiveError for parameters that mean nothing here."""
        if (record.span, record.adapter) != (FROM_NOTHING.span, FROM_NOTHING.adapter):
            raise UnsupportedArchiveError(f"the archive has parameters that {NEW_ID} does not know; use a newer version of llmzip")
        return NewCoder()

    def forecast_seconds(self, record: ModelRecord, shapes: Iterable[Shape]) -> float:
        """See `LoadedModel.forecast_seconds`."""
        from llmzip.scratch import coder

        some = bytes(range(256)) * 8
        coder.encode(some[:1])  # may be compiled
        start = time.perf_counter()
        coder.encode(some)
        return (time.perf_counter() - start) / len(some) * sum(shape.symbols for shape in shapes)
