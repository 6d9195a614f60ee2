"""Tests of the operating system's side."""
