"""Section 8: the predictor. All lanes of a step are at the same position, so they are computed together.

Integers up to 2^24 are exact in float32, and sums of them, in any order, as long as no partial sum exceeds 2^24. So the
products of sections 8.4 and 8.5 are left to float32 matrix products of numpy; `product` sees to it that they are short enough.
"""

import math

import numpy as np
from float32 import bits, f32, from_bits, hadamard, power_of_two, quantise
from rotary import Rotary, rotate

EXACT_TERMS = 1024  # 1024 products of integers up to 127 stay below 2^24


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
    return (g / gate_divisor(g, activation)) * u


def gate_divisor(g, activation):
    """Section 8.7: e * 2^n + 1."""
    t = g * from_bits(0xBFB8AA3B) if activation == "silu" else g * ((g * g) * from_bits(0xBDD2D3E8) + from_bits(0xC0135761))
    t = np.minimum(np.maximum(t, f32(-30)), f32(30))
    n = np.floor(t)
    f = t - n
    e = ((f * from_bits(0x3DA04B3C) + from_bits(0x3E67BCE4)) * f + from_bits(0x3F32075F)) * f + f32(1)
    return np.ldexp(e, n.astype(np.int32)) + f32(1)


def scale_head(y, s, factor=1):
    """Section 8.5, "scale y by factor": integers [..., h] and their scales [..., 1]."""
    q, m, _ = quantise(y)
    return q, ((m * s) / f32(127)) * f32(factor)


def scores(Q, qs, K, ks):
    """Section 8.5: u [L, heads, P] of queries Q [L, heads, h] that share keys K [L, P, h], with scales qs [L, heads, 1] and ks [L, P]."""
    return (f32(product(K, Q)) * ks[:, None]) * qs


def mix(u, us, U):
    """Section 8.5, softmax and output: scores u [..., P], scales us and integers U [..., P, h] of the P values seen. With M and N [..., 1]."""
    M = u.max(axis=-1, keepdims=True)
    a = power_of_two(np.maximum(u - M, f32(-30)), 145)
    N = f32(a.sum(axis=-1, keepdims=True))
    um = us.max(axis=-1, keepdims=True)
    r = f32(32767) / (N * um)
    w = np.rint((f32(a) * us) * r)
    return (w @ U) * (um / f32(32767)), M, N


