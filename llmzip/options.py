"""What a codec is told: how to compute, and how to cut and predict."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict, TypeVar

from llmzip.errors import ParameterError
from llmzip.parameters import DEFAULT_LEVEL, FROM_NOTHING, LEVELS, MAX_BLOCK, MAX_LANES, PERCENTAGES, AdapterParameters, Level

if TYPE_CHECKING:
    from typing_extensions import Unpack


AUTO = "auto"  # in place of a model's name
NEW, NEW_ID = "new", "new:small"  # in place of one: the network that starts from nothing, as users and as archives name it
MOST_JOBS = 61 if os.name == "nt" else 256  # processes side by side; Windows waits for no more


class DecodeOptions(TypedDict, total=False):
    """Those of `Options` that everything which decodes takes by keyword."""

    model: str | None
    threads: int | None
    device: str


class EncodeOptions(DecodeOptions, total=False):
    """Those of `Options` that everything which encodes takes by keyword."""

    level: int
    lanes: int | None


_Given = TypeVar("_Given", bound=DecodeOptions)


@dataclass(frozen=True)
class Options:
    """How to compute and, for encoding, how to cut and predict.

    Only `model`, `level`, `lanes`, `block_bytes`, `adapter` and `parity` shape an archive, and decoding needs none of them repeated.

    Attributes:
        model: registry ID, name that the user gave, `hf:OWNER/NAME@REVISION` or path; the default model if None. For encoding also "auto": of the
            cached models, the one that makes the content smallest, by a sample of each archive's first block. For decoding it is only a place to
            look for a model that is not in the registry, and its digests must match the archive's.
        level: 1 (fast) to 9 (small).
        lanes: streams coded in parallel: more decode faster and make the archive larger. Chosen from the size and level if None.
        block_bytes: content of one block at most, however it is held. Chosen by the level if None, and then blocks without the model may be
            larger.
        threads: CPU threads; all cores if None. The archive does not depend on them.
        device: "auto", "cpu" or "cuda". The archive does not depend on it.
        kernel: insist on a way of computing, for tests and experiments (see `engine.build`).
        rows: tokens that the encoder feeds at once; chosen if None.
        quiet: If true, show no progress bars for downloads and conversion.
        adapter: what learns while coding, for experiments; chosen by the level if None.
        max_output: refuse archives that hold more bytes, before decoding what is beyond; no limit if None.
        explain: keep account of where the bits of coded blocks go, in `Codec.ledger`.
        offline: never use the network, not even for a model that is not cached. The environment's LLMZIP_OFFLINE does the same.
        parity: percent of the archive that can be lost in one piece and restored by `repair`, 1 to 50. The archive grows by somewhat more than
            that, and is kept in memory until it is complete. No parity if None.
    """

    model: str | None = None
    level: int = DEFAULT_LEVEL
    lanes: int | None = None
    block_bytes: int | None = None
    threads: int | None = None
    device: str = "auto"
    kernel: str | None = None
    rows: int | None = None
    quiet: bool = True
    adapter: AdapterParameters | None = None
    max_output: int | None = None
    explain: bool = False
    offline: bool = False
    parity: int | None = None

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ParameterError(f"the level must lie between {min(LEVELS)} and {max(LEVELS)}, not {self.level}")
        if self.lanes is not None and not 1 <= self.lanes <= MAX_LANES:
            raise ParameterError(f"lanes must lie between 1 and {MAX_LANES}, not {self.lanes}")
        if is_new(self.model) and (self.lanes or 1) > 1:
            raise ParameterError(f"{self.model} learns from each byte before the next, in one lane; leave --lanes out")
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise ParameterError(f"threads must lie between 1 and 1024, not {self.threads}")
        if self.block_bytes is not None and not 1 <= self.block_bytes <= MAX_BLOCK:
            raise ParameterError(f"block size must lie between 1 and {MAX_BLOCK} bytes, not {self.block_bytes}")
        if self.parity is not None and self.parity not in PERCENTAGES:
            raise ParameterError(f"parity must lie between {min(PERCENTAGES)} and {max(PERCENTAGES)} percent, not {self.parity}")

    @classmethod
    def for_encoding(cls, **options: Unpack[EncodeOptions]) -> Options:
        """Options given by keyword to what encodes.

        Raises:
            ParameterError: one is out of range.
            TypeError: one is not in EncodeOptions.
        """
        return cls(**_only(EncodeOptions.__optional_keys__, options))

    @classmethod
    def for_decoding(cls, **options: Unpack[DecodeOptions]) -> Options:
        """Options given by keyword to what decodes.

        Raises:
            ParameterError: one is out of range.
            TypeError: one is not in DecodeOptions.
        """
        if options.get("model") == AUTO:
            raise ParameterError(f"{AUTO} is a choice for compressing; leave the model out, as archives name theirs")
        return cls(**_only(DecodeOptions.__optional_keys__, options))

    def level_settings(self) -> Level:
        """Settings of the level, with those that the options replace."""
        level = FROM_NOTHING if is_new(self.model) else LEVELS[self.level]
        return replace(level, adapter=self.adapter or level.adapter, block_bytes=self.block_bytes or level.block_bytes)


def is_new(model: str | None) -> bool:
    """Whether a model of this name starts from nothing and is trained while it codes. It has one level, FROM_NOTHING."""
    return model in (NEW, NEW_ID)


def _only(known: frozenset[str], given: _Given) -> _Given:
    """The same options. Raise TypeError if one is not known."""
    for name in given:
        if name not in known:
            raise TypeError(f"unexpected keyword argument {name!r}")
    return given
