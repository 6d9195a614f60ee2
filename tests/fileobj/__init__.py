"""Tests of file objects."""
