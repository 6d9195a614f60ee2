"""Recovers the undamaged blocks of a damaged archive, and reports what is missing."""
