"""Parity: what is added to an archive so that damage to it can be repaired, and the repair. Nothing here knows what the protected bytes mean."""
