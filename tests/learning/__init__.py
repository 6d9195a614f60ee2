"""Tests of `llmzip.learning`."""
