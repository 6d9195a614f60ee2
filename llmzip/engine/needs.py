"""How much memory an engine needs."""

from __future__ import annotations

from llmzip.engine.cache import KVCache
from llmzip.models.config import ModelConfig
from llmzip.parameters import AttentionSpan


def needed(config: ModelConfig, lanes: int, span: AttentionSpan, steps: int, chunk: int, kept: int = 0) -> int:
    """About how many bytes a cache and what lies between layers take."""
    between = 8 * (config.width + config.ffn) * lanes * chunk
    return KVCache.bytes_needed(config, lanes, span, steps, chunk, kept) + between
