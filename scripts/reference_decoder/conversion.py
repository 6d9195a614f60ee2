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


def integer_tensors(config, weights):
    """Sections 9.2 and 9.3: all tensors of section 7.2, in the order of the digest. `weights(name)` gives those of section 9.1."""
    d, h, ffn = config["width"], config["head_dim"], config["ffn"]
    tensors = {}

    def read(gain, w):
        return turn(w * gain, d)

    def write(w):
        return turn_out(w, d)

    def put(name, parts, kind=np.int8):
        integers, scales = zip(*parts, strict=True)
        tensors[name] = np.concatenate(integers).astype(kind)
        tensors[f"{name}.scale"] = np.concatenate(scales)

    put("embed", [rows(turn(weights("embed"), d), 32767)], np.int16)
    head, scale = rows(read(weights("norm"), weights("head")), 127)
    put("head", [(head, scale * from_bits(0x3FB5E51E))])
    for i in range(config["layers"]):
        gain = weights(f"{i}.attn_norm")
        queries, keys = (rows(read(gain, weights(f"{i}.{name}")), 127) for name in "qk")
        v, scale = rows(read(gain, turn_out(weights(f"{i}.v"), h)), 16256)
        high = np.rint(v / f32(128))
        put(f"{i}.qkv", [queries, keys, (high, scale), (v - f32(128) * high, scale[:0])])
        put(f"{i}.o", [rows(write(turn(weights(f"{i}.o"), h)), 127)])
        gain = weights(f"{i}.ffn_norm")
        put(f"{i}.gate_up", [rows(read(gain, weights(f"{i}.{name}")), 127) for name in ("gate", "up")])
        put(f"{i}.down", [rows(write(turn(weights(f"{i}.down"), ffn)), 127)])
    return tensors
