"""Sections 8.10 and 8.11: corrections, and how they are learned while decoding. Arrays of rows [rows, ...] have one row for each symbol of a segment."""

import numpy as np
from float32 import f32, from_bits, hadamard, power_of_two, quantise
from predictor import gate_divisor, norm_factor, product, scores
from rotary import rotate_back

VALUES, GATE_UP, DOWN = 1, 2, 4
LARGE, SMALL = f32(2.0**60), f32(2.0**-60)


def signs(ranks, n):
    """Section 8.10: sign(r, k) for r < ranks and k < n."""
    r, k = np.ogrid[:ranks, :n]
    h = (r * 2**20 + k + 1).astype(np.uint64) * 0x9E3779B1 % 2**32
    h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
    h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
    h = h ^ h >> 16
    return np.where(h % 2 == 0, f32(1), f32(-1))


class Corrections:
    """Section 8.10: B [R, n] by the names of the matrices that are corrected."""

    def __init__(self, model, ranks, matrices):
        c, self.B, self.signs = model.config, {}, {}
        columns = {
            "qkv": c["kv_heads"] * c["head_dim"] if matrices & VALUES else 0,
            "gate_up": len(model.scales["0.gate_up"]) if matrices & GATE_UP else 0,
            "down": c["width"] if matrices & DOWN else 0,
        }
        for i in range(c["layers"]):
            self.B |= {f"{i}.{name}": np.zeros((ranks, n), np.float32) for name, n in columns.items() if n}
        for n in {c["width"], c["ffn"]}:
            self.signs[n] = signs(ranks, n)

    def z(self, q):
        """z(r) of integers q [..., columns]."""
        return f32(product(self.signs[q.shape[-1]], q.astype(np.float32)))

    def corrected(self, matrix, q, acc):
        """acc with what is added; of `qkv` to the low parts of values, which are its last rows."""
        if matrix not in self.B:
            return acc
        B, z = self.B[matrix], self.z(q)
        total = z[:, :1] * B[0]
        for r in range(1, len(B)):
            total = total + z[:, r : r + 1] * B[r]
        acc = acc.astype(np.float64)  # whole numbers, beyond 2^24
        acc[:, -B.shape[1] :] += np.rint(np.minimum(np.maximum(total, f32(-(2.0**23))), f32(2.0**23)))
        return acc


def ordered_sum(y):
    """Section 8.11: ORDERED SUM of y [..., n], [..., 1]."""
    n = y.shape[-1]
    y = np.concatenate([y, np.zeros((*y.shape[:-1], -n % 16), np.float32)], axis=-1)
    t = y[..., :16]
    for at in range(16, n, 16):
        t = t + y[..., at : at + 16]
    for half in (8, 4, 2, 1):
        t = t[..., :half] + t[..., half : 2 * half]
    return t


def unnorm(D, y, f):
    """Section 8.11, unnorm."""
    t = (ordered_sum(D * y) * (f * f)) / f32(y.shape[-1])
    return (D - y * t) * f


def limit(X):
    """Section 8.11, limit."""
    return np.where(np.abs(X) <= LARGE, X, f32(0))


def back(E, w):
    """Section 8.11, back: of E [rows, n] through the matrix w [n, columns]."""
    q, m, _ = quantise(limit(E))
    return f32(product(w.T, q)) * (m / f32(127))


def feed_forward_gradients(T, g, u, activation):
    """Section 8.11, step 3: the gradients of g and u."""
    a = f32(1) / gate_divisor(g, activation)
    v = f32(1) if activation == "silu" else ((g * g) * from_bits(0xBE9E1EEE) + from_bits(0xC0135761)) * from_bits(0xBF317218)
    return (T * u) * (a * (f32(1) + (g * (f32(1) - a)) * v)), T * (g * a)


def weights_and_scores(O, out, Q, qs, M, N, K, ks, U, us):  # noqa: E741
    """Section 8.11, step 6: P and S [L, heads, P] of queries [L, heads, h] that share the keys and values [L, P, h] that they reach. O [L, heads, h] are
    the gradients of the output `out`."""
    P = f32(power_of_two(np.maximum(scores(Q, qs, K, ks) - M, f32(-30)), 145)) / N
    q, m, _ = quantise(O)
    return P, (P * ((f32(product(U, q)) * us[:, None]) * (m / f32(127)) - ordered_sum(O * out))) * from_bits(0x3F317218)


