"""What each token of a text costs, and what the model expected in its place.

`inspect` compresses the text under observation; the other modules show the result in a terminal, as JSON or as a page.
"""

from __future__ import annotations

from llmzip.inspection.result import Band, Guess, Inspection, Token, inspect

__all__ = ["Band", "Guess", "Inspection", "Token", "inspect"]
