"""Tests of blocks and frames."""
