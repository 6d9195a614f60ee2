"""Compiled kernels of the adapter: typed by numba, each equal to its definition bit for bit."""
