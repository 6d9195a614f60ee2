"""Tests of frequencies and the range coder."""
