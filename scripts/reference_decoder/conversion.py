"""Section 9: from float weights to the integer model."""

import numpy as np
from float32 import f32, from_bits, hadamard


def turn(w, run):
    """Every row of w transformed, in runs of B(run)."""
    return hadamard(w, run)


def turn_out(w, run):
    """Every column of w transformed."""
    return np.ascontiguousarray(turn(np.ascontiguousarray(w.T), run).T)


def rows(w, top):
    """Integers and scales of the rows of w."""
    scale = np.maximum(np.abs(w).max(axis=1) / f32(top), f32(2.0**-40))
    return np.clip(np.rint(w / scale[:, None]), -top, top), scale


def integer_tensors(config, weights, factors):
    """Sections 9.2 and 9.3: all tensors of section 7.2, in the order of the digest. `weights(name)` gives those of section 9.1."""
    c, d, h, ffn = config, config["width"], config["head_dim"], config["ffn"]
    halves = ("gate", "up") if c.get("gated", True) else ("up",)
    rotated, normed = not c.get("plain_stream", False), c.get("head_norm", "")
    by = {name: f32(float(factor)) for name, factor in factors.items()}
    tensors, one = {}, f32(1.0)

    def read(gain, w):
        return turn(w * weights(gain) if rotated else w, d)

    def write(w):
        return turn_out(w, d) if rotated else w

    def put(name, parts, factor, kind=np.int8):
        integers, scales = zip(*parts, strict=True)
        tensors[name] = np.concatenate(integers).astype(kind)
        tensors[f"{name}.scale"] = np.concatenate(scales) * factor

    embed = weights("embed")
    put("embed", [rows(turn(embed, d) if rotated else embed, 32767)], by["embed"], np.int16)
    put("head", [rows(read("norm", weights("head")), 127)], from_bits(0x3FB5E51E))
    tensors["head.scale"] = tensors["head.scale"] * by["logits"]
    if not rotated:
        tensors["head.norm"] = weights("norm")
    if c.get("biases"):
        tensors["head.bias"] = (weights("head_bias") * from_bits(0x3FB5E51E)) * by["logits"]
    for i in range(c["layers"]):
        queries, keys = (rows(read(f"{i}.attn_norm", weights(f"{i}.{name}")), 127) for name in "qk")
        if not normed:
            queries = queries[0], queries[1] * by["score"]
        v, scale = rows(read(f"{i}.attn_norm", turn_out(weights(f"{i}.v"), h)), 16256)
        high = np.rint(v / f32(128))
        put(f"{i}.qkv", [queries, keys, (high, scale), (v - f32(128) * high, scale[:0])], one)
        put(f"{i}.o", [rows(write(turn(weights(f"{i}.o"), h)), 127)], by["residual"])
        put(f"{i}.gate_up", [rows(read(f"{i}.ffn_norm", weights(f"{i}.{name}")), 127) for name in halves], one)
        put(f"{i}.down", [rows(write(turn(weights(f"{i}.down"), ffn)), 127)], by["residual"])
        if c.get("qkv_bias"):
            q, k, v = (weights(f"{i}.{name}_bias") for name in "qkv")
            tensors[f"{i}.qkv.bias"] = np.concatenate([q if normed else q * by["score"], k, turn(v, h)])
        if normed:
            tensors |= {f"{i}.q_norm": weights(f"{i}.q_norm") * by["score"], f"{i}.k_norm": weights(f"{i}.k_norm")}
        if not rotated and c.get("pre_norm", True):
            tensors |= {f"{i}.qkv.norm": weights(f"{i}.attn_norm"), f"{i}.gate_up.norm": weights(f"{i}.ffn_norm")}
        if c.get("post_norm"):
            after = {f"{i}.o.norm": weights(f"{i}.attn_post_norm"), f"{i}.down.norm": weights(f"{i}.ffn_post_norm")}
            tensors |= {name: gain * by["residual"] for name, gain in after.items()}
        if c.get("biases"):
            tensors[f"{i}.o.bias"] = weights(f"{i}.o_bias") * by["residual"]
            tensors[f"{i}.gate_up.bias"] = np.concatenate([weights(f"{i}.{name}_bias") for name in halves])
            tensors[f"{i}.down.bias"] = weights(f"{i}.down_bias") * by["residual"]
    return tensors
