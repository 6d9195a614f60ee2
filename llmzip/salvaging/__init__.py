"""Recovers what is undamaged of a damaged archive, and says what is missing."""
