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
    """Section 8.3: integers q [L, d] and the scale [L, 1] of a rotated x [L, d]."""
    q, _, r = quantise(x)
    return q, inverse_root(f32(squares(q)) / f32(x.shape[-1]) + (r * r) * eps)


def norm_factor(y, s, eps):
    """Section 8.3: the factor [..., 1] that norms y [..., n], of which s [..., 1] is a scale still to be applied."""
    q, _, r = quantise(y, 1023)
    w = np.minimum(r * (f32(1) / s), f32(2.0**60))
    return r * inverse_root(f32(squares(q)) / f32(y.shape[-1]) + (w * w) * eps)


def squares(q):
    """Sums of squares of integers [..., n], whole numbers [..., 1]."""
    return np.sum(np.square(q.astype(np.float64)), axis=-1, keepdims=True)


def inverse_root(v):
    """Section 8.3: about 1 / sqrt(v)."""
    s = from_bits(0x5F3759DF - bits(v) // 2)
    half = f32(0.5) * v
    for _ in range(4):
        s = s * (f32(1.5) - half * (s * s))
    return s


def feed_forward(g, u, activation):
    """Section 8.7: y of the gate's and the other half's values, before the rotation."""
    t = g * from_bits(0xBFB8AA3B) if activation == "silu" else g * ((g * g) * from_bits(0xBDD2D3E8) + from_bits(0xC0135761))
    t = np.minimum(np.maximum(t, f32(-30)), f32(30))
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
        self.model, self.window = model, window
        near_heads = [] if all_heads_see_all else c.get("near_heads", [])
        self.plain, self.eps = c.get("plain_stream", False), f32(float(c["norm_eps"]))
        self.qfactor = f32(1.4426950408889634 / math.sqrt(c["head_dim"]))
        self.position, self.sinks = 0, sinks
        G, own = c["kv_heads"], c.get("layer_windows", [0] * c["layers"])
        fits = [0 < w <= window for w in own]
        near = min(window, c.get("near_window", window))
        self.spans = [  # window and sinks of each key head
            [(min(near if i * G + g in near_heads else window, own[i] if fits[i] else window), 0 if fits[i] else sinks) for g in range(G)]
            for i in range(c["layers"])
        ]
        h, divisors = c["head_dim"], c.get("rope_divisors", [1] * (c["head_dim"] // 2))
        usual, still = Rotary(c["rope_base"], h, divisors), Rotary(c["rope_base"], h, [0] * (h // 2))
        windowed = Rotary(c["window_rope_base"], h, [1] * (h // 2)) if "window_rope_base" in c else usual
        unrotated = c.get("unrotated_layers", [])
        self.rotary = [still if i in unrotated else windowed if own[i] else usual for i in range(c["layers"])]
        shape = (c["layers"], lanes, G, min(positions, sinks + window))
        self.K, self.U = (np.zeros((*shape, h), np.int8) for _ in range(2))
        self.ks, self.us = (np.zeros(shape, np.float32) for _ in range(2))

    def slots_of(self, j):
        """Where positions j are kept: sinks for good, others until W more have come."""
        return np.where(j < self.sinks, j, self.sinks + (j - self.sinks) % self.window)

    def seen(self, window, sinks):
        """Section 8.5, what is seen: where the positions are kept that the query sees, sinks first."""
        p = self.position
        near = np.arange(max(sinks, p - window + 1), p + 1)
        return self.slots_of(np.concatenate([np.arange(min(sinks, p + 1)), near]))

    def feed(self, tokens):
        """Section 8.1: feeds one token [L] to each of the first L lanes; vectors q [L, d] and scales [L, 1] before the head."""
        w, scale = self.model.matrices, self.model.scales
        x = f32(w["embed"][tokens]) * scale["embed"][tokens, None]
        for i in range(self.config["layers"]):
            q, s = self.read(x, f"{i}.qkv")
            q, s = self.attention(i, product(w[f"{i}.qkv"], q), s)
            before, x = x, x + self.output(f"{i}.o", q, s)
            q, s = self.read(before if self.config.get("parallel") else x, f"{i}.gate_up")
            y = (f32(product(w[f"{i}.gate_up"], q)) * scale[f"{i}.gate_up"]) * s
            y = y + self.model.vectors.get(f"{i}.gate_up.bias", f32(0))
            g, u = np.split(y, 2, axis=-1) if self.config.get("gated", True) else (y, f32(1))
            q, m, _ = quantise(hadamard(feed_forward(g, u, self.config.get("activation", "silu")), self.config["ffn"]))
            x = x + self.output(f"{i}.down", q, m / f32(127))
        self.position += 1
        return self.read(x, "head")

    def read(self, x, matrix):
        """Section 8.3: what a matrix reads of the residual stream x [L, d]: integers [L, d] and scales [L, 1]."""
        if not self.plain:
            return norm(x, self.eps)
        gain = self.model.vectors.get(f"{matrix}.norm")
        q, m, _ = quantise(hadamard(x if gain is None else x * gain, x.shape[-1]))
        return q, (m if gain is None else m * norm_factor(x, f32(1), self.eps)) / f32(127)

    def output(self, matrix, q, s):
        """Section 8.6: what is added to the residual stream, [L, d]."""
        y = f32(product(self.model.matrices[matrix], q)) * self.model.scales[matrix]
        gain, bias = (self.model.vectors.get(f"{matrix}.{kind}") for kind in ("norm", "bias"))
        y = y if bias is None else y + bias * (f32(1) / s)
        return y * s if gain is None else (y * gain) * norm_factor(y, s, self.eps)

    def unit(self, q, s):
        """Section 6.8: the scale [L, 1] of a vector q [L, d] before the head, whose scale there is s."""
        return inverse_root(f32(np.maximum(squares(q), 1)) / f32(q.shape[-1])) if self.plain else s

    def logits(self, q, s):
        """Section 8.8: logits [L, V]."""
        y = (f32(product(self.model.matrices["head"], q)) * self.model.scales["head"]) * s
        return y + self.model.vectors.get("head.bias", f32(0))

    def heads(self, acc, at, n, s, layer, gain):
        """Section 8.5: queries or keys before they turn, [L, n, h], and what is left to scale them by, [L, n, 1]. `at`: their rows of `qkv`."""
        y = f32(acc[:, at]) * self.model.scales[f"{layer}.qkv"][at]
        lanes, normed = len(acc), self.config.get("head_norm", "")
        y, s = self.biased(y, at, s, layer), np.broadcast_to(s[:, None], (lanes, n, 1))
        if normed:
            together = y.reshape(lanes, 1 if normed == "all" else n, -1)
            s = np.broadcast_to(norm_factor(together, s[:, : together.shape[1]], self.eps), (lanes, n, 1))
            y = y * np.resize(self.model.vectors[f"{layer}.{gain}"], y.shape[-1])
        return y.reshape(lanes, n, -1), s

    def biased(self, y, at, s, layer):
        """Section 8.5: y [L, n] with the biases of these rows, if there are any."""
        bias = self.model.vectors.get(f"{layer}.qkv.bias")
        return y if bias is None else y + bias[at] * (f32(1) / s)

    def turned(self, y, angles):
        """Section 8.5: rotated, and transformed if the model wants that."""
        y = rotate(y, angles)
        return hadamard(y, y.shape[-1]) if self.config.get("spread_heads") else y

    def attention(self, layer, acc, s):
        """Section 8.5: acc [L, (H + 3G) h] of the layer's qkv and the norm's scale; q' [L, H h] and s' [L, 1]."""
        c, p, lanes, rotary = self.config, self.position, len(acc), self.rotary[layer]
        H, G, h = c["heads"], c["kv_heads"], c["head_dim"]
        here, far = rotary.angles(p), rotary.angles(min(p, self.window + self.sinks - 1))
        values = slice((H + G) * h, (H + 2 * G) * h)
        queries, query_s = self.heads(acc, slice(H * h), H, s, layer, "q_norm")
        keys, key_s = self.heads(acc, slice(H * h, (H + G) * h), G, s, layer, "k_norm")
        y = (f32(acc[:, values]) * f32(128) + f32(acc[:, (H + 2 * G) * h :])) * self.model.scales[f"{layer}.qkv"][values]
        y = self.biased(y, values, s, layer).reshape(lanes, G, h)

        at = (layer, slice(lanes), slice(None), int(self.slots_of(np.int64(p))))
        self.K[at], ks = scale_head(self.turned(keys, here), key_s)
        self.U[at], us = scale_head(y, s[:, None])
        self.ks[at], self.us[at] = ks[..., 0], us[..., 0]
        Q, qs = scale_head(self.turned(queries, here), query_s, self.qfactor)
        sink_Q, sink_qs = scale_head(self.turned(queries, far), query_s, self.qfactor)

        out = np.zeros((lanes, H, h), np.float32)
        for g, (window, sinks) in enumerate(self.spans[layer]):
            slots = self.seen(window, sinks)
            K, ks, U, us = (f32(part[layer, :lanes, g][:, slots]) for part in (self.K, self.ks, self.U, self.us))
            group, n = slice(g * (H // G), (g + 1) * (H // G)), min(sinks, p + 1)
            for_sinks = scores(sink_Q[:, group], sink_qs[:, group], K[:, :n], ks[:, :n])
            others = scores(Q[:, group], qs[:, group], K[:, n:], ks[:, n:])
            out[:, group] = mix(np.concatenate([for_sinks, others], axis=-1), us[:, None], U)
        q, m, _ = quantise(out.reshape(lanes, H * h))
        return q, m / f32(127)
