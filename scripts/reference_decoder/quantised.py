"""Section 9.4: elements of tensors as float32, from plain and from quantised types. Each operation is rounded on its own."""

import numpy as np


def plain(kind, data, offset, count):
    """`count` elements of a plain type."""
    if kind == "BF16":
        return (np.frombuffer(data, "<u2", count, offset).astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, {"F32": "<f4", "F16": "<f2"}[kind], count, offset).astype(np.float32)


def expand(kind, data, offset, count):
    """The elements of a tensor of a GGUF file."""
    if kind in (0, 1, 30):
        return plain({0: "F32", 1: "F16", 30: "BF16"}[kind], data, offset, count)
    fields, size, weights = QUANTISED[kind]
    return weights(np.frombuffer(data, fields, count // size, offset)).reshape(-1)


def single(halves):
    """A column of binary16 numbers as float32 [blocks, 1]."""
    return halves.astype(np.float32)[:, None]


def nibbles(numbers):
    """Low halves of bytes [blocks, n], then high ones: [blocks, 2n]."""
    return np.concatenate([numbers & 15, numbers >> 4], axis=1)


def q4_1(blocks):
    """Type 3."""
    return single(blocks["scale"]) * nibbles(blocks["numbers"]).astype(np.float32) + single(blocks["minimum"])


def q5_0(blocks):
    """Type 6."""
    fifth = np.unpackbits(blocks["high"], axis=1, bitorder="little")
    return single(blocks["scale"]) * ((nibbles(blocks["numbers"]) | fifth << 4).astype(np.float32) - np.float32(16))


def q8_0(blocks):
    """Type 8."""
    return blocks["numbers"].astype(np.float32) * single(blocks["scale"])


def q4_k(blocks):
    """Type 12: eight runs of 32 weights, with scales and minima of 6 bits."""
    packed, n = blocks["scales"], len(blocks)
    low, middle, high = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([low & 63, high & 15 | low >> 6 << 4], axis=1).astype(np.float32)
    minima = np.concatenate([middle & 63, high >> 4 | middle >> 6 << 4], axis=1).astype(np.float32)
    pairs = blocks["numbers"].reshape(n, 4, 1, 32)
    numbers = np.concatenate([pairs & 15, pairs >> 4], axis=2).reshape(n, 8, 32).astype(np.float32)
    d, m = (single(blocks["scale"]) * scales)[:, :, None], (single(blocks["minimum"]) * minima)[:, :, None]
    return d * numbers - m


def q6_k(blocks):
    """Type 14: sixteen runs of 16 weights, with scales of 8 bits."""
    n = len(blocks)
    low, high = blocks["low"].reshape(n, 2, 1, 64), blocks["high"].reshape(n, 2, 1, 32)
    low = np.concatenate([low & 15, low >> 4], axis=2).reshape(n, 8, 32)
    high = np.concatenate([high >> shift & 3 for shift in (0, 2, 4, 6)], axis=2).reshape(n, 8, 32)
    numbers = (low | high << 4).astype(np.float32) - np.float32(32)
    scales = single(blocks["scale"]) * blocks["scales"].astype(np.float32)
    return scales[:, :, None] * numbers.reshape(n, 16, 16)


QUANTISED = {  # by number: fields of a block, weights in it, and how they are expanded
    3: ([("scale", "<f2"), ("minimum", "<f2"), ("numbers", "u1", 16)], 32, q4_1),
    6: ([("scale", "<f2"), ("high", "u1", 4), ("numbers", "u1", 16)], 32, q5_0),
    8: ([("scale", "<f2"), ("numbers", "i1", 32)], 32, q8_0),
    12: ([("scale", "<f2"), ("minimum", "<f2"), ("scales", "u1", 12), ("numbers", "u1", 128)], 256, q4_k),
    14: ([("low", "u1", 128), ("high", "u1", 64), ("scales", "i1", 16), ("scale", "<f2")], 256, q6_k),
}
