"""Tests of short messages."""
