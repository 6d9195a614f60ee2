"""Symbols to a bitstream and back: alphabet, lanes, and the loop that encoder and decoder share."""
