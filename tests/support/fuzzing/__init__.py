"""Hostile input, and what must become of it.

`mutation` makes it from good input and a seed. The targets, in the other modules, are functions from an input to its outcome: the name
of the error it ended in, or what else it came to. They raise whatever must not happen: an error of another kind, or a promise broken.
`campaign` runs a target over many inputs. tests/test_fuzz.py runs each for a short time, scripts/fuzz.py for as long as one likes.
"""
