"""The engine's compiled kernels: typed by numba, each equal to its definition bit for bit."""
