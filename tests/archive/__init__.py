"""Tests of the archive's bytes."""
