"""Logits to integer frequencies to a range coder. Floats end here; compiled twins stand beside the definitions."""
