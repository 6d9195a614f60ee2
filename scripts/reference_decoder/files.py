"""Section 9.4: models from GGUF files, and from folders with config.json, tokenizer.json and *.safetensors."""

import hashlib
import json
import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import tokenizer
from predictor import PI

GGUF_NAMES = {
    "attn_norm": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "ffn_norm": "ffn_norm",
    "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down", "embed": "token_embd", "norm": "output_norm", "head": "output",
}  # fmt: skip
HF_NAMES = {
    "attn_norm": "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "gate": "mlp.gate_proj", "up": "mlp.up_proj",
    "down": "mlp.down_proj", "embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head",
}  # fmt: skip


@dataclass
class Source:
    """A model as its files give it. `weights(name)` is a float32 array named as in section 9.1, `{layer}.q` and so on."""

    config: dict
    weights: Callable[[str], np.ndarray]
    tokenizer: dict  # section 5.3
    sha256: str = ""  # of a GGUF file


def read_model(path):
    """The model in a GGUF file or a folder. Files that are not as expected raise OSError, KeyError, ValueError and the like."""
    path = Path(path)
    return read_folder(path) if path.is_dir() else read_gguf(path)


def read_folder(path):
    """A folder as on a hub: Llama weights under their usual names."""
    settings = json.loads((path / "config.json").read_text("utf-8"))
    rope = (settings.get("rope_parameters") or {}) | (settings.get("rope_scaling") or {})
    biases = settings.get("attention_bias") or settings.get("mlp_bias")
    if settings["model_type"] != "llama" or biases or settings.get("hidden_act", "silu") != "silu":
        raise ValueError("config.json asks for more than a plain Llama")
    heads = settings["num_attention_heads"]
    config = {
        "layers": settings["num_hidden_layers"],
        "width": settings["hidden_size"],
        "heads": heads,
        "kv_heads": settings.get("num_key_value_heads") or heads,
        "head_dim": settings.get("head_dim") or settings["hidden_size"] // heads,
        "ffn": settings["intermediate_size"],
        "vocab": settings["vocab_size"],
        "rope_base": float(settings.get("rope_theta") or rope.get("rope_theta") or 10000.0),
        "norm_eps": float(np.float32(settings.get("rms_norm_eps", 1e-5))),
        "bos": first_token(settings.get("bos_token_id"), settings.get("eos_token_id")),
    }
    config |= divisors(config, rope)
    tensors = {}
    for file in sorted(path.glob("*.safetensors")):
        tensors |= safetensors(file)
    tied = settings.get("tie_word_embeddings") or "lm_head.weight" not in tensors

    def weights(name):
        layer, _, part = name.rpartition(".")
        if name == "head" and tied:
            part = "embed"
        return tensors[(f"model.layers.{layer}." if layer else "") + f"{HF_NAMES[part]}.weight"]()

    return Source(config, weights, tokenizer.of_folder(path, config["vocab"]))


def first_token(*numbers):
    """The first token that is given, of a list its first."""
    return next(n[0] if isinstance(n, list) else n for n in numbers if n is not None)


