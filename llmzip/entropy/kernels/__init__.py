"""Compiled kernels of frequencies and of the range coder: typed by numba, each equal to its definition bit for bit."""
