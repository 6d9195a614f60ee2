"""Constants of arithmetic version 4, shared by every implementation of the engine.

Changing any of them changes coded bits, so it needs a new arithmetic version.
"""

from __future__ import annotations

import math

ACT_MAX = 127  # activations are int8
NORM_MAX = 1023  # what is normed unrotated has outliers, so its squares are summed of more bits
MOST_EPS_ROOT = 2.0**60  # keeps the epsilon of such norms finite where a row is all zeros
TINY = 2.0**-40  # no row maximum is taken smaller, so scales stay clear of denormals
ATTEND_BITS = 18  # the largest softmax weight before normalisation is 2^18
ATTEND_FLOOR = -30.0  # log2 of the smallest ratio of softmax weights that is told from zero
WEIGHT_SUM = 32767  # normalised attention weights are int16 and sum to about this
MANTISSA = 23  # fraction bits of a float32; 2^x is a straight line between powers of two
EXP_CLAMP = 30.0  # |log2| beyond which the sigmoid is taken as saturated
# 2^f for f in [0, 1) is ((C3 f + C2) f + C1) f + 1, each operation rounded on its own; relative error below 2e-4.
EXP_C1, EXP_C2, EXP_C3 = 0.695425, 0.2263065, 0.0782685
LOG2_E = 1.4426950408889634
# tanh-GELU(g) is g / (1 + 2^t) with t = g * (g * g * GELU_CUBIC + GELU_LINEAR): -2 log2(e) sqrt(2 / pi), and 0.044715 times that.
GELU_LINEAR, GELU_CUBIC = -2.302208198, -0.10294324
# 1 / sqrt(v) by Newton's method from a guess on the bits of v. torch.sqrt is not used: its float32 result on CPU
# comes from a vector math library that is not correctly rounded.
RSQRT_MAGIC, RSQRT_STEPS = 0x5F3759DF, 4


def score_scale(head_dim: int) -> float:
    """Factor that turns q.k into log2 units of the softmax."""
    return LOG2_E / math.sqrt(head_dim)
