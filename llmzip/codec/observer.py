"""What may watch a codec at work. Watching takes time and changes no bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from llmzip.archive.records import CodedBlock
    from llmzip.codec.loaded_models import LoadedModel


class Account(Protocol):
    """Watches a codec.

    Attributes:
        thorough: whether the model is to code even blocks that are seen at once to be better off without it.
        archive: bytes of everything written, which the codec adds up.
    """

    thorough: bool
    archive: int

    def page(self) -> Any:
        """An `Observer` for a block that may not count in the end, as several ways may be tried."""

    def keep(self, page: Any, block: CodedBlock, model: LoadedModel) -> None:
        """The page of the way that was taken, what came out, and the model that coded it."""
