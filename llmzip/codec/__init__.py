"""Bytes to frames and back: cuts input into blocks, codes each the way that suits it, checks everything."""

from __future__ import annotations

from llmzip.codec.codec import Codec
from llmzip.options import Options

__all__ = ["Codec", "Options"]
