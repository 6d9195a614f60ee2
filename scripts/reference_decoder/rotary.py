"""Section 8.5: rotary positions."""

import hashlib
import math
from decimal import Decimal, localcontext

import numpy as np
from float32 import f32

COSINES_HASH = "3f34b45169012275ef210195f8a3ff7a1eb3dd798acfbaa9d876e4f224ff7ae0"
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798")


def cosine_table():
    """Section 8.5: C(n), the integer nearest to 2^15 * cos(2 pi n / 2^14), as int32."""
    table = np.array([round(2**15 * math.cos(math.tau * n / 2**14)) for n in range(2**14)], "<i4")
    if hashlib.sha256(table.tobytes()).hexdigest() != COSINES_HASH:
        raise ArithmeticError("the cosines of this machine are not those of section 8.5")
    return table


class Rotary:
    """Section 8.5: rotary positions."""

    def __init__(self, rope_base, h, divisors):
        self.cosines = f32(cosine_table()) / f32(2**15)
        with localcontext() as context:
            context.prec = 90
            powers = [Decimal(rope_base) ** (Decimal(2 * i) / Decimal(h)) for i in range(h // 2)]
            pairs = zip(powers, divisors, strict=True)
            self.turns = [int(Decimal(2) ** 64 / (2 * PI * power * Decimal(d))) if d else 0 for power, d in pairs]

    def angles(self, p):
        """Cosines and sines [h/2] of position p."""
        n = np.array([((p * turns + 2**49) % 2**64) >> 50 for turns in self.turns])
        return self.cosines[n], self.cosines[(n - 2**12) % 2**14]


def rotate(y, angles):
    """Section 8.5: y [..., h], rotated to the position of `angles`."""
    cos, sin = angles
    a, b = np.split(y, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def rotate_back(y, angles):
    """Section 8.11, step 8: y [..., h], rotated the other way."""
    cos, sin = angles
    a, b = np.split(y, 2, axis=-1)
    return np.concatenate([a * cos + b * sin, b * cos - a * sin], axis=-1)
