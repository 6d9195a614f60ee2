"""Tests of what each token costs."""
