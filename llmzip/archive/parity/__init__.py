"""Parity frames, which are added to an archive so that damage can be repaired, and the repair. The protected bytes may be any."""
