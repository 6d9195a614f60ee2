"""Tests of what learns while coding."""