class Predictor:
    """The predictors of all lanes of a block. State: of every layer, keys and values of the positions still seen.

    With corrections also what learning needs: `kept`, by the names of matrices, has what was computed at each position since it was emptied,
    and keys and values stay for the `segment` steps of a segment longer.
    """

    def __init__(self, model, window, sinks, all_heads_see_all, lanes, positions, corrections=None, segment=0):
        c = self.config = model.config
        self.model, self.window, self.corrections, self.kept = model, window, corrections, {}
        near_heads = [] if all_heads_see_all else c.get("near_heads", [])
        self.plain, self.eps = c.get("plain_stream", False), f32(float(c["norm_eps"]))
        self.qfactor = f32(1.4426950408889634 / math.sqrt(c["head_dim"]))
        self.position, self.sinks, self.segment = 0, sinks, segment
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
        shape = (c["layers"], lanes, G, min(positions, sinks + window + segment))
        self.K, self.U = (np.zeros((*shape, h), np.int8) for _ in range(2))
        self.ks, self.us = (np.zeros(shape, np.float32) for _ in range(2))

    def slots_of(self, j):
        """Where positions j are kept: sinks for good, others until W more have come, and those of a segment."""
        return np.where(j < self.sinks, j, self.sinks + (j - self.sinks) % (self.window + self.segment))

    def seen(self, window, sinks):
        """Section 8.5, what is seen: where the positions are kept that the query sees, sinks first."""
        p = self.position
        near = np.arange(max(sinks, p - window + 1), p + 1)
        return self.slots_of(np.concatenate([np.arange(min(sinks, p + 1)), near]))

    def kept_at(self, slots, layer, g, lanes):
        """K [L, P, h], ks [L, P], U [L, P, h] and us [L, P] of a key and value head, at P slots."""
        return [f32(part[layer, :lanes, g][:, slots]) for part in (self.K, self.ks, self.U, self.us)]

    def feed(self, tokens):
        """Section 8.1: feeds one token [L] to each of the first L lanes; vectors q [L, d] and scales [L, 1] before the head."""
        scale = self.model.scales
        x = f32(self.model.matrices["embed"][tokens]) * scale["embed"][tokens, None]
        for i in range(self.config["layers"]):
            q, s = self.reading(x, f"{i}.qkv")
            q, s = self.attention(i, self.product(f"{i}.qkv", q), s)
            before, x = x, x + self.output(f"{i}.o", q, s)
            q, s = self.reading(before if self.config.get("parallel") else x, f"{i}.gate_up")
            y = (f32(self.product(f"{i}.gate_up", q)) * scale[f"{i}.gate_up"]) * s
            y = y + self.model.vectors.get(f"{i}.gate_up.bias", f32(0))
            self.keep(f"{i}.halves", y=y)
            g, u = self.halves(y)
            q, m, _ = quantise(hadamard(feed_forward(g, u, self.config.get("activation", "silu")), self.config["ffn"]))
            x = x + self.output(f"{i}.down", q, m / f32(127))
        self.position += 1
        return self.reading(x, "head")

    def halves(self, y):
        """Section 8.7: g and u."""
        return np.split(y, 2, axis=-1) if self.config.get("gated", True) else (y, f32(1))

    def product(self, matrix, q):
        """Sections 8.4 and 8.10: acc of a matrix for q [L, columns], corrected."""
        acc = product(self.model.matrices[matrix], q)
        return self.corrections.corrected(matrix, q, acc) if self.corrections else acc

    def keep(self, name, **values):
        """Section 8.11: keeps values [L, ...] of this position, if there is something to learn."""
        if self.corrections:
            self.kept.setdefault(name, []).append(values)

    def reading(self, x, matrix):
        """Section 8.3: the same as `read`, and kept."""
        q, s = self.read(x, matrix)
        self.keep(matrix, x=x, q=q.astype(np.int8), s=s)
        return q, s

    def read(self, x, matrix):
        """Section 8.3: what a matrix reads of the residual stream x [L, d]: integers [L, d] and scales [L, 1]."""
        if not self.plain:
            return norm(x, self.eps)
        gain = self.model.vectors.get(f"{matrix}.norm")
        q, m, _ = quantise(hadamard(x if gain is None else x * gain, x.shape[-1]))
        return q, (m if gain is None else m * norm_factor(x, f32(1), self.eps)) / f32(127)

    def output(self, matrix, q, s):
        """Section 8.6: what is added to the residual stream, [L, d]."""
        y = f32(self.product(matrix, q)) * self.model.scales[matrix]
        gain, bias = (self.model.vectors.get(f"{matrix}.{kind}") for kind in ("norm", "bias"))
        y = y if bias is None else y + bias * (f32(1) / s)
        self.keep(matrix, y=y, q=q.astype(np.int8), s=s)
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
            t = norm_factor(together, s[:, : together.shape[1]], self.eps)
            self.keep(f"{layer}.{gain}", z=together, t=t)
            s = np.broadcast_to(t, (lanes, n, 1))
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

        out, M, N = (np.zeros((lanes, H, n), np.float32) for n in (h, 1, 1))
        for g, (window, sinks) in enumerate(self.spans[layer]):
            K, ks, U, us = self.kept_at(self.seen(window, sinks), layer, g, lanes)
            group, n = slice(g * (H // G), (g + 1) * (H // G)), min(sinks, p + 1)
            for_sinks = scores(sink_Q[:, group], sink_qs[:, group], K[:, :n], ks[:, :n])
            others = scores(Q[:, group], qs[:, group], K[:, n:], ks[:, n:])
            out[:, group], M[:, group], N[:, group] = mix(np.concatenate([for_sinks, others], axis=-1), us[:, None], U)
        self.keep(f"{layer}.attention", Q=Q.astype(np.int8), qs=qs, M=M, N=N)
        q, m, _ = quantise(out.reshape(lanes, H * h))
        return q, m / f32(127)
