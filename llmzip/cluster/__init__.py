"""Blocks on the machines of a Ray cluster: the same bytes. Nothing here imports Ray before it is asked for."""
