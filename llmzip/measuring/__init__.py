"""Measures how well models predict texts, by the lengths of streams that decode: for who compares models in bits per byte."""