def divisors(config, rope):
    """Section 9.4: scaled positions, as a part of a configuration."""
    kind, h = rope.get("rope_type", rope.get("type", "default")), config["head_dim"]
    if kind == "default":
        return {}
    if kind == "linear":
        return {"rope_divisors": [float(np.float32(rope["factor"]))] * (h // 2)}
    if kind != "llama3":
        raise ValueError("config.json scales positions in a way that is not defined")
    f, a, b = (Decimal(rope[name]) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    found = []
    with localcontext() as context:
        context.prec = 90
        for i in range(h // 2):
            t = Decimal(rope["original_max_position_embeddings"]) / (2 * PI * Decimal(config["rope_base"]) ** (Decimal(2 * i) / Decimal(h)))
            k = min(max((t - a) / (b - a), Decimal(0)), Decimal(1))
            found.append(float(np.float32(float(1 / ((1 - k) / f + k)))))
    return {"rope_divisors": found}


def safetensors(path):
    """Functions that give the tensors of a .safetensors file as float32, by name."""
    data = mapped(path)
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)

    def tensor(kind, shape, begin):
        return plain(kind, data, 8 + size + begin, math.prod(shape)).reshape(shape)

    return {name: lambda t=t: tensor(t["dtype"], t["shape"], t["data_offsets"][0]) for name, t in header.items()}


def mapped(path):
    """The bytes of a file, read as needed."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def plain(kind, data, offset, count):
    """`count` elements of a plain type, as float32."""
    if kind == "BF16":
        return (np.frombuffer(data, "<u2", count, offset).astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, {"F32": "<f4", "F16": "<f2"}[kind], count, offset).astype(np.float32)


def read_gguf(path):
    """A GGUF file."""
    data = mapped(path)
    metadata, tensors = gguf_header(data)
    setting = {key.removeprefix("llama."): value for key, value in metadata.items()}
    if metadata["general.architecture"] != "llama" or setting.get("rope.scaling.type", "none") != "none":
        raise ValueError("not a plain Llama")
    heads = setting["attention.head_count"]
    config = {
        "layers": setting["block_count"],
        "width": setting["embedding_length"],
        "heads": heads,
        "kv_heads": setting.get("attention.head_count_kv", heads),
        "head_dim": setting.get("attention.key_length", setting["embedding_length"] // heads),
        "ffn": setting["feed_forward_length"],
        "vocab": len(metadata["tokenizer.ggml.tokens"]),
        "rope_base": setting.get("rope.freq_base", 10000.0),
        "norm_eps": setting.get("attention.layer_norm_rms_epsilon", float(np.float32(1e-5))),
        "bos": first_token(metadata.get("tokenizer.ggml.bos_token_id"), metadata.get("tokenizer.ggml.eos_token_id")),
    }
    if "rope_freqs.weight" in tensors:
        shape, kind, offset = tensors["rope_freqs.weight"]
        config["rope_divisors"] = [float(x) for x in expand(kind, data, offset, math.prod(shape))]

    def weights(name):
        layer, _, part = name.rpartition(".")
        stored = (f"blk.{layer}." if layer else "") + f"{GGUF_NAMES[part]}.weight"
        if name == "head" and stored not in tensors:
            return weights("embed")
        shape, kind, offset = tensors[stored]
        w = expand(kind, data, offset, math.prod(shape)).reshape(shape)
        if part in ("q", "k"):  # from pairs (2i, 2i + 1) of a head to pairs (i, i + h/2)
            w = w.reshape(-1, config["head_dim"] // 2, 2, config["width"]).swapaxes(1, 2).reshape(shape)
        return w

    return Source(config, weights, tokenizer.of_gguf(metadata), hashlib.sha256(data).hexdigest())


def gguf_header(data):
    """Metadata, and shape, type and place of every tensor."""
    scalars = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    at = 0

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def string():
        nonlocal at
        size = take("Q")
        at += size
        return data[at - size : at].decode("utf-8")

    def value(kind):
        if kind == 8:
            return string()
        if kind == 9:
            element, count = take("IQ")
            return [value(element) for _ in range(count)]
        return take(scalars[kind])

    magic, version, tensor_count, metadata_count = take("4sIQQ")
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError("no GGUF file of version 2 or 3")
    metadata = {}
    for _ in range(metadata_count):
        key = string()
        metadata[key] = value(take("I"))
    found = {}
    for _ in range(tensor_count):
        name, dimensions = string(), take("I")
        shape = [take("Q") for _ in range(dimensions)][::-1]
        found[name] = (shape, *take("IQ"))
    alignment = metadata.get("general.alignment", 32)
    start = -(-at // alignment) * alignment
    return metadata, {name: (shape, kind, start + offset) for name, (shape, kind, offset) in found.items()}


def expand(kind, data, offset, count):
    """The elements of a tensor of a GGUF file, as float32."""
    if kind in (0, 1, 30):
        return plain({0: "F32", 1: "F16", 30: "BF16"}[kind], data, offset, count)
    if kind == 3:  # Q4_1: of 32 weights scale, minimum, and 16 bytes: low halves, then high halves
        blocks = np.frombuffer(data, [("scale", "<f2"), ("minimum", "<f2"), ("numbers", "u1", 16)], count // 32, offset)
        numbers = np.concatenate([blocks["numbers"] & 15, blocks["numbers"] >> 4], axis=1).astype(np.float32)
        return blocks["scale"].astype(np.float32)[:, None] * numbers + blocks["minimum"].astype(np.float32)[:, None]
    if kind == 8:  # Q8_0: of 32 weights scale and 32 signed bytes
        blocks = np.frombuffer(data, [("scale", "<f2"), ("numbers", "i1", 32)], count // 32, offset)
        return blocks["numbers"].astype(np.float32) * blocks["scale"].astype(np.float32)[:, None]
    raise ValueError(f"tensors of type {kind}")
