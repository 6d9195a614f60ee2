"""Section 8: the predictor. All lanes of a step are at the same position, so they are computed together.

Integers up to 2^24 are exact in float32, and sums of them, in any order, as long as no partial sum exceeds 2^24. So the
products of sections 8.4 and 8.5 are left to float32 matrix products of numpy; `product` sees to it that they are short enough.
"""

import hashlib
import math
from decimal import Decimal, localcontext

import numpy as np
from float32 import bits, f32, from_bits, hadamard, power_of_two, quantise

EXACT_TERMS = 1024  # 1024 products of integers up to 127 stay below 2^24
COSINES_HASH = "3f34b45169012275ef210195f8a3ff7a1eb3dd798acfbaa9d876e4f224ff7ae0"
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798")


def product(w, q):
    """Section 8.4: w [..., n, m] times each row of q [..., L, m], exact; integers up to 127, held in float32. Whole numbers [..., L, n]."""
    starts = range(0, w.shape[-1], EXACT_TERMS)
    parts = [q[..., at : at + EXACT_TERMS] @ w[..., at : at + EXACT_TERMS].swapaxes(-1, -2) for at in starts]
    return parts[0] if len(parts) == 1 else np.sum(np.stack(parts).astype(np.float64), axis=0)


def norm(x, eps):
    """Section 8.3: integers q [L, d] and the scale [L, 1] of x [L, d]."""
    q, _, r = quantise(x)
    squares = np.sum(np.square(q.astype(np.float64)), axis=-1, keepdims=True)
    v = f32(squares) / f32(x.shape[-1]) + (r * r) * eps
    s = from_bits(0x5F3759DF - bits(v) // 2)
    half = f32(0.5) * v
    for _ in range(4):
        s = s * (f32(1.5) - half * (s * s))
    return q, s


def feed_forward(g, u):
    """Section 8.7: y of the gate's and the other half's values, before the rotation."""
    t = np.minimum(np.maximum(g * from_bits(0xBFB8AA3B), f32(-30)), f32(30))
    n = np.floor(t)
    f = t - n
    e = ((f * from_bits(0x3DA04B3C) + from_bits(0x3E67BCE4)) * f + from_bits(0x3F32075F)) * f + f32(1)
    return (g / (np.ldexp(e, n.astype(np.int32)) + f32(1))) * u


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
            self.turns = [int(Decimal(2) ** 64 / (2 * PI * power * Decimal(d))) for power, d in zip(powers, divisors, strict=True)]

    def angles(self, p):
        """Cosines and sines [h/2] of position p."""
        n = np.array([((p * turns + 2**49) % 2**64) >> 50 for turns in self.turns])
        return self.cosines[n], self.cosines[(n - 2**12) % 2**14]


def rotate(y, angles):
    """Section 8.5: y [..., h], rotated to the position of `angles`."""
    cos, sin = angles
    a, b = np.split(y, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def scale_head(y, s, factor=1):
    """Section 8.5, "scale y by factor": integers [..., h] and their scales [..., 1]."""
    q, m, _ = quantise(y)
    return q, ((m * s) / f32(127)) * f32(factor)


def scores(Q, qs, K, ks):
    """Section 8.5: u [L, heads, P] of queries Q [L, heads, h] that share keys K [L, P, h], with scales qs [L, heads, 1] and ks [L, P]."""
    return (f32(product(K, Q)) * ks[:, None]) * qs


def mix(u, us, U):
    """Section 8.5, softmax and output: scores u [..., P], scales us and integers U [..., P, h] of the P values seen."""
    z = np.maximum(u - u.max(axis=-1, keepdims=True), f32(-30))
    a = power_of_two(z, 145)
    N = f32(a.sum(axis=-1, keepdims=True))
    um = us.max(axis=-1, keepdims=True)
    r = f32(32767) / (N * um)
    w = np.rint((f32(a) * us) * r)
    return (w @ U) * (um / f32(32767))


class Predictor:
    """The predictors of all lanes of a block. State: of every layer, keys and values of the positions still seen."""

    def __init__(self, model, window, sinks, all_heads_see_all, lanes, positions):
        c = self.config = model.config
        self.model, self.window, self.sinks = model, window, sinks
        self.near_heads = [] if all_heads_see_all else c.get("near_heads", [])
        self.eps = f32(float(c["norm_eps"]))
        self.rotary = Rotary(c["rope_base"], c["head_dim"], c.get("rope_divisors", [1] * (c["head_dim"] // 2)))
        self.qfactor = f32(1.4426950408889634 / math.sqrt(c["head_dim"]))
        self.position = 0
        shape = (c["layers"], lanes, c["kv_heads"], min(positions, sinks + window))
        self.K, self.U = (np.zeros((*shape, c["head_dim"]), np.int8) for _ in range(2))
        self.ks, self.us = (np.zeros(shape, np.float32) for _ in range(2))

    def slots_of(self, j):
        """Where positions j are kept: sinks for good, others until W more have come."""
        return np.where(j < self.sinks, j, self.sinks + (j - self.sinks) % self.window)

    def seen(self, window):
        """Section 8.5, what is seen: where the positions are kept that the query sees, sinks first."""
        p = self.position
        near = np.arange(max(self.sinks, p - window + 1), p + 1)
        return self.slots_of(np.concatenate([np.arange(min(self.sinks, p + 1)), near]))

    def feed(self, tokens):
        """Section 8.1: feeds one token [L] to each of the first L lanes; vectors q [L, d] and scales [L, 1] before the head."""
        w, scale = self.model.matrices, self.model.scales
        p = self.position
        self.here, self.far = self.rotary.angles(p), self.rotary.angles(min(p, self.window + self.sinks - 1))
        self.all_slots, self.near_slots = self.seen(self.window), self.seen(min(self.window, self.config.get("near_window", 1)))
        x = f32(w["embed"][tokens]) * scale["embed"][tokens, None]
        for i in range(self.config["layers"]):
            q, s = norm(x, self.eps)
            q, s = self.attention(i, product(w[f"{i}.qkv"], q), s)
            x = x + (f32(product(w[f"{i}.o"], q)) * scale[f"{i}.o"]) * s
            q, s = norm(x, self.eps)
            g, u = np.split((f32(product(w[f"{i}.gate_up"], q)) * scale[f"{i}.gate_up"]) * s, 2, axis=-1)
            q, m, _ = quantise(hadamard(feed_forward(g, u), self.config["ffn"]))
            x = x + (f32(product(w[f"{i}.down"], q)) * scale[f"{i}.down"]) * (m / f32(127))
        self.position += 1
        return norm(x, self.eps)

    def logits(self, q, s):
        """Section 8.8: logits [L, V]."""
        return (f32(product(self.model.matrices["head"], q)) * self.model.scales["head"]) * s

    def attention(self, layer, acc, s):
        """Section 8.5: acc [L, (H + 3G) h] of the layer's qkv and the norm's scale; q' [L, H h] and s' [L, 1]."""
        c, p, lanes = self.config, self.position, len(acc)
        H, G, h = c["heads"], c["kv_heads"], c["head_dim"]
        scale = self.model.scales[f"{layer}.qkv"]
        acc, s = f32(acc), s[:, None]  # s [L, 1, 1], for heads [L, H, h]
        queries = (acc[:, : H * h] * scale[: H * h]).reshape(lanes, H, h)
        keys = (acc[:, H * h : (H + G) * h] * scale[H * h : (H + G) * h]).reshape(lanes, G, h)
        high, low = acc[:, (H + G) * h : (H + 2 * G) * h], acc[:, (H + 2 * G) * h :]
        values = ((high * f32(128) + low) * scale[(H + G) * h :]).reshape(lanes, G, h)

        at = (layer, slice(lanes), slice(None), int(self.slots_of(np.int64(p))))
        self.K[at], ks = scale_head(rotate(keys, self.here), s)
        self.U[at], us = scale_head(values, s)
        self.ks[at], self.us[at] = ks[..., 0], us[..., 0]
        Q, qs = scale_head(rotate(queries, self.here), s, self.qfactor)
        sink_Q, sink_qs = scale_head(rotate(queries, self.far), s, self.qfactor)

        out = np.zeros((lanes, H, h), np.float32)
        for g in range(G):
            slots = self.near_slots if layer * G + g in self.near_heads else self.all_slots
            K, ks, U, us = (f32(part[layer, :lanes, g][:, slots]) for part in (self.K, self.ks, self.U, self.us))
            group, n = slice(g * (H // G), (g + 1) * (H // G)), min(self.sinks, p + 1)
            for_sinks = scores(sink_Q[:, group], sink_qs[:, group], K[:, :n], ks[:, :n])
            others = scores(Q[:, group], qs[:, group], K[:, n:], ks[:, n:])
            out[:, group] = mix(np.concatenate([for_sinks, others], axis=-1), us[:, None], U)
        q, m, _ = quantise(out.reshape(lanes, H * h))
        return q, m / f32(127)
