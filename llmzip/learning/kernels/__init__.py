"""Compiled code of learning. Each function equals its part of `reference` bit for bit."""
