"""Where the bits of blocks go: what the frozen model leaves, and what each part of the adapter saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmzip.entropy.frequencies import TOTAL_BITS, Logits, Votes, no_gradients, no_votes, scratch

if TYPE_CHECKING:
    from llmzip.archive.records import CodedBlock
    from llmzip.codec.any_model import LoadedModel


class Ledger:
    """An `observer.Account`: sums of -log2(frequency / 2^TOTAL_BITS) over the coded symbols.

    Attributes:
        frozen: bits under the model alone.
        corrected: bits with corrections of its matrices.
        biased: bits with the vocabulary's biases.
        voted: bits with the neighbours' votes as well, as they are coded.
        content, symbols, stream: bytes of content, symbols, and bytes of bitstream of the coded blocks.
        archive: bytes of all archives written.
    """

    thorough, compares = False, True

    def __init__(self) -> None:
        self.frozen = self.corrected = self.biased = self.voted = 0.0
        self.content = self.symbols = self.stream = self.archive = 0

    def attempt(self) -> Ledger:
        """A fresh ledger for one coding attempt."""
        return Ledger()

    def keep(self, attempt: Ledger, block: CodedBlock, model: LoadedModel, frozen: Ledger | None) -> None:
        """Add a block, the ledger of the attempt that coded it, and that of the same without corrections."""
        self.frozen += (frozen or attempt).corrected
        self.corrected += attempt.corrected
        self.biased += attempt.biased
        self.voted += attempt.voted
        self.content += block.size
        self.symbols += block.symbols
        self.stream += len(block.stream)

    def add(self, other: Ledger) -> None:
        """Add what another ledger holds."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def see(self, logits: Logits, bias: NDArray[np.float32], votes: Votes, symbols: int, coded: NDArray[np.int32]) -> None:
        """Count rows that are about to be coded."""
        from llmzip.entropy import compiled_frequencies  # a process that only holds ledgers needs no compiler

        none, room = no_votes(len(coded)), scratch(1, logits.shape[1], symbols)

        def bits(some_bias: NDArray[np.float32], some_votes: Votes) -> float:
            _, freq = compiled_frequencies.intervals(logits, some_bias, some_votes, symbols, coded, no_gradients(len(coded)), room)
            return float((TOTAL_BITS - np.log2(freq)).sum())

        self.corrected += bits(np.zeros_like(bias), none)
        self.biased += bits(bias, none)
        self.voted += bits(bias, votes)
