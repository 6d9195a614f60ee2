"""What coding a block needs of a model, whether it is pretrained or trained while it codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from llmzip.archive.records import ModelRecord
from llmzip.errors import ParameterError
from llmzip.parameters import DEFAULT_LEVEL, LEVELS, AdapterParameters, Level

if TYPE_CHECKING:
    from llmzip.engine.engine import Engine

Counts = Callable[[int, int], None]  # see `coding.session.Progress`


class Shape(NamedTuple):
    """What matters of a coded block to the time that decoding takes."""

    symbols: int
    lanes: int


class AnyAlphabet(Protocol):
    """See `coding.alphabet.Alphabet`."""

    size: int

    def encode(self, data: bytes) -> NDArray[np.int32]:
        """Symbols of `data`."""
        ...

    def decode(self, symbols: NDArray[np.int32]) -> bytes:
        """The bytes that symbols stand for."""
        ...

    def lengths(self) -> NDArray[np.int64]:
        """Bytes each symbol stands for."""
        ...


class AnyCoder(Protocol):
    """See `coding.block_coder.BlockCoder`."""

    def encode(self, symbols: NDArray[np.int32], lanes: int, progress: Counts | None = None, ledger: Any = None) -> bytes:
        """The bitstream of symbols."""
        ...

    def encode_variants(
        self, symbols: NDArray[np.int32], lanes: int, adapters: Mapping[AdapterParameters, Any], progress: Counts | None = None
    ) -> list[bytes]:
        """The bitstreams of symbols with each of these adapters."""
        ...

    def decode(self, stream: bytes, symbols: int, lanes: int, progress: Counts | None = None) -> NDArray[np.int32]:
        """The symbols of a bitstream."""
        ...


class LoadedModel:
    """A model ready to code with: pretrained, or trained while it codes.

    Attributes:
        model_id: as archives name it.
        digest, tokenizer: as model records have them.
        alphabet: of its symbols.
        samples: whether a sample of a text tells how it does on all of it.
    """

    model_id: str
    digest: bytes
    tokenizer: bytes
    alphabet: AnyAlphabet
    samples = True

    @property
    def transformer(self) -> Engine:
        """The engine of a pretrained model. Raises ParameterError if this is none."""
        raise ParameterError(f"{self.model_id} is no pretrained model, and this needs one; name another with --model")

    def prepare(self) -> None:
        """Make the present thread ready to compute with the model. Raises InexactMachineError if its processor's mode is wrong."""
        raise NotImplementedError

    def record(self, level: Level = LEVELS[DEFAULT_LEVEL]) -> ModelRecord:
        """The archive's record of this model, predicting as `level` says."""
        raise NotImplementedError

    def coder(self, record: ModelRecord) -> AnyCoder:
        """A coder with the parameters of `record`."""
        raise NotImplementedError

    def forecast_seconds(self, record: ModelRecord, shapes: Iterable[Shape]) -> float:
        """About how long decoding such blocks will take."""
        raise NotImplementedError
