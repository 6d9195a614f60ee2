"""Section 1.5: float32, one correctly rounded operation at a time.

Numpy's + - * / on two float32 arrays are those of IEEE 754. All that is needed is that no operand is anything else, so
constants are made float32 by `f32` here, never left as Python floats, and integers get there through int64.
"""

import numpy as np


def f32(value):
    """`f32(n)` of an integer or of integers, and decimal constants: to nearest, ties to even."""
    if isinstance(value, float):
        return np.float32(value)
    return np.asarray(value).astype(np.float32)[()]


def bits(x):
    """The bits of float32 values, as integers."""
    return np.asarray(x, dtype=np.float32).view(np.uint32).astype(np.int64)


def from_bits(b):
    """`float(b)`: the float32 values with these bits."""
    return np.asarray(b, dtype=np.int64).astype(np.uint32).view(np.float32)


def trunc(x):
    """Integer part, rounded toward zero, as int64."""
    return np.asarray(x).astype(np.int64)


def power_of_two(z, exponent):
    """trunc(float(trunc(z * 2^23) + exponent * 2^23)), about 2^(z + exponent - 127): in sections 6.5, 6.8 and 8.5."""
    return trunc(from_bits(trunc(z * f32(2.0**23)) + exponent * 2**23))


def quantise(y, top=127):
    """Section 8.1: integers q (as float32), and m and r, of every vector y [..., n]; m and r are [..., 1]."""
    m = np.maximum(np.abs(y).max(axis=-1, keepdims=True), f32(2.0**-40))
    r = f32(top) / m
    return np.rint(y * r), m, r


def hadamard(x, run):
    """Section 8.9: the transform of vectors x [..., n], in runs of B(`run`) values."""
    size = next((b for b in (64, 16, 4) if run % b == 0), 1)
    shape, stride = x.shape, 1
    x = x.reshape(-1, size).T.copy()  # [size, runs], which is fast for many runs
    runs = x.shape[1]
    while stride < size:
        pairs = x.reshape(-1, 2, stride, runs)
        x = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1)
        stride *= 2
    return x.reshape(size, runs).T.reshape(shape) * f32(size**-0.5)
