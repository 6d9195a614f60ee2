"""Section 9.6: GPT-NeoX. Its norms subtract the mean and have biases, and of a head only the first values turn."""

from decimal import Decimal, localcontext

import numpy as np


def folded(weights):
    """The weights of section 9.1, from those that files have."""

    def read(name):
        layer, dot, part = name.rpartition(".")
        matrix = part.removesuffix("_bias")
        if part == "embed":
            return centred(weights(name).T).T
        if matrix in ("o", "down"):
            return centred(weights(name))
        if part == matrix:
            return weights(name)
        norm = {"up": "ffn_norm", "head": "norm"}.get(matrix, "attn_norm")
        w, beta = (weights(layer + dot + other).astype(np.float64) for other in (matrix, f"{norm}_bias"))
        total = np.zeros(len(w))
        for j in range(w.shape[1]):
            total = total + w[:, j] * beta[j]
        return (total if matrix == "head" else total + weights(name)).astype(np.float32)

    return read


def centred(w):
    """w without the means of its columns."""
    total = np.zeros(w.shape[1:])
    for row in w:
        total = total + row
    return (w - total / len(w)).astype(np.float32)


def turned_partly(base, h, turning, divisors):
    """Members of the configuration for heads of size h, of which `turning` values turn with these divisors, which may be none."""
    if turning == h:
        return {"rope_base": base} | ({"rope_divisors": divisors} if divisors else {})
    with localcontext() as context:
        context.prec = 90
        larger = float(Decimal(base) ** (Decimal(h) / Decimal(turning)))
    return {"rope_base": larger, "rope_divisors": (divisors or [1.0] * (turning // 2)) + [0.0] * ((h - turning) // 2)}


def part_of_head(part, w, config):
    """The rows of a folder's tensor that are a part: those of queries, keys and values lie in one, head by head."""
    name = part.removesuffix("_bias")
    if name not in ("q", "k", "v"):
        return w
    w = w.reshape(config["heads"], 3, config["head_dim"], *w.shape[1:])[:, "qkv".index(name)]
    w = w.reshape(-1, *w.shape[2:])
    return w if name == "v" else ordered(w, config)


def ordered(w, config):
    """Rows of queries or keys, so that those which turn are pairs (i, i + h/2)."""
    h = config["head_dim"]
    r = 2 * sum(d != 0 for d in config["rope_divisors"]) if "rope_divisors" in config else h
    order = [*range(r // 2), *range(r, (r + h) // 2), *range(r // 2, r), *range((r + h) // 2, h)]
    return w.reshape(-1, h, *w.shape[1:])[:, order].reshape(w.shape)
