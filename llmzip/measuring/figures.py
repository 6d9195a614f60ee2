"""What documents cost under a model. Every figure is the length of a bitstream that decodes."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from llmzip.archive.records import CodedBlock, ModelRecord
from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.cutting import read_blocks
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.policy import Policy
from llmzip.errors import InexactMachineError
from llmzip.measuring.documents import Document
from llmzip.options import Options

_ROUNDS = 1000  # of the bootstrap
_TAILS = (2.5, 97.5)  # percentiles


@dataclass(frozen=True)
class Figure:
    """What one document cost.

    Attributes:
        name, group: of the document.
        content: bytes of it.
        tokens: symbols that were coded.
        bits: 8 times the bytes of the bitstream, without any container. A stream ends with a whole byte, so a document costs some bits more than its tokens' information.
        certified: Whether it was decoded, and was the same.
    """

    name: str
    group: str
    content: int
    tokens: int
    bits: int
    certified: bool = False

    @property
    def bits_per_byte(self) -> float:
        """Bits for a byte of content."""
        return self.bits / self.content


class Measurer:
    """Codes documents, each for itself and with the model alone.

    Args:
        options: the model and how to code. One lane if they do not say: each further one costs some bytes.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._blocks = BlockCodec(LoadedModels(options), Policy.MODEL)

    def figure(self, document: Document, certify: bool = False) -> Figure:
        """What a document costs.

        Args:
            document: is coded.
            certify: also decode it, and compare.

        Raises:
            InexactMachineError: it does not come back.
            LLZError: the model cannot be had, or not be run.
        """
        model: ModelRecord | None = None
        tokens = stream = 0
        for content in read_blocks(io.BytesIO(document.content), self._options.level_settings().block_bytes):
            encoded = self._blocks.encode(content, self._options, model)
            block, model = encoded.block, encoded.model or model
            assert isinstance(block, CodedBlock)
            tokens, stream = tokens + block.symbols, stream + len(block.stream)
            if certify and self._blocks.decode(block, model) != content:
                raise InexactMachineError(f"{document.name} does not come back; please report this")
        return Figure(document.name, document.group, len(document.content), tokens, 8 * stream, certify)


@dataclass(frozen=True)
class Total:
    """Sums over documents.

    Attributes:
        documents, content, tokens, bits: how many documents, bytes, tokens and bits.
        interval: where the bits per byte lie in 95 of 100 draws of as many of these documents, with replacement; None for a single document.
    """

    documents: int
    content: int
    tokens: int
    bits: int
    interval: tuple[float, float] | None

    @property
    def bits_per_byte(self) -> float:
        """Bits for a byte of content, over all documents."""
        return self.bits / self.content

    @property
    def bits_per_token(self) -> float:
        """Bits for a token, over all documents."""
        return self.bits / self.tokens


def total(figures: list[Figure], seed: int = 0) -> Total:
    """Sum up documents, at least one.

    Args:
        figures: of the documents.
        seed: of the draws of the interval.
    """
    table = np.array([[f.content, f.tokens, f.bits] for f in figures], dtype=np.int64)
    content, tokens, bits = (int(n) for n in table.sum(axis=0))
    interval = None
    if len(figures) > 1:
        rng, n = np.random.default_rng(seed), len(figures)
        ratios = [drawn[2] / drawn[0] for drawn in (table[rng.integers(n, size=n)].sum(axis=0) for _ in range(_ROUNDS))]
        low, high = np.percentile(ratios, _TAILS)
        interval = float(low), float(high)
    return Total(len(figures), content, tokens, bits, interval)
