"""Tests of the comparison with other compressors."""
