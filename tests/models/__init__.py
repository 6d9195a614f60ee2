"""Tests of models and their cache."""
