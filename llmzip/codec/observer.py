"""What may watch an encoder at work. Watching takes time and changes no bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from llmzip.adapter.observer import Observer

if TYPE_CHECKING:
    from llmzip.archive.records import CodedBlock
    from llmzip.codec.any_model import LoadedModel

_Attempt = TypeVar("_Attempt", bound=Observer)


class Account(Protocol[_Attempt]):
    """Watches the coding of blocks.

    Attributes:
        thorough: If true, the model also codes blocks that are known to be smaller without it; the archive stays the same.
        compares: whether blocks whose model is corrected are also coded without corrections, which takes as long again.
        archive: bytes of all archives written; the encoder adds to it.
    """

    thorough: bool
    compares: bool
    archive: int

    def attempt(self) -> _Attempt:
        """A fresh observer for one coding attempt; only the chosen attempt's is passed to `keep`."""
        ...

    def keep(self, attempt: _Attempt, block: CodedBlock, model: LoadedModel, frozen: _Attempt | None) -> None:
        """Take the observer of the chosen attempt, the block it gave, and the model that coded it; and the observer of the same without corrections."""
        ...


AnyAccount = Account[Any]
