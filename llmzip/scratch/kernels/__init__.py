"""The network's compiled code: typed by numba. docs/format.md and the second decoder define what it must give."""
