"""Tests of symbols and lanes."""