class Learning:
    """Section 8.11: what a segment leaves, and the updates of the corrections."""

    def __init__(self, predictor, pace, lanes):
        self.predictor, self.corrections, self.model = predictor, predictor.corrections, predictor.model
        self.config, self.lanes, self.steps = predictor.config, lanes, predictor.segment
        self.rate = {"qkv": f32(pace) / f32(8), "gate_up": f32(pace) / f32(1024), "down": f32(pace) / f32(1024)}
        self.e = {name: np.zeros_like(B) for name, B in self.corrections.B.items()}
        self.symbols, self.updates = 0, 0
        self.of_head = []  # D of each symbol of the segment, in the order of section 6.2

    def note(self, s, w):
        """Section 8.11, drawn tokens and the head: the gradient D of what the head read for symbol s, from the weights w that it was coded under."""
        unit, begin = int(w.sum()) // 2048, self.symbols * 40503 // 1024 % 64
        drawn = np.searchsorted(np.cumsum(w), (64 * np.arange(32) + begin) * unit, side="right")
        D = np.zeros(self.config["width"], np.float32)
        if s < self.config["vocab"]:
            for token in drawn:
                D = D + self.head_row(token)
            D = D - self.head_row(s) * f32(32)
        self.of_head.append(D)
        self.symbols += 1

    def head_row(self, token):
        """Section 8.11: H(t)."""
        return self.model.matrices["head"][token] * self.model.scales["head"][token]

    def end_of_step(self):
        """After the last step of a segment all corrections are updated."""
        if len(self.of_head) == self.steps * self.lanes:
            self.updates += 1
            self.update()
            self.of_head.clear()
            self.predictor.kept.clear()

    def update(self):
        """Section 8.11: from the head to the first layer."""
        D = np.stack(self.of_head).reshape(self.steps, self.lanes, -1).swapaxes(0, 1)
        X = self.unread("head", D.reshape(len(self.of_head), -1))
        for i in reversed(range(self.config["layers"])):
            X = self.layer(i, X)

    def rows(self, name):
        """What was kept at the positions of the segment, [rows, ...]: lane by lane."""
        return {key: part.reshape(-1, *part.shape[2:]) for key, part in self.by_lane(name).items()}

    def by_lane(self, name):
        """The same, [L, steps, ...]."""
        kept = self.predictor.kept[name]
        return {key: np.stack([values[key] for values in kept], axis=1) for key in kept[0]}

    def unread(self, matrix, D):
        """Section 8.11, unread."""
        kept, plain, d = self.rows(matrix), self.predictor.plain, self.config["width"]
        if not plain:
            return unnorm(D, kept["x"], quantise(kept["x"])[2] * kept["s"])
        D, gain = hadamard(D, d), self.model.vectors.get(f"{matrix}.norm")
        return D if gain is None else unnorm(D * gain, kept["x"], norm_factor(kept["x"], f32(1), self.predictor.eps))

    def ungive(self, matrix, X):
        """Section 8.11, ungive."""
        kept, gain = self.rows(matrix), self.model.vectors.get(f"{matrix}.norm")
        return X * kept["s"] if gain is None else unnorm(X * gain, kept["y"], norm_factor(kept["y"], kept["s"], self.predictor.eps))

    def layer(self, i, X):
        """Section 8.11, steps 1 to 8: the gradient of the stream before a layer, from the one after it; None before the first layer."""
        w, scale, parallel = self.model.matrices, self.model.scales, self.config.get("parallel", False)
        Y = self.ungive(f"{i}.down", X)
        T = back(Y * scale[f"{i}.down"], w[f"{i}.down"]) * (f32(1) / self.rows(f"{i}.down")["s"])
        self.learn(f"{i}.down", Y)

        g, u = self.predictor.halves(self.rows(f"{i}.halves")["y"])
        of_g, of_u = feed_forward_gradients(hadamard(T, self.config["ffn"]), g, u, self.config.get("activation", "silu"))
        Y = np.concatenate([of_g, of_u], axis=-1) if self.config.get("gated", True) else of_g
        P = self.unread(f"{i}.gate_up", back(Y * scale[f"{i}.gate_up"], w[f"{i}.gate_up"]))
        self.learn(f"{i}.gate_up", Y * self.rows(f"{i}.gate_up")["s"])

        after = X if parallel else limit(X + P)
        Y = self.ungive(f"{i}.o", after)
        O = limit(back(Y * scale[f"{i}.o"], w[f"{i}.o"]) * (f32(1) / self.rows(f"{i}.o")["s"]))  # noqa: E741
        *of_heads, of_values = self.attention(i, O)
        self.learn(f"{i}.qkv", of_values * self.rows(f"{i}.qkv")["s"])
        if i == 0:
            return None
        of_queries, of_keys = (self.unturned(i, y, gain) for y, gain in zip(of_heads, ("q_norm", "k_norm"), strict=True))
        Y = np.concatenate([of_queries, of_keys, of_values], axis=-1)
        c = scale[f"{i}.qkv"][: Y.shape[1]].copy()
        c[-of_values.shape[1] :] *= f32(128)
        before = self.unread(f"{i}.qkv", back(Y * c, w[f"{i}.qkv"][: Y.shape[1]]))
        return limit((X + P) + before) if parallel else limit(after + before)

    def attention(self, layer, O):  # noqa: E741
        """Section 8.11, steps 6 and 7: the gradients of queries [rows, H h], still turned, keys [rows, G h], still turned, and values [rows, G h], from O
        [rows, H h]."""
        H, G, h, lanes, steps = self.config["heads"], self.config["kv_heads"], self.config["head_dim"], self.lanes, self.steps
        kept, result = self.by_lane(f"{layer}.attention"), self.by_lane(f"{layer}.o")
        kept |= {"O": O.reshape(lanes, steps, H, h), "out": (f32(result["q"]) * result["s"]).reshape(lanes, steps, H, h)}
        of_queries, of_keys, of_values = (np.zeros((lanes, steps, n, h), np.float32) for n in (H, G, G))
        begin = self.predictor.position - steps
        for g, (window, sinks) in enumerate(self.predictor.spans[layer]):
            group = slice(g * (H // G), (g + 1) * (H // G))
            for i in range(steps):
                reached = np.arange(max(sinks, begin + i - min(window, 1024) + 1), begin + i + 1)
                if not len(reached):
                    continue
                K, ks, U, us = self.predictor.kept_at(self.predictor.slots_of(reached), layer, g, lanes)
                of_row = {name: f32(part[:, i, group]) for name, part in kept.items()}
                P, S = weights_and_scores(K=K, ks=ks, U=U, us=us, **of_row)
                q, m, _ = quantise(limit(S * ks[:, None]))
                of_queries[:, i, group] = (f32(product(K.swapaxes(1, 2), q)) * (m / f32(127))) * self.predictor.qfactor

                own = reached[reached >= begin]  # those of the segment, the last ones
                rows, queries = own - begin, of_row["Q"] * of_row["qs"]
                for a in range(H // G):
                    of_values[:, rows, g] += P[:, a, -len(own) :, None] * of_row["O"][:, None, a]
                    of_keys[:, rows, g] += S[:, a, -len(own) :, None] * queries[:, None, a]
        return [y.reshape(lanes * steps, -1) for y in (of_queries, of_keys, of_values)]

    def unturned(self, layer, y, gain):
        """Section 8.11, step 8: the gradients [rows, n h] of queries or keys before they turn and before their norm, whose gains are named."""
        h, normed = self.config["head_dim"], self.config.get("head_norm", "")
        y = y.reshape(self.lanes, self.steps, -1, h)
        if self.config.get("spread_heads"):
            y = hadamard(y, h)
        angles = [self.predictor.rotary[layer].angles(self.predictor.position - self.steps + i) for i in range(self.steps)]
        y = rotate_back(y, [np.stack(part)[:, None] for part in zip(*angles, strict=True)]).reshape(self.lanes * self.steps, -1)
        if not normed:
            return y
        kept = self.rows(f"{layer}.{gain}")
        y = y * np.resize(self.model.vectors[f"{layer}.{gain}"], y.shape[1])
        y = unnorm(y.reshape(kept["z"].shape), kept["z"], kept["t"]).reshape(y.shape)
        return y * (f32(1) / self.rows(f"{layer}.qkv")["s"])

    def learn(self, matrix, Y):
        """Section 8.11, collection and step: updates the B of a matrix."""
        if matrix not in self.corrections.B:
            return
        B, e, t = self.corrections.B[matrix], self.e[matrix], f32(self.updates)
        z, g = self.corrections.z(self.rows(matrix)["q"]), np.zeros_like(B)
        for row in range(len(Y)):
            g = g + z[row, :, None] * Y[row]
        g = limit(g)
        g = np.where(np.abs(g) < SMALL, f32(0), g)
        e += g * g
        v = e / t
        mean = ordered_sum(v.reshape(-1)) / f32(v.size)
        slow = np.sqrt(f32(1) + t / f32(15))
        div = (np.sqrt(v) + from_bits(0x3DCCCCCD) * np.sqrt(mean)) * slow
        B -= self.rate[matrix.partition(".")[2]] * (g / np.maximum(div, SMALL))
